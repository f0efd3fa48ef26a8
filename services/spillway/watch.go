package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// watchBuffer is how many messages may wait for a slow terminal before some are dropped, aloud.
const watchBuffer = 8192

// watchCmd follows results.
type watchCmd struct {
	natsFlags
	Task     string `env:"-" help:"Only those of this task."`
	ID       string `name:"id" env:"-" help:"Only those of this id." placeholder:"ID"`
	Progress bool   `help:"Show progress too: an event a hop."`
	Drafts   bool   `help:"Show the drafts of requests that asked for them too."`
	Count    int    `env:"-" help:"End after this many results; 0: at Ctrl-C." placeholder:"N"`
}

// Run prints a line a result until ctx ends.
func (c *watchCmd) Run(ctx context.Context, g *globals) error {
	task, id := "*", "*"
	if c.Task != "" {
		task = c.Task
		if err := checkToken("task", task); err != nil {
			return err
		}
	}
	if c.ID != "" {
		id = c.ID
		if err := checkID(id); err != nil {
			return err
		}
	}
	conn, err := c.connect(g, "watch")
	if err != nil {
		return err
	}
	defer conn.Close()
	messages := make(chan *nats.Msg, watchBuffer)
	subjects := []string{broker.ResultSubject(task, id)}
	if c.Progress {
		subjects = append(subjects, broker.ProgressSubject(task, id))
	}
	if c.Drafts {
		subjects = append(subjects, broker.DeltaSubject(task, id))
	}
	for _, subject := range subjects {
		if _, err := conn.NC.ChanSubscribe(subject, messages); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	if err := flush(ctx, conn); err != nil {
		return fmt.Errorf("subscribe to %s: %w", strings.Join(subjects, ", "), err)
	}
	g.note("watching %s (Ctrl-C ends)", strings.Join(subjects, ", "))
	return quiet(c.follow(ctx, g, messages))
}

func (c *watchCmd) follow(ctx context.Context, g *globals, messages <-chan *nats.Msg) error {
	for seen := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case m := <-messages:
			if err := g.watched(m); err != nil {
				return err
			}
			if isResult(m) {
				seen++
			}
			if c.Count > 0 && seen == c.Count {
				return nil
			}
		}
	}
}

func isResult(m *nats.Msg) bool {
	return m.Subject == broker.ResultSubject(broker.Token(m.Subject, 2), broker.Token(m.Subject, 3))
}

// watched prints one message.
func (g *globals) watched(m *nats.Msg) error {
	if g.cli.JSON {
		return g.printRaw(m.Data)
	}
	var line string
	switch {
	case isDraft(m):
		d := &job.Draft{}
		if err := json.Unmarshal(m.Data, d); err != nil {
			return fmt.Errorf("decode the draft on %s: %w", m.Subject, err)
		}
		if line = draftLine(d, time.Now()); line == "" {
			return nil
		}
	case isResult(m):
		r := &job.Result{}
		if err := json.Unmarshal(m.Data, r); err != nil {
			return fmt.Errorf("decode the result on %s: %w", m.Subject, err)
		}
		line = r.FinishedAt.Local().Format(time.TimeOnly) + "  " + brief(r)
	default:
		p := &stage.Progress{}
		if err := json.Unmarshal(m.Data, p); err != nil {
			return fmt.Errorf("decode the progress on %s: %w", m.Subject, err)
		}
		line = p.At.Local().Format(time.TimeOnly) + "  " + step(p)
	}
	_, err := fmt.Fprintln(g.stdout, line)
	return err
}

// step is a progress event in one line.
func step(p *stage.Progress) string {
	what := p.Event
	if what == "" || what == "result" {
		what = p.Stage
		if p.To != "" {
			what += " -> " + p.To
		}
	}
	parts := []string{"  ", what, p.Task, p.ID}
	if p.Run > 1 {
		parts = append(parts, fmt.Sprintf("run %d", p.Run))
	}
	if reason := strings.TrimSpace(p.Fate + " " + string(p.Code)); reason != "" {
		parts = append(parts, reason)
	}
	if p.Status != "" {
		parts = append(parts, string(p.Status))
	}
	if p.Message != "" {
		parts = append(parts, p.Message)
	}
	if wait := time.Until(p.NotBefore); !p.NotBefore.IsZero() && wait > 0 {
		parts = append(parts, "in "+span(wait))
	}
	return oneLine(strings.Join(parts, "  "))
}
