package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// taskWarmCmd has inputs answered before somebody asks, so that their answers are in the cache.
type taskWarmCmd struct {
	natsFlags
	schemasFlag
	Name     string        `arg:"" help:"Name of the task."`
	File     string        `env:"-" help:"File with one input a line, in JSON; -: standard input. Default: the task's warm.jsonl; of a task without one, what is fed to standard input." placeholder:"FILE"`
	Tenant   string        `help:"Label of the tenant: its requests alone find the answers, unless the task says cache.scope: everyone."`
	Renew    bool          `env:"-" help:"Call for every input, also for those whose answer is still fresh."`
	Deadline time.Duration `env:"-" help:"How long an answer may take; default: a day, as for every batch request." placeholder:"1h"`
	Timeout  time.Duration `help:"How long a result is waited for. The request goes on after it." default:"10m"`
	InFlight int           `help:"How many inputs may be without a result at once." default:"64" placeholder:"N"`
}

// Run publishes the inputs, awaits their results and looks whether they are kept.
func (c *taskWarmCmd) Run(ctx context.Context, g *globals) error {
	set, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	t, ok := set.Tasks[c.Name]
	if !ok {
		return exit(exitNotFound, "there is no task %q; there are %s", c.Name, strings.Join(namesOf(set), ", "))
	}
	if err := c.check(t); err != nil {
		return err
	}
	in, from, total, err := c.inputs(t)
	if err != nil {
		return err
	}
	defer in.Close()
	conn, err := c.open(ctx, g, "warm", broker.ResultsStream, broker.CacheStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := mayLook(ctx, conn); err != nil {
		return err
	}
	w := &warming{
		c: c, g: g, t: t, simulated: set.Simulated().Tasks[c.Name],
		sums: newWarmSums(), settled: make(chan warmed, c.InFlight), sent: map[string]int{},
	}
	w.feed = newFeed(newSender(conn), c.InFlight, w.request)
	w.announce(from)
	w.bar = g.newGauge(total, "warming "+c.Name)
	return quiet(w.run(ctx, in))
}

func (c *taskWarmCmd) check(t *task.Task) error {
	switch {
	case c.Timeout <= 0 || c.Deadline < 0:
		return exit(exitUsage, "--timeout and --deadline are longer than zero")
	case c.InFlight < 1:
		return exit(exitUsage, "--in-flight is at least 1")
	case t.Cache.Serve == task.ServeNever:
		return exit(exitUsage, "the answers of %s are not kept (cache.serve: never): write `cache: {serve: fresh, fresh_for: 24h}` in its task.yaml, and restart the pipeline", t.Name)
	case t.Cache.Keep <= 0:
		return exit(exitUsage, "the answers of %s are not kept (cache.keep is 0): write `cache: {keep: 168h}` in its task.yaml, and restart the pipeline", t.Name)
	}
	return nil
}

// inputs are the lines to be answered, where they are from, and how many there are; total -1: not known yet.
// Standard input does not go before warm.jsonl: a pipe that a scheduler leaves open would never end.
func (c *taskWarmCmd) inputs(t *task.Task) (in io.ReadCloser, from string, total int, err error) {
	switch {
	case c.File == "-", c.File == "" && len(t.Warm) == 0 && isFed(os.Stdin):
		return io.NopCloser(os.Stdin), "the inputs on standard input", -1, nil
	case c.File != "":
		f, err := os.Open(c.File)
		if err != nil {
			return nil, "", 0, exit(exitUsage, "--file: %w", err)
		}
		return f, "the inputs in " + c.File, -1, nil
	case len(t.Warm) == 0:
		return nil, "", 0, exit(exitUsage, "the task %s has no warm.jsonl: give inputs in JSON, one a line, with --file or on standard input", t.Name)
	}
	return io.NopCloser(bytes.NewReader(t.WarmFile())), fmt.Sprintf("%s of the task's warm.jsonl (--file - reads standard input instead)", count(len(t.Warm), "input")), len(t.Warm), nil
}

// isFed reports whether somebody gives a file or a pipe: a terminal and /dev/null are no inputs.
func isFed(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice == 0
}

// mayLook fails before the first call is paid for when this user could not see what is kept.
func mayLook(ctx context.Context, conn *broker.Conn) error {
	nobodys := ulid.Make().String()
	for stream, subject := range map[string]string{broker.CacheStream: broker.CacheSubject(nobodys), broker.AdmittedStream: broker.AdmittedSubject(nobodys)} {
		if _, err := last(ctx, conn, stream, subject); err != nil && !isNotFound(err) {
			return fmt.Errorf("look whether answers are kept, which takes the rights of an operator: %w", err)
		}
	}
	return nil
}

// announce says, before anything is paid for, what is read and what the answers will be good for.
func (w *warming) announce(from string) {
	whose := "requests without a tenant"
	switch {
	case w.t.Cache.Scope == task.ScopeEveryone:
		whose = "requests of every tenant"
	case w.c.Tenant != "":
		whose = "requests of the tenant " + w.c.Tenant
	}
	w.g.note("warming %s with %s, for %s", w.t.Name, from, whose)
	w.g.note("the answers are %s", outlook(w.t))
	if w.t.Cache.Serve == task.ServeFallback {
		w.g.note("cache.serve is fallback: every input costs a call, each time; with `cache: {serve: fresh}` kept answers are served in place of a call")
	}
	if w.t.Context.Session != task.SessionNone {
		w.g.note("a request with a session finds them only while nothing is remembered of it")
	}
}

// duplicate is a line whose answer is that of an earlier one.
type duplicate struct {
	key string
	of  int
}

func (d *duplicate) Error() string { return fmt.Sprintf("the same as line %d", d.of) }

// request makes a request of a line. What is rejected costs no call, so that each such line is sent and named.
func (w *warming) request(text []byte, line int) (request, error) {
	input, err := schema.Decode(text)
	if err != nil {
		return request{}, badf("not JSON: %w", err)
	}
	if w.t.Input == nil || len(w.t.Input.Validate(input)) == 0 {
		key, _ := w.t.StandIns(w.c.Tenant, "", input)
		if before, sent := w.sent[key]; sent {
			return request{}, &duplicate{key, before}
		}
		w.sent[key] = line
	}
	whole := job.Request{Input: text, Tenant: w.c.Tenant, Cache: job.CacheAllow}
	if w.c.Renew {
		whole.Cache = job.CacheRenew
	}
	if w.c.Deadline > 0 {
		whole.Deadline = w.c.Deadline.String()
	}
	q := request{task: w.t.Name, lane: job.Batch, id: ulid.Make().String(), line: line}
	return q, q.wrap(whole)
}
