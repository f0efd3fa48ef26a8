package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/client"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// cancelTimeout bounds the wait for the cancelled result, and for the answer to the order.
const cancelTimeout = 10 * time.Second

// cancelCmd ends runs from outside.
type cancelCmd struct {
	natsFlags
	IDs []string `arg:"" name:"id" help:"Ids of the requests."`
}

// Run cancels each id and says which result came first: the cancellation or the run's own.
func (c *cancelCmd) Run(ctx context.Context, g *globals) error {
	for _, id := range c.IDs {
		if err := checkID(id); err != nil {
			return err
		}
	}
	conn, err := c.open(ctx, g, "cancel", broker.ResultsStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	failed := 0
	var last error
	for _, id := range c.IDs {
		err := c.cancel(ctx, g, conn, id)
		if ctx.Err() != nil {
			return err
		}
		if err == nil {
			continue
		}
		failed, last = failed+1, err
		if len(c.IDs) > 1 {
			g.note("%s", err)
		}
	}
	if failed > 0 && len(c.IDs) > 1 {
		return exit(codeOf(last), "%d of %s not cancelled", failed, count(len(c.IDs), "id"))
	}
	return quiet(last)
}

// runOf is the newest run of an id, as far as this user may know.
func runOf(ctx context.Context, conn *broker.Conn, id string) int {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if m, _, err := conn.Marker(ctx, id); err == nil {
		return m.Run
	}
	return 1
}

// codeOf is the exit code of an error.
func codeOf(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return exitFailed
}

func (c *cancelCmd) cancel(ctx context.Context, g *globals, conn *broker.Conn, id string) error {
	results, err := newCollector(ctx, conn, broker.AnyTaskResult(id), cancelTimeout)
	if err != nil {
		return err
	}
	defer results.close()
	run := runOf(ctx, conn, id)
	asking, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	receipt, err := client.New(conn).Cancel(asking, id)
	switch {
	case err != nil:
		return err
	case receipt.Error != nil && receipt.Error.Code == fate.NotFound:
		return exit(exitNotFound, "%s: %s (a request that waits for admission cannot be cancelled yet)", id, receipt.Error.Message)
	case receipt.Error != nil:
		return fmt.Errorf("cancel %s: %s: %s", id, receipt.Error.Code, receipt.Error.Message)
	}
	results.expect(awaited{id: id, task: broker.Token(receipt.ResultSubject, 2), run: run})
	results.begin(id, true)
	select {
	case a := <-results.arrivals:
		if errors.Is(a.err, errNoResult) {
			return exit(exitNotFound, "%s is marked as cancelled, but no result is stored after %s: no result-writer may be running (`spillway broker check`)", id, cancelTimeout)
		}
		if a.err != nil {
			return a.err
		}
		return g.cancelled(a, receipt.Status == "cancelling")
	case <-ctx.Done():
		return exit(exitInterrupted, "stopped waiting; %s is marked as cancelled", id)
	}
}

// cancelled says which result an id has now. underWay: it had none when it was cancelled.
func (g *globals) cancelled(a arrival, underWay bool) error {
	if g.cli.JSON {
		return g.printRaw(a.raw)
	}
	text := "cancelled"
	switch {
	case a.result.Status == job.Cancelled && !underWay:
		text = "was cancelled before"
	case a.result.Status != job.Cancelled && underWay:
		text = fmt.Sprintf("not cancelled: its own result came first (%s)", a.result.Status)
	case a.result.Status != job.Cancelled:
		text = fmt.Sprintf("not cancelled: it had ended as %s", a.result.Status)
	}
	_, err := fmt.Fprintf(g.stdout, "%s  %s\n", a.id, text)
	return err
}
