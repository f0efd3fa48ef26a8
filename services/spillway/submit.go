package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/schema"
)

// submitCmd publishes requests as any NATS client can, and waits for their results.
type submitCmd struct {
	natsFlags
	Task  string `arg:"" help:"Name of the task."`
	Input string `arg:"" optional:"" name:"JSON|-" help:"The input as JSON. Without it, or with -, standard input is read: one input a line. Results then carry {\"line\": n} as metadata."`

	Request     bool          `env:"-" help:"The argument, or each line, is a whole request: {\"input\": …, \"session\": …}."`
	ID          string        `name:"id" env:"-" help:"Id of the request, [A-Za-z0-9_-]{1,64}; default: a new ULID." placeholder:"ID"`
	Session     string        `env:"-" help:"Conversation that the request belongs to."`
	Deadline    string        `env:"-" help:"How long the answer may take, from the acknowledgement; default: the task's." placeholder:"30s"`
	Batch       bool          `help:"Use the batch lane."`
	Tenant      string        `help:"Label of the tenant."`
	CacheBypass bool          `help:"Take no answer from the cache, and leave none there."`
	Stream      bool          `env:"-" help:"Show the answer while the model writes it, as unchecked drafts; of a single request."`
	Wait        bool          `env:"-" help:"Wait for the result." default:"true" negatable:""`
	Timeout     time.Duration `help:"How long a result is waited for. The request goes on after it." default:"2m"`
	InFlight    int           `help:"How many lines of standard input may be without a result at once." default:"256" placeholder:"N"`
}

// Run publishes and waits.
func (c *submitCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	conn, err := c.open(ctx, g, "submit", broker.ResultsStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Input == "" || c.Input == "-" {
		return quiet(c.runLines(ctx, g, conn))
	}
	return quiet(c.runOne(ctx, g, conn))
}

func (c *submitCmd) check() error {
	if err := checkToken("task", c.Task); err != nil {
		return err
	}
	fromStdin := c.Input == "" || c.Input == "-"
	switch {
	case c.ID != "" && !job.IsID(c.ID):
		return checkID(c.ID)
	case c.ID != "" && fromStdin:
		return exit(exitUsage, "--id is for a single request; lines with ids of their own are whole requests: --request")
	case c.Stream && (fromStdin || c.Request || !c.Wait):
		return exit(exitUsage, "--stream is for a single input whose result is waited for; a whole request says \"stream\": true, and drafts are on %s", broker.DeltaSubject(c.Task, "<id>"))
	case c.Request && (c.Session != "" || c.Deadline != "" || c.Tenant != "" || c.CacheBypass):
		return exit(exitUsage, "with --request the body says all: put session, deadline, tenant and cache into it")
	case c.Timeout <= 0:
		return exit(exitUsage, "--timeout is longer than zero; --no-wait waits for nothing")
	case c.InFlight < 1:
		return exit(exitUsage, "--in-flight is at least 1")
	}
	return nil
}

// badInput is what is wrong with an input, not with the pipeline.
type badInput struct{ error }

func badf(format string, args ...any) error { return badInput{fmt.Errorf(format, args...)} }

func isBadInput(err error) bool {
	_, ok := errors.AsType[badInput](err)
	return ok
}

// request makes a request of the argument, or of a line of standard input (from 1; 0: the argument).
func (c *submitCmd) request(text []byte, line int) (request, error) {
	if _, err := schema.Decode(text); err != nil {
		return request{}, badf("not JSON: %w", err)
	}
	q := request{task: c.Task, lane: job.Interactive, id: c.ID, own: c.ID != "", session: c.Session, line: line, body: text}
	if c.Batch {
		q.lane = job.Batch
	}
	if c.Request {
		if err := q.readBody(); err != nil {
			return request{}, err
		}
	} else if err := c.wrap(&q); err != nil {
		return request{}, err
	}
	if q.id == "" {
		q.id = ulid.Make().String()
	}
	return q, nil
}

// wrap puts an input into a request.
func (c *submitCmd) wrap(q *request) error {
	whole := job.Request{Input: q.body, Session: c.Session, Deadline: c.Deadline, Tenant: c.Tenant, Stream: c.Stream}
	if c.CacheBypass {
		whole.Cache = job.CacheBypass
	}
	return q.wrap(whole)
}

// runOne publishes the argument.
func (c *submitCmd) runOne(ctx context.Context, g *globals, conn *broker.Conn) error {
	q, err := c.request([]byte(c.Input), 0)
	if err != nil {
		return exit(exitUsage, "the argument is %w; a text needs quotes of its own: '\"…\"'", err)
	}
	s := newSender(conn)
	if c.Wait {
		s.results, err = newCollector(ctx, conn, broker.ResultSubject(q.task, q.id), c.Timeout)
		if err != nil {
			return err
		}
		defer s.results.close()
	}
	var drafts chan *nats.Msg
	if c.Stream {
		if drafts, err = draftsOf(conn, q.task, q.id); err != nil {
			return err
		}
	}
	publishing, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := s.send(publishing, q); err != nil {
		if ctx.Err() != nil {
			return exit(exitInterrupted, "stopped before its acknowledgement came; if it was stored, the request stays acknowledged: `spillway result %s --wait` prints its result", q.id)
		}
		return err
	}
	if !c.Wait {
		return g.receipt(q)
	}
	return c.await(ctx, g, s, q, drafts)
}

// receipt says that a request is acknowledged.
func (g *globals) receipt(q request) error {
	if g.cli.JSON || q.line > 0 {
		return g.printJSON(struct {
			job.Receipt
			Line int `json:"line,omitempty"`
		}{job.Receipt{ID: q.id, Status: "acknowledged", ResultSubject: broker.ResultSubject(q.task, q.id)}, q.line})
	}
	_, err := fmt.Fprintf(g.stdout, "acknowledged  %s\n`spillway result %s --wait` prints its result\n", q.id, q.id)
	return err
}

// hintAfter is when the waiting person is told that nobody works.
const hintAfter = 3 * time.Second

// await prints the result of a single request.
func (c *submitCmd) await(ctx context.Context, g *globals, s *sender, q request, drafts <-chan *nats.Msg) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hint := make(chan string, 1)
	go func() {
		if sleep(ctx, hintAfter) == nil {
			hint <- nobodyPulls(ctx, s.conn, q.lane)
		}
	}()
	sketch := &sketch{g: g}
	defer sketch.clear()
	for {
		select {
		case a := <-s.results.arrivals:
			if err := sketch.rest(drafts); err != nil {
				return err
			}
			return g.arrived(a, c.Timeout)
		case m := <-drafts:
			if err := sketch.take(m.Data); err != nil {
				return err
			}
		case why := <-hint:
			if why != "" {
				sketch.clear()
				g.note("still waiting: %s", why)
			}
		case <-ctx.Done():
			return exit(exitInterrupted, "stopped waiting; the request stays acknowledged: `spillway result %s --wait` prints its result", q.id)
		}
	}
}

// arrived prints one awaited result, or says why there is none.
func (g *globals) arrived(a arrival, timeout time.Duration) error {
	switch {
	case errors.Is(a.err, errNoResult):
		return exit(exitNotFound, "no result of %s within %s; the request goes on: `spillway result %s --wait` prints its result, `spillway broker check` says who works", a.id, timeout, a.id)
	case a.err != nil:
		return a.err
	}
	if g.cli.JSON {
		if err := g.printRaw(a.raw); err != nil {
			return err
		}
	} else if err := g.showResult(a.result); err != nil {
		return err
	}
	return unanswered(a.result)
}

// nobodyPulls says that no ingest asks for requests of a lane; "": one does, or it cannot be told.
func nobodyPulls(ctx context.Context, conn *broker.Conn, lane string) string {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stream, consumer := broker.RequestsStream, broker.Ingest
	if lane == job.Batch {
		stream, consumer = broker.BatchStream, broker.BatchIngestConsumer
	}
	c, err := conn.JS.Consumer(ctx, stream, consumer)
	if err != nil {
		return ""
	}
	if info := c.CachedInfo(); info.NumWaiting > 0 || info.NumAckPending > 0 || info.NumPending == 0 {
		return ""
	}
	return "no ingest takes requests (is `spillway up` running? `spillway broker check` says who works)"
}
