package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	Task      []string      `help:"Only those of these tasks."`
	Stage     []string      `help:"Only those of these stages."`
	Code      []string      `help:"Only those with these error codes."`
	OlderThan time.Duration `help:"Only those older than this." placeholder:"1h"`
	Since     time.Duration `help:"Only those younger than this." placeholder:"24h"`
	Degraded  *bool         `help:"Only those whose client got a degraded answer; --no-degraded: only those that got none." negatable:""`
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
			return exit(exitUsage, "there is no stage %q; they are %s", s, join(stages))
		}
	}
	for _, c := range f.Code {
		if !slices.Contains(codes, c) {
			return exit(exitUsage, "there is no code %q; they are %s", c, join(codes))
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

func (f deadFilter) picks(l *letter) bool {
	switch {
	case len(f.Code) > 0 && !slices.Contains(f.Code, string(l.Code)):
		return false
	case f.OlderThan > 0 && time.Since(l.stored) < f.OlderThan:
		return false
	}
	return f.Degraded == nil || *f.Degraded == l.Degraded
}

// letter is what a list shows of a dead letter: not its prompts and inputs.
type letter struct {
	Stage    string    `json:"stage"`
	Code     fate.Code `json:"code"`
	Message  string    `json:"message"`
	Degraded bool      `json:"degraded"`
	Job      *struct {
		Run     int       `json:"run"`
		Usage   job.Usage `json:"usage"`
		CostUSD float64   `json:"cost_usd"`
	} `json:"job"`

	id, task string
	sequence uint64
	stored   time.Time
}

func (l *letter) run() int {
	if l.Job == nil {
		return 0
	}
	return max(l.Job.Run, 1)
}

// row is a letter as --json lists it.
func (l *letter) row() map[string]any {
	row := map[string]any{
		"id": l.id, "task": l.task, "stage": l.Stage, "code": l.Code, "message": l.Message, "run": l.run(),
		"degraded": l.Degraded, "at": l.stored.UTC(), "sequence": l.sequence,
	}
	if l.Job != nil {
		row["cost_usd"], row["calls"] = l.Job.CostUSD, l.Job.Usage.Calls
	}
	return row
}

// Bounds of one pull of dead letters: memory, not speed.
const (
	pullLetters   = 256
	pullBytes     = 16 << 20
	quietLetters  = 2 * time.Second
	patientQuiets = 5
)

// letters calls each for every picked dead letter, the oldest first, as they are stored now.
func (f deadFilter) letters(ctx context.Context, conn *broker.Conn, each func(*letter) error) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: f.subjects()}
	if f.Since > 0 {
		start := time.Now().Add(-f.Since)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &start
	}
	c, err := conn.JS.OrderedConsumer(ctx, broker.DeadStream, cfg)
	if err != nil {
		return fmt.Errorf("read %s: %w", broker.DeadStream, err)
	}
	if c.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := c.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullLetters, pullBytes))
	if err != nil {
		return fmt.Errorf("read %s: %w", broker.DeadStream, err)
	}
	defer messages.Stop()
	for {
		m, err := nextLetter(ctx, c, messages)
		if err != nil || m == nil {
			return err
		}
		l, pending, err := readLetter(m)
		if err != nil {
			return err
		}
		if f.OlderThan > 0 && time.Since(l.stored) < f.OlderThan {
			return nil // what follows is younger still
		}
		if f.picks(l) {
			if err := each(l); err != nil {
				return err
			}
		}
		if pending == 0 {
			return nil
		}
	}
}

// nextLetter returns the next message; nil when those that were to come are gone.
func nextLetter(ctx context.Context, c jetstream.Consumer, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	for quiets := 0; ; quiets++ {
		m, err := messages.Next(jetstream.NextMaxWait(quietLetters))
		if err == nil {
			return m, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !errors.Is(err, nats.ErrTimeout) || quiets == patientQuiets {
			return nil, fmt.Errorf("read %s: %w", broker.DeadStream, err)
		}
		if info, err := c.Info(ctx); err == nil && info.NumPending == 0 {
			return nil, nil
		}
	}
}

func readLetter(m jetstream.Msg) (*letter, uint64, error) {
	md, err := m.Metadata()
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", broker.DeadStream, err)
	}
	l := &letter{
		task: broker.Token(m.Subject(), 3), id: broker.Token(m.Subject(), 4), sequence: md.Sequence.Stream, stored: md.Timestamp,
	}
	if err := json.Unmarshal(m.Data(), l); err != nil {
		// Listed all the same: it can be looked at with any NATS client, and removed.
		l.Stage, l.Code, l.Message = broker.Token(m.Subject(), 2), fate.Undecodable, "not a dead letter: "+err.Error()
	}
	return l, md.NumPending, nil
}

// deadLsCmd lists dead letters.
type deadLsCmd struct {
	natsFlags
	deadFilter
	Limit int    `help:"How many are listed, the newest of them; 0: all." default:"100" placeholder:"N"`
	By    string `help:"Print counts instead: by code, task or stage." enum:",code,task,stage" default:""`
}

// Run prints a table, or JSON lines.
func (c *deadLsCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Limit < 0 {
		return exit(exitUsage, "--limit is 0 (all) or more")
	}
	conn, err := c.open(ctx, g, "dead", broker.DeadStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.By != "" {
		return quiet(c.counts(ctx, g, conn))
	}
	return quiet(c.list(ctx, g, conn))
}

func (c *deadLsCmd) list(ctx context.Context, g *globals, conn *broker.Conn) error {
	if g.cli.JSON && c.Limit == 0 {
		return c.letters(ctx, conn, func(l *letter) error { return g.printJSON(l.row()) })
	}
	var newest []*letter
	total := 0
	err := c.letters(ctx, conn, func(l *letter) error {
		total++
		if newest = append(newest, l); c.Limit > 0 && len(newest) > c.Limit {
			newest = slices.Delete(newest, 0, 1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if g.cli.JSON {
		for _, l := range newest {
			if err := g.printJSON(l.row()); err != nil {
				return err
			}
		}
		return nil
	}
	if total == 0 {
		_, err := fmt.Fprintln(g.stdout, "no dead letters")
		return err
	}
	if err := g.showLetters(newest); err != nil {
		return err
	}
	if total > len(newest) {
		g.note("the newest %d of %d are shown (--limit 0: all; --by code: counts)", len(newest), total)
	}
	return nil
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
