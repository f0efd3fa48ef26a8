package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"spillway/pkg/expr"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// taskCmd looks at the task files, and has their inputs answered beforehand.
type taskCmd struct {
	Ls    taskLsCmd    `cmd:"" help:"List the tasks: which version is live, since when, by whom, what is in flight. Without a server, or of --schemas: the files."`
	Show  taskShowCmd  `cmd:"" help:"Show one task as it is understood, defaults resolved."`
	Check taskCheckCmd `cmd:"" help:"Check the task files and their cases, without a model."`
	Warm  taskWarmCmd  `cmd:"" help:"Have inputs answered and kept before somebody asks."`

	Push     taskPushCmd     `cmd:"" help:"Check the files of a folder and make them live; jobs in flight end under the version that admitted them."`
	Diff     taskDiffCmd     `cmd:"" help:"Show what two versions of a task differ in, or a version and the files."`
	Rollback taskRollbackCmd `cmd:"" help:"Make an earlier version live again."`
	Pause    taskPauseCmd    `cmd:"" help:"Take no new requests of a task for a while. Jobs in flight and replays go on."`
	Resume   taskResumeCmd   `cmd:"" help:"Take requests of a task again."`
	Rm       taskRmCmd       `cmd:"" help:"Take a task out: new requests are of an unknown task, jobs in flight end."`
}

// schemasFlag says which folder is meant.
type schemasFlag struct {
	Schemas string `help:"Folder with tasks and models.yaml; default: the ones built in." placeholder:"DIR" type:"path"`
}

func namesOf(set *task.Set) []string {
	names := make([]string, 0, len(set.Tasks))
	for name := range set.Tasks {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func ladderOf(t *task.Task) []string {
	rungs := []string{}
	for _, r := range t.Ladder {
		if r.Kind == task.RungModel {
			rungs = append(rungs, r.Model)
			continue
		}
		rungs = append(rungs, r.Kind)
	}
	return rungs
}

// cacheOf says in two words what becomes of a task's answers.
func cacheOf(t *task.Task) string {
	switch {
	case t.Cache.Serve == task.ServeNever || t.Cache.Keep <= 0:
		return task.ServeNever
	case t.Cache.Serve == task.ServeFresh:
		return t.Cache.Serve + " " + short(t.Cache.FreshFor)
	}
	return t.Cache.Serve
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// taskShowCmd shows one task.
type taskShowCmd struct {
	schemasFlag
	Name string `arg:"" help:"Name of the task."`
}

// Run prints the task in the shape of task.yaml.
func (c *taskShowCmd) Run(_ context.Context, g *globals) error {
	set, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	t, ok := set.Tasks[c.Name]
	if !ok {
		return exit(exitNotFound, "there is no task %q; there are %s", c.Name, strings.Join(namesOf(set), ", "))
	}
	view := viewOf(t, set.Models[t.Model])
	if g.cli.JSON {
		return quiet(g.printJSON(view))
	}
	text, err := json.Marshal(view)
	if err != nil {
		return fmt.Errorf("encode the task: %w", err)
	}
	if text, err = yaml.JSONToYAML(text); err != nil {
		return fmt.Errorf("encode the task: %w", err)
	}
	_, err = fmt.Fprint(g.stdout, harmless(string(text)))
	return quiet(err)
}

// taskCheckCmd checks a folder.
type taskCheckCmd struct{ schemasFlag }

// Run prints every fault of the folder and of its cases.
func (c *taskCheckCmd) Run(_ context.Context, g *globals) error {
	set, err := loadTasks(c.Schemas, g.getenv)
	if faults, ok := errors.AsType[task.Faults](err); ok {
		return quiet(c.report(g, faults))
	}
	if err != nil {
		return err
	}
	var faults task.Faults
	cases := 0
	for _, name := range namesOf(set) {
		t := set.Tasks[name]
		cases += len(t.Cases)
		for _, k := range t.Cases {
			for _, message := range checkCase(t, k) {
				faults = append(faults, task.Fault{File: fmt.Sprintf("tasks/%s/cases/%s.yaml", name, k.Name), Message: message})
			}
		}
	}
	if len(faults) > 0 {
		return quiet(c.report(g, faults))
	}
	if g.cli.JSON {
		return quiet(g.printJSON(map[string]int{"tasks": len(set.Tasks), "cases": cases, "faults": 0}))
	}
	_, err = fmt.Fprintf(g.stdout, "%s, %s, no faults\n", count(len(set.Tasks), "task"), count(cases, "case"))
	return quiet(err)
}

// report prints faults and fails.
func (c *taskCheckCmd) report(g *globals, faults task.Faults) error {
	for _, f := range faults {
		if g.cli.JSON {
			row := map[string]any{"file": f.File, "line": f.Line, "column": f.Column, "pointer": f.Pointer, "message": f.Message}
			if err := g.printJSON(row); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintln(g.stdout, harmless(f.String())); err != nil {
			return err
		}
	}
	return exit(exitFailed, "%s in the task files", count(len(faults), "fault"))
}

// checkCase holds the expected output to the task's rules, which need no model. Load has checked the rest
// of a case: input, state and output against their schemas, and that the prompt renders.
func checkCase(t *task.Task, k task.Case) []string {
	if k.Expect.Output == nil || len(t.Output.Rules) == 0 {
		return nil
	}
	vars, err := varsOf(k)
	if err != nil {
		return []string{err.Error()}
	}
	var faults []string
	for _, rule := range t.Output.Rules {
		switch holds, err := rule.Expr.Bool(vars); {
		case err != nil:
			faults = append(faults, fmt.Sprintf("the rule %s fails on the expected output: %s", rule.Name, err))
		case !holds:
			faults = append(faults, fmt.Sprintf("the expected output breaks the rule %s: %s", rule.Name, rule.Say))
		}
	}
	return faults
}

func varsOf(k task.Case) (expr.Vars, error) {
	var vars expr.Vars
	for name, part := range map[string]struct {
		text []byte
		keep func(any)
	}{
		"input":           {k.Input, func(v any) { vars.Input = v }},
		"state":           {k.State, func(v any) { vars.State, _ = v.(map[string]any) }},
		"expected output": {k.Expect.Output, func(v any) { vars.Output = v }},
	} {
		value, err := schema.Decode(part.text)
		if err != nil {
			return vars, fmt.Errorf("the %s: %w", name, err)
		}
		part.keep(value)
	}
	return vars, nil
}
