package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// deadReplayCmd orders new runs of dead, failed or degraded jobs.
type deadReplayCmd struct {
	natsFlags
	deadPick
	Model       string        `help:"Let this model (a name in models.yaml) answer instead of the task's." env:"-" placeholder:"NAME"`
	TaskVersion string        `help:"Replay under this version of the task, one of those that are stored, instead of the live one; task ls --versions lists them." env:"-" placeholder:"HASH"`
	Rate        orderRate     `help:"How many are ordered a second or a minute; 0: as fast as it goes." default:"20/s" placeholder:"N/s"`
	Wait        bool          `env:"-" help:"Wait for the new results."`
	Timeout     time.Duration `help:"How long --wait waits for each." default:"2m"`
}

// orderRate is a number of orders a second.
type orderRate struct{ rate.Limit }

// UnmarshalText reads 20/s, 100/m, 20 (a second) and 0 (no bound).
func (r *orderRate) UnmarshalText(text []byte) error {
	number, unit, _ := strings.Cut(string(text), "/")
	n, err := strconv.ParseFloat(number, 64)
	per, known := map[string]float64{"": 1, "s": 1, "m": 60, "min": 60}[unit]
	if err != nil || !known || !(n >= 0) {
		return fmt.Errorf("a rate is a number a second or a minute, like 20/s or 100/m, not %q", text)
	}
	r.Limit = rate.Limit(n / per)
	if n == 0 {
		r.Limit = rate.Inf
	}
	return nil
}

// Run orders the replays, or shows what it would order.
func (c *deadReplayCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return exit(exitUsage, "--timeout is longer than zero")
	}
	conn, err := c.open(ctx, g, "dead", broker.DeadStream, broker.StageStream(broker.Fallback))
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := c.pick(ctx, conn)
	if err != nil {
		return err
	}
	list = newestOfEach(list)
	for _, id := range without(c.IDs, list) {
		list = append(list, &letter{id: id})
	}
	if c.DryRun {
		return quiet(c.preview(ctx, g, conn, list))
	}
	return quiet(c.replay(ctx, g, conn, list))
}

// check lets a filter do without --all: unlike what is removed, what is replayed is not gone.
func (c *deadReplayCmd) check() error {
	p := c.deadPick
	switch {
	case len(p.IDs) == 0 && !p.isEmpty():
		p.All = true
	case len(p.IDs) == 0 && !p.All && !p.DryRun:
		return exit(exitUsage, "name ids, or filters like --degraded or --since 2h, or say --all (--dry-run shows what that is)")
	}
	return p.check()
}

// newestOfEach keeps one letter an id: fallback replays the newest.
func newestOfEach(list []*letter) []*letter {
	last := map[string]uint64{}
	for _, l := range list {
		last[l.id] = max(last[l.id], l.sequence)
	}
	kept := list[:0:0]
	for _, l := range list {
		if l.sequence == last[l.id] {
			kept = append(kept, l)
		}
	}
	return kept
}

// overrides is the body of the order; nil: none.
func (c *deadReplayCmd) overrides() ([]byte, error) {
	if c.Model == "" && c.TaskVersion == "" {
		return nil, nil
	}
	return json.Marshal(struct {
		Model       string `json:"model,omitempty"`
		TaskVersion string `json:"task_version,omitempty"`
	}{c.Model, c.TaskVersion})
}

// refused is why a job is not replayed, in the words of the table of codes.
type refused struct {
	code    fate.Code
	message string
}

// refusalOf reads what decides from the leader, as fallback will: nil when nothing speaks against a new run
// of the letter's job.
func refusalOf(ctx context.Context, conn *broker.Conn, l *letter) (*refused, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if l.sequence == 0 {
		return notDead(ctx, conn, l.id)
	}
	if l.Job == nil || l.Job.Minimal {
		return &refused{fate.NotReplayable, "the dead letter holds no job with an input"}, nil
	}
	stored, err := conn.Last(ctx, broker.ResultsStream, broker.ResultSubject(l.task, l.id))
	switch {
	case isNotFound(err):
	case err != nil:
		return nil, err
	default:
		status := job.Status(stored.Header.Get(broker.StatusHeader))
		if status != job.Degraded && status != job.Failed {
			return &refused{fate.NotReplayable, fmt.Sprintf("run %d ended as %s", broker.RunOf(stored.Header), status)}, nil
		}
	}
	m, _, err := conn.Marker(ctx, l.id)
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	if err == nil && m.Run > l.run() {
		return &refused{fate.ReplayInFlight, fmt.Sprintf("run %d is under way", m.Run)}, nil
	}
	return nil, nil
}

// notDead says why an id without a dead letter cannot be replayed.
func notDead(ctx context.Context, conn *broker.Conn, id string) (*refused, error) {
	m, _, err := conn.Marker(ctx, id)
	if isNotFound(err) {
		return &refused{fate.NotFound, "nothing is known of this id: it was never acknowledged, or its records expired"}, nil
	}
	if err != nil {
		return nil, err
	}
	r, _, err := conn.Result(ctx, m.Task, id)
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	if r == nil || r.Run < m.Run {
		return &refused{fate.ReplayInFlight, fmt.Sprintf("run %d is under way", m.Run)}, nil
	}
	return &refused{fate.NotReplayable, fmt.Sprintf("run %d ended as %s, and no dead letter is kept of it", r.Run, r.Status)}, nil
}

// preview prints what would be ordered, and the sum.
func (c *deadReplayCmd) preview(ctx context.Context, g *globals, conn *broker.Conn, list []*letter) error {
	var good []*letter
	usd, calls, bad := 0.0, 0, 0
	for _, l := range list {
		no, err := refusalOf(ctx, conn, l)
		if err != nil {
			return err
		}
		if no != nil {
			bad++
			if err := g.refusedLine(l, no); err != nil {
				return err
			}
			continue
		}
		good = append(good, l)
		usd, calls = usd+l.Job.CostUSD, calls+l.Job.Usage.Calls
		if g.cli.JSON {
			row := l.row()
			row["event"] = "would_replay"
			if err := g.printJSON(row); err != nil {
				return err
			}
		}
	}
	if g.cli.JSON {
		return g.printJSON(map[string]any{"event": "sum", "would_replay": len(good), "refused": bad, "last_runs_calls": calls, "last_runs_cost_usd": usd})
	}
	if len(good) > 0 {
		if err := g.showLetters(good); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(g.stdout, "%s would be replayed (their last runs took %s, $%.5f), %d refused\n", count(len(good), "job"), count(calls, "call"), usd, bad)
	return err
}

// refusedLine says that a job is not replayed.
func (g *globals) refusedLine(l *letter, no *refused) error {
	if g.cli.JSON {
		return g.printJSON(map[string]any{"event": "refused", "id": l.id, "task": l.task, "code": no.code, "message": no.message})
	}
	_, err := fmt.Fprintf(g.stdout, "%s  refused: %s\n", l.id, oneLine(no.message))
	return err
}
