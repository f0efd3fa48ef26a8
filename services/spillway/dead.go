package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/services"
)

// deadCmd deals with dead letters.
type deadCmd struct {
	Ls     deadLsCmd     `cmd:"" help:"List dead letters, the newest last, or count them."`
	Show   deadShowCmd   `cmd:"" help:"Show one dead letter with its history."`
	Replay deadReplayCmd `cmd:"" help:"Give dead, failed or degraded jobs a new run."`
	Rm     deadRmCmd     `cmd:"" help:"Remove dead letters for good."`
}

// deadFilter picks dead letters. The zero value picks all.
type deadFilter struct {
	Task      []string      `env:"-" help:"Only those of these tasks."`
	Stage     []string      `env:"-" help:"Only those of these stages."`
	Code      []string      `env:"-" help:"Only those with these error codes."`
	OlderThan time.Duration `env:"-" help:"Only those older than this." placeholder:"1h"`
	Since     time.Duration `env:"-" help:"Only those younger than this." placeholder:"24h"`
	Degraded  *bool         `env:"-" help:"Only those whose client got a degraded answer; --no-degraded: only those that got none." negatable:""`
}

func (f deadFilter) isEmpty() bool {
	return len(f.Task)+len(f.Stage)+len(f.Code) == 0 && f.OlderThan == 0 && f.Since == 0 && f.Degraded == nil
}

// check refuses what would silently pick nothing.
func (f deadFilter) check() error {
	for _, t := range f.Task {
		if err := checkToken("task", t); err != nil {
			return err
		}
	}
	var stages, codes []string
	for _, d := range services.Pipeline() {
		stages = append(stages, d.Name)
	}
	for _, d := range fate.Codes() {
		codes = append(codes, string(d.Code))
	}
	for _, s := range f.Stage {
		if !slices.Contains(stages, s) {
			return exit(exitUsage, "there is no stage %q; they are %s", s, strings.Join(stages, ", "))
		}
	}
	for _, c := range f.Code {
		if !slices.Contains(codes, c) {
			return exit(exitUsage, "there is no code %q; they are %s", c, strings.Join(codes, ", "))
		}
	}
	if f.OlderThan < 0 || f.Since < 0 {
		return exit(exitUsage, "--older-than and --since are durations above zero")
	}
	return nil
}

// subjects are what the broker can pick by.
func (f deadFilter) subjects() []string {
	stages, tasks := f.Stage, f.Task
	if len(stages) == 0 {
		stages = []string{"*"}
	}
	if len(tasks) == 0 {
		tasks = []string{"*"}
	}
	var subjects []string
	for _, s := range stages {
		for _, t := range tasks {
			subjects = append(subjects, broker.DeadSubject(s, t, "*"))
		}
	}
	slices.Sort(subjects)
	return slices.Compact(subjects)
}

// letters calls each for every picked dead letter, the oldest first.
func (f deadFilter) letters(ctx context.Context, conn *broker.Conn, each func(*letter) error) error {
	return readLetters(ctx, conn, f.subjects(), f.Since, func(l *letter) error {
		switch {
		case f.OlderThan > 0 && time.Since(l.stored) < f.OlderThan:
			return errEnough // what follows is younger still
		case len(f.Code) > 0 && !slices.Contains(f.Code, string(l.Code)):
			return nil
		case f.Degraded != nil && *f.Degraded != l.Degraded:
			return nil
		}
		return each(l)
	})
}

// deadLsCmd lists dead letters.
type deadLsCmd struct {
	natsFlags
	deadFilter
	limitFlag
	By string `env:"-" help:"Print counts instead: by code, task or stage." enum:",code,task,stage" default:""`
}

// Run prints a table, or JSON lines.
func (c *deadLsCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := c.checkLimit(); err != nil {
		return err
	}
	conn, err := c.open(ctx, g, "dead", broker.DeadStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.By != "" {
		return quiet(c.counts(ctx, g, conn))
	}
	l := listing[*letter]{
		what: "dead letters", by: "code", limit: c.Limit, show: g.showLetters,
		read: func(each func(*letter) error) error { return c.letters(ctx, conn, each) },
	}
	return quiet(l.print(g))
}

// showLetters prints letters as a table.
func (g *globals) showLetters(list []*letter) error {
	t := newTable(g.stdout, "age", "task", "id", "stage", "code", "run", "degraded", "message")
	for _, l := range list {
		degraded := "-"
		if l.Degraded {
			degraded = "yes"
		}
		t.row(span(time.Since(l.stored)), l.task, l.id, l.Stage, l.Code, l.run(), degraded, job.Cut(l.Message, 100))
	}
	return t.flush()
}

func (c *deadLsCmd) counts(ctx context.Context, g *globals, conn *broker.Conn) error {
	sums := map[string]int{}
	err := c.letters(ctx, conn, func(l *letter) error {
		sums[map[string]string{"code": string(l.Code), "task": l.task, "stage": l.Stage}[c.By]]++
		return nil
	})
	if err != nil {
		return err
	}
	keys := make([]string, 0, len(sums))
	for k := range sums {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if n := sums[b] - sums[a]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	t := newTable(g.stdout, c.By, "letters")
	for _, k := range keys {
		if g.cli.JSON {
			if err := g.printJSON(map[string]any{"by": c.By, "key": k, "count": sums[k]}); err != nil {
				return err
			}
			continue
		}
		t.row(k, sums[k])
	}
	if g.cli.JSON {
		return nil
	}
	return t.flush()
}
