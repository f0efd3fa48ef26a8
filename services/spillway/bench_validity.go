package main

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/bench"
	"spillway/pkg/job"
	"spillway/pkg/task"
	"spillway/schemas"
	"spillway/services"
	"spillway/services/validator"
	"spillway/services/validator/corpus"
)

// benchValidityCmd measures how malformed answers become outputs.
type benchValidityCmd struct {
	Live     bool          `env:"-" help:"Ask the real models of the tasks instead. Costs money."`
	Task     []string      `env:"-" help:"With --live, only these tasks; default: all." placeholder:"NAME"`
	Requests int           `env:"-" help:"With --live, requests a task." default:"20" placeholder:"N"`
	Timeout  time.Duration `help:"End without a report after this time." default:"10m"`
	schemasFlag
}

// Run plays and prints.
func (c *benchValidityCmd) Run(ctx context.Context, g *globals) error {
	run := c.recorded
	switch {
	case c.Live:
		run = c.live
	case len(c.Task) > 0 || c.Schemas != "":
		return exit(exitUsage, "--task and --schemas are for --live: the recorded answers have tasks of their own")
	}
	if c.Requests < 1 || c.Requests > bench.MaxJobs {
		return exit(exitUsage, "--requests is 1 to %d", bench.MaxJobs)
	}
	o := bench.Options{Stages: services.Pipeline(), Sync: time.Second, Getenv: g.getenv, Log: g.quietLogger().Level(zerolog.ErrorLevel)} // that answers are bad is no news here
	report, err := measure(ctx, c.Timeout, g, o, func(ctx context.Context, o bench.Options) (*bench.ValidityReport, error) { return run(ctx, g, o) })
	if err != nil {
		return err
	}
	hostile := judgeHostile()
	if g.cli.JSON {
		err = g.printJSON(struct {
			*bench.ValidityReport
			Hostile []hostileAnswer `json:"hostile"`
		}{report, hostile})
	} else {
		err = g.printValidity(report, hostile)
	}
	return quiet(err)
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
	g.note("asking real models for %s of %s: this costs money", count(c.Requests, "answer"), strings.Join(names, ", "))
	return bench.Live(ctx, o, tasks, inputs, c.Requests)
}

// hostileAnswer is an answer that is made to hurt.
type hostileAnswer struct {
	Name    string  `json:"name"`
	Bytes   int     `json:"bytes"`
	Verdict string  `json:"verdict"`
	TookMS  float64 `json:"took_ms"`
}

// judgeHostile takes the time that the validator needs for answers that are made to hurt.
func judgeHostile() []hostileAnswer {
	var judged []hostileAnswer
	for _, a := range []struct{ name, text string }{
		{"a number with an exponent of a million", `{"score":1E1000001}`},
		{"100,000 arrays, one in the other", strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)},
		{"1 MB of prose", strings.Repeat("I am not sure what you mean. ", 1<<20/29)},
		{"1 MB of opening braces", strings.Repeat("{", 1<<20)},
	} {
		t := &task.Task{Output: task.Output{Format: task.FormatJSON, Repair: true}}
		started := time.Now()
		v := validator.Judge(t, nil, &job.Answer{Content: a.text, FinishReason: "stop"})
		judged = append(judged, hostileAnswer{a.name, len(a.text), v.Outcome, float64(time.Since(started).Microseconds()) / 1000})
	}
	return judged
}

// steps are the ways to an output, in the order in which they are tried.
func steps() []string {
	return []string{job.RecoveryStrict, validator.Extracted, validator.Repaired, job.RecoveryCorrected, bench.StepNone}
}

func (g *globals) printValidity(r *bench.ValidityReport, hostile []hostileAnswer) error {
	head := append([]string{"answers", "number"}, steps()...)
	t := newTable(g.stdout, append(head, "wrong", "calls", "tokens in", "tokens out", "usd")...)
	for _, c := range r.Classes {
		row := []any{c.Class, c.Answers}
		for _, step := range steps() {
			row = append(row, share(c.Steps[step], c.Answers))
		}
		t.row(append(row, c.Wrong, thousands(c.Calls), thousands(c.InputTokens), thousands(c.OutputTokens), fmt.Sprintf("%.4f", c.CostUSD))...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, name := range r.Wrong {
		g.printf("wrong: %s\n", oneLine(name))
	}
	g.printf("\nsteps: strict JSON; one value within other text; punctuation mended; corrected by a call that is told what is wrong\n")
	g.printf("(the recorded model is right when it is told); none.\n")
	g.printf("wrong: a value that was not meant, and needed no correction.\n\n")
	t = newTable(g.stdout, "made to hurt", "bytes", "verdict", "ms")
	for _, a := range hostile {
		t.row(a.Name, thousands(a.Bytes), a.Verdict, fmt.Sprintf("%.2f", a.TookMS))
	}
	return t.flush()
}

// share is a number and its part of all.
func share(n, all int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d (%.0f%%)", n, 100*float64(n)/float64(all))
}
