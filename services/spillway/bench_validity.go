package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/bench"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
	"spillway/schemas"
	"spillway/services"
	"spillway/services/validator"
	"spillway/services/validator/corpus"
)

//go:generate go test -run TestBenchPlaysTheRecordedAnswersThroughAPipeline -update

// benchValidityCmd measures how malformed answers become outputs.
type benchValidityCmd struct {
	Live     bool          `env:"-" help:"Ask the real models of the tasks instead. Costs money."`
	Task     []string      `env:"-" help:"With --live, only these tasks; default: all." placeholder:"NAME"`
	Requests *int          `env:"-" help:"With --live, requests a task; default: 20." placeholder:"N"`
	Timeout  time.Duration `help:"End without a report after this time." default:"10m"`
	schemasFlag
}

// liveRequests are those a task where no number is given.
const liveRequests = 20

// Run plays and prints.
func (c *benchValidityCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	run := c.recorded
	if c.Live {
		run = c.live
	}
	o := bench.Options{Stages: services.Pipeline(), Sync: time.Second, Getenv: g.getenv, Log: g.quietLogger().Level(zerolog.ErrorLevel)} // that answers are bad is no news here
	report, err := measure(ctx, c.Timeout, g, o, func(ctx context.Context, o bench.Options) (*bench.ValidityReport, error) { return run(ctx, g, o) })
	if report == nil || err != nil && !report.Cut {
		return err
	}
	if err := c.print(g, report); err != nil {
		return quiet(err)
	}
	switch {
	case !report.Cut:
		return nil
	case ctx.Err() != nil:
		return exit(exitInterrupted, "stopped: the figures are those of %d of %s", report.All.Answers, count(report.Asked, "answer"))
	}
	return fmt.Errorf("%w: the figures are those of %d of %s", err, report.All.Answers, count(report.Asked, "answer"))
}

// check refuses flags that would be of no effect, and numbers that mean nothing.
func (c *benchValidityCmd) check() error {
	switch {
	case !c.Live && (len(c.Task) > 0 || c.Requests != nil || c.Schemas != ""):
		return exit(exitUsage, "--task, --requests and --schemas (SPILLWAY_SCHEMAS) are for --live: the recorded answers are as many as they are, and have tasks of their own")
	case c.Requests == nil:
		c.Requests = new(liveRequests)
	}
	if *c.Requests < 1 || *c.Requests > bench.MaxJobs {
		return exit(exitUsage, "--requests is 1 to %d", bench.MaxJobs)
	}
	return nil
}

// print says what became of the answers and, beside recorded ones, how long hostile ones take.
func (c *benchValidityCmd) print(g *globals, report *bench.ValidityReport) error {
	hostile := []hostileAnswer{}
	if !report.Cut && !c.Live {
		var err error
		if hostile, err = judgeHostile(); err != nil {
			return err
		}
	}
	if g.cli.JSON {
		return g.printJSON(struct {
			*bench.ValidityReport
			Hostile []hostileAnswer `json:"hostile"`
		}{report, hostile})
	}
	if err := g.printValidity(report, c.Live); err != nil || len(hostile) == 0 {
		return err
	}
	return g.printHostile(hostile)
}

// recorded plays the corpus. What is not UTF-8 can not travel in a provider's JSON and is left out.
func (c *benchValidityCmd) recorded(ctx context.Context, _ *globals, o bench.Options) (*bench.ValidityReport, error) {
	lines, err := corpus.Lines()
	if err != nil {
		return nil, fmt.Errorf("read the recorded answers: %w", err)
	}
	v := bench.ValidityOptions{Options: o, Schemas: map[string][]byte{}}
	for _, l := range lines {
		if l.Base64 {
			continue
		}
		v.Answers = append(v.Answers, bench.Answer{Name: l.Name, Class: l.Class, Task: l.Task, Text: l.Answer, FinishReason: l.FinishReason, Meant: l.Output})
		if v.Schemas[l.Task] != nil {
			continue
		}
		if v.Schemas[l.Task] = corpus.Schema(l.Task); v.Schemas[l.Task] == nil {
			if v.Schemas[l.Task], err = fs.ReadFile(schemas.FS(), "tasks/"+l.Task+"/output.schema.json"); err != nil {
				return nil, fmt.Errorf("the task of a recorded answer: %w", err)
			}
		}
	}
	return bench.Validity(ctx, v)
}

// live asks the real models.
func (c *benchValidityCmd) live(ctx context.Context, g *globals, o bench.Options) (*bench.ValidityReport, error) {
	tasks, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return nil, err
	}
	if missing := tasks.NeedsKeys(g.getenv); len(missing) > 0 {
		return nil, exit(exitUsage, "--live asks real models, and there is no key: set %s", strings.Join(missing, ", "))
	}
	names := c.Task
	if len(names) == 0 {
		names = namesOf(tasks)
	}
	inputs := map[string][][]byte{}
	for _, name := range names {
		t, ok := tasks.Tasks[name]
		if !ok {
			return nil, exit(exitNotFound, "there is no task %q; there are %s", name, strings.Join(namesOf(tasks), ", "))
		}
		for _, one := range t.Cases {
			inputs[name] = append(inputs[name], one.Input)
		}
		if len(inputs[name]) == 0 {
			inputs[name] = [][]byte{tasks.Sample(name)}
		}
	}
	g.note("asking real models for %s of %s: this costs money", count(*c.Requests, "answer"), strings.Join(names, ", "))
	return bench.Live(ctx, o, tasks, inputs, *c.Requests)
}

// hostileAnswer is an answer that is made to hurt.
type hostileAnswer struct {
	Name    string  `json:"name"`
	Bytes   int     `json:"bytes"`
	Verdict string  `json:"verdict"`
	TookMS  float64 `json:"took_ms"`
}

// hostileSchema is that of the hostile answers, smallAnswer satisfies it.
const (
	smallAnswer   = `{"score":0.5}`
	hostileSchema = `{"type":"object","properties":{"score":{"type":"number","maximum":1}},"required":["score"]}`
)

// judgeHostile takes the time that the validator needs for answers that are made to hurt, at any length.
func judgeHostile() ([]hostileAnswer, error) {
	s, err := schema.Compile([]byte(hostileSchema))
	if err != nil {
		return nil, fmt.Errorf("the schema of hostile answers: %w", err)
	}
	t := &task.Task{OutputSchema: s, Output: task.Output{Format: task.FormatJSON, Repair: true}}
	var judged []hostileAnswer
	for _, a := range []struct{ name, text string }{
		{"a number with an exponent of a million", `{"score":1E1000001}`},
		{"100,000 arrays, one in the other", strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)},
		{"1 MB of prose", strings.Repeat("I am not sure what you mean. ", 1<<20/29)},
		{"1 MB of opening braces", strings.Repeat("{", 1<<20)},
		{"an answer, and 1 MB of courtesies", smallAnswer + strings.Repeat("let me know if ", 1<<20/15)},
	} {
		started := time.Now()
		v := validator.Judge(t, nil, &job.Answer{Content: a.text, FinishReason: "stop"})
		judged = append(judged, hostileAnswer{a.name, len(a.text), v.Outcome, float64(time.Since(started).Microseconds()) / 1000})
	}
	return judged, nil
}

// steps are the ways to an output, in the order in which they are tried.
func steps() []string {
	return []string{job.RecoveryStrict, validator.Extracted, validator.Repaired, job.RecoveryCorrected, bench.StepNone}
}

// validityCell is as wide as a number and its share.
const validityCell = 10

func (g *globals) printValidity(r *bench.ValidityReport, live bool) error {
	if live {
		g.printf("%s of real models\n\n", count(r.Asked, "answer"))
	} else {
		g.printf("%s, each what a model says first; told what is wrong, it answers rightly\n\n", count(r.Asked, "recorded answer"))
	}
	head := append([]string{"answers", "number"}, steps()...)
	if !live {
		head = append(head, "wrong")
	}
	head = append(head, "calls", "tokens in", "tokens out")
	if live {
		head = append(head, "usd")
	}
	for i := range head[1:] {
		head[i+1] = fmt.Sprintf("%*s", validityCell, head[i+1])
	}
	t := newTable(g.stdout, head...)
	for _, c := range append(slices.Clip(r.Classes), r.All) {
		cells := []string{thousands(c.Answers)}
		for _, step := range steps() {
			cells = append(cells, share(c.Steps[step], c.Answers))
		}
		if !live {
			cells = append(cells, wrong(c))
		}
		cells = append(cells, thousands(c.Calls), thousands(c.InputTokens), thousands(c.OutputTokens))
		if live {
			cells = append(cells, fmt.Sprintf("%.4f", c.CostUSD))
		}
		row := []any{c.Class}
		for _, cell := range cells {
			row = append(row, fmt.Sprintf("%*s", validityCell, cell))
		}
		t.row(row...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	g.printf("\n")
	g.explainValidity(r, live)
	return nil
}

// explainValidity says what the columns are, and what stands behind some of their numbers.
func (g *globals) explainValidity(r *bench.ValidityReport, live bool) {
	g.printf("strict JSON; extracted: one value within other text; repaired: punctuation mended; corrected: by a call that is told what is wrong\n")
	if n := r.All.Steps[bench.StepNone]; n > 0 {
		var codes []string
		for _, code := range slices.Sorted(maps.Keys(r.All.Codes)) {
			codes = append(codes, fmt.Sprintf("%d %s", r.All.Codes[code], code))
		}
		g.printf("none: no output (%s)\n", strings.Join(codes, ", "))
	}
	if live {
		return
	}
	g.printf("wrong: a value that was not meant, without a correction\ntokens: of four characters each\n")
	for _, name := range r.Wrong {
		g.printf("wrong: %s\n", oneLine(name))
	}
}

func (g *globals) printHostile(hostile []hostileAnswer) error {
	g.printf("\n")
	t := newTable(g.stdout, "made to hurt", fmt.Sprintf("%9s", "bytes"), "verdict", fmt.Sprintf("%7s", "ms"))
	for _, a := range hostile {
		t.row(a.Name, fmt.Sprintf("%9s", thousands(a.Bytes)), a.Verdict, fmt.Sprintf("%7.2f", a.TookMS))
	}
	return t.flush()
}

// wrong is how many answers of a class are; nothing is known of answers that were not asked for.
func wrong(c *bench.ValidityClass) string {
	if c.Wrong == nil {
		return "-"
	}
	return thousands(*c.Wrong)
}

// share is a number and its part of all.
func share(n, all int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d (%.0f%%)", n, 100*float64(n)/float64(all))
}
