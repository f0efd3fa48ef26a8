package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"spillway/pkg/task"
)

// taskCmd looks at the task files, and has their inputs answered beforehand.
type taskCmd struct {
	New    taskNewCmd    `cmd:"" help:"Write a new task that works, to be changed into yours."`
	Check  taskCheckCmd  `cmd:"" help:"Check the task files, their cases, and whether they have drifted apart, without a model."`
	Render taskRenderCmd `cmd:"" help:"Show the prompt that a model would see of an input: sections, tokens, price. No call is made."`
	Try    taskTryCmd    `cmd:"" help:"Make real calls without a broker: answer, verdict, cost, latency; two models or versions side by side."`
	Show   taskShowCmd   `cmd:"" help:"Show one task as it is understood, defaults resolved."`
	Ls     taskLsCmd     `cmd:"" help:"List the tasks: which version is live, since when, by whom, what is in flight. Without a server, or of --schemas: the files."`

	Push     taskPushCmd     `cmd:"" help:"Check the files of a folder and make them live; jobs in flight end under the version that admitted them."`
	Diff     taskDiffCmd     `cmd:"" help:"Show what two versions of a task differ in, or a version and the files."`
	Rollback taskRollbackCmd `cmd:"" help:"Make an earlier version live again."`
	Pause    taskPauseCmd    `cmd:"" help:"Take no new requests of a task for a while. Jobs in flight and replays go on."`
	Resume   taskResumeCmd   `cmd:"" help:"Take requests of a task again."`
	Rm       taskRmCmd       `cmd:"" help:"Take a task out: new requests are of an unknown task, jobs in flight end."`

	Warm taskWarmCmd `cmd:"" help:"Have inputs answered and kept before somebody asks."`
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
