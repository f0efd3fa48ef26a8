package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// resultCmd prints a stored result.
type resultCmd struct {
	natsFlags
	ID      string        `arg:"" name:"id" help:"Id of the request."`
	Wait    bool          `env:"-" help:"Wait for it."`
	Timeout time.Duration `help:"How long --wait waits." default:"1m"`
	MinRun  int           `name:"run" env:"-" help:"Take no result of an earlier run than this: runs above 1 are replays." default:"1" placeholder:"N"`
	History bool          `env:"-" help:"Print what happened to the job: every hop, call, verdict and rung."`
}

// Run prints the result, or says what is known instead.
func (c *resultCmd) Run(ctx context.Context, g *globals) error {
	if err := checkID(c.ID); err != nil {
		return err
	}
	if c.MinRun < 1 || c.Timeout <= 0 {
		return exit(exitUsage, "--run is at least 1, --timeout longer than zero")
	}
	conn, err := c.open(ctx, g, "result", broker.ResultsStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := c.find(ctx, conn)
	if err != nil {
		return err
	}
	r := &job.Result{}
	if err := json.Unmarshal(raw, r); err != nil {
		return fmt.Errorf("decode the result of %s: %w", c.ID, err)
	}
	return quiet(c.show(g, r, raw))
}

// find reads the result from the leader, or waits for it.
func (c *resultCmd) find(ctx context.Context, conn *broker.Conn) ([]byte, error) {
	if c.Wait {
		return c.await(ctx, conn)
	}
	stored, err := last(ctx, conn, broker.ResultsStream, broker.AnyTaskResult(c.ID))
	switch {
	case isNotFound(err):
		return nil, c.missing(ctx, conn)
	case err != nil:
		return nil, err
	}
	if run := broker.RunOf(stored.Header); run < c.MinRun {
		return nil, exit(exitNotFound, "run %d of %s has no result yet, run %d has (--wait waits)", c.MinRun, c.ID, run)
	}
	return stored.Data, nil
}

func (c *resultCmd) await(ctx context.Context, conn *broker.Conn) ([]byte, error) {
	results, err := newCollector(ctx, conn, broker.AnyTaskResult(c.ID), c.Timeout)
	if err != nil {
		return nil, err
	}
	defer results.close()
	results.expect(awaited{id: c.ID, run: c.MinRun})
	results.begin(c.ID, true)
	select {
	case a := <-results.arrivals:
		if errors.Is(a.err, errNoResult) {
			return nil, c.missing(ctx, conn)
		}
		return a.raw, a.err
	case <-ctx.Done():
		return nil, exit(exitInterrupted, "stopped waiting; what is acknowledged goes on")
	}
}

func (c *resultCmd) show(g *globals, r *job.Result, raw []byte) error {
	switch {
	case g.cli.JSON && c.History:
		for _, e := range r.History {
			if err := g.printJSON(e); err != nil {
				return err
			}
		}
	case g.cli.JSON:
		if err := g.printRaw(raw); err != nil {
			return err
		}
	default:
		if err := g.showResult(r); err != nil {
			return err
		}
		if c.History {
			fmt.Fprintln(g.stdout)
			if err := g.showHistory(r.History); err != nil {
				return err
			}
		}
	}
	return unanswered(r)
}

// missing says what is known of an id without a result: under way, overdue, expired, or nothing.
func (c *resultCmd) missing(ctx context.Context, conn *broker.Conn) error {
	looking, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	m, _, err := conn.Marker(looking, c.ID)
	if isNotFound(err) {
		return exit(exitNotFound, "nothing is known of %s: it was never acknowledged, or its records expired%s", c.ID, c.queued(ctx, conn))
	}
	if err != nil {
		return exit(exitNotFound, "no result of %s is stored, and whether it is under way cannot be told here: %w", c.ID, err)
	}
	now := time.Now()
	text := fmt.Sprintf("%s (task %s, run %d)", c.ID, m.Task, m.Run)
	since := fmt.Sprintf("since %s (%s)", m.AcknowledgedAt.Local().Format(time.DateTime), span(now.Sub(m.AcknowledgedAt)))
	switch {
	case now.Before(m.Deadline):
		return exit(exitNotFound, "%s is admitted and in progress %s; its deadline is in %s (--wait waits)", text, since, span(m.Deadline.Sub(now)))
	case now.After(m.Deadline.Add(c.kept(ctx, conn))):
		return exit(exitNotFound, "the result of %s expired: its deadline was %s ago", text, span(now.Sub(m.Deadline)))
	}
	return exit(exitNotFound, "%s is admitted %s and has no result, though its deadline passed %s ago: it is overdue (`spillway broker check` says which stage is missing), or its result made room for newer ones", text, since, span(now.Sub(m.Deadline)))
}

// kept is how long results are kept.
func (c *resultCmd) kept(ctx context.Context, conn *broker.Conn) time.Duration {
	if s, err := conn.JS.Stream(ctx, broker.ResultsStream); err == nil && s.CachedInfo().Config.MaxAge > 0 {
		return s.CachedInfo().Config.MaxAge
	}
	return broker.DefaultSizing().ResultAge
}

// queued says that requests wait for admission: the id may be one of theirs.
func (c *resultCmd) queued(ctx context.Context, conn *broker.Conn) string {
	var n uint64
	for _, stream := range []string{broker.RequestsStream, broker.BatchStream} {
		if s, err := conn.JS.Stream(ctx, stream); err == nil {
			n += s.CachedInfo().State.Msgs
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; or it waits for admission (%s in the queue: `spillway broker check`)", count(int(n), "request"))
}
