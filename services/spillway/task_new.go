package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"spillway/pkg/task"
	"spillway/schemas"
)

// newTask is the folder that a new task begins with.
//
//go:embed newtask
var newTask embed.FS

// The task and the model in it.
const (
	taskMark  = "@TASK@"
	modelMark = "@MODEL@"
)

// preferredModel is that of a new task, if there is one of this name.
const preferredModel = "small"

// taskNewCmd writes a task.
type taskNewCmd struct {
	Name    string `arg:"" help:"Name of the task, [a-z0-9-]{1,32}."`
	Schemas string `help:"Folder to write it to; models.yaml is made where it is absent." default:"schemas" placeholder:"DIR"`
	Model   string `env:"-" help:"Model of models.yaml that it calls; default: small, or the first." placeholder:"NAME"`
}

// written is a file that the command wrote, and what it is for.
type written struct {
	Path string `json:"path"`
	For  string `json:"for"`
}

// Run writes the folder, whole or not at all.
func (c *taskNewCmd) Run(_ context.Context, g *globals) error {
	if why := task.BadName(c.Name); why != "" {
		return exit(exitUsage, "%q can not be the name of a task: it %s, as it becomes a part of subjects and a label of metrics", c.Name, why)
	}
	folder := filepath.Join(c.Schemas, "tasks", c.Name)
	if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
		return exit(exitFailed, "%s is there already, and nothing is overwritten: choose another name, or remove it", folder)
	}
	files, err := c.common()
	if err != nil {
		return err
	}
	model, err := c.model(g)
	if err != nil {
		return err
	}
	own, err := c.write(folder, model)
	if err != nil {
		return err
	}
	return quiet(c.show(g, append(files, own...)))
}

// common writes what all tasks share, where it is absent.
func (c *taskNewCmd) common() (files []written, err error) {
	if err := os.MkdirAll(filepath.Join(c.Schemas, "tasks"), 0o755); err != nil { //nolint:gosec // read by whoever runs the pipeline
		return nil, fmt.Errorf("make the folder of schemas: %w", err)
	}
	for _, one := range []written{
		{"models.yaml", "providers, models, prices; keys are named, not written"},
		{"models.schema.json", "for editors: completes and checks models.yaml"},
		{"task.schema.json", "for editors: completes and checks task.yaml"},
	} {
		target := filepath.Join(c.Schemas, one.Path)
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		text, err := fs.ReadFile(schemas.FS(), one.Path)
		if err != nil {
			return nil, fmt.Errorf("read what is built in: %w", err)
		}
		if err := os.WriteFile(target, text, 0o644); err != nil { //nolint:gosec // no secret stands there
			return nil, fmt.Errorf("write what all tasks share: %w", err)
		}
		files = append(files, written{target, one.For})
	}
	return files, nil
}

// model is the one that the task will call.
func (c *taskNewCmd) model(g *globals) (string, error) {
	set, faults := task.Inspect(os.DirFS(c.Schemas), g.getenv)
	for _, f := range faults {
		if f.File == "models.yaml" {
			return "", exit(exitFailed, "a task needs a model, and models.yaml has faults (`spillway task check --schemas %s` lists them): %s", c.Schemas, f)
		}
	}
	names := slices.Sorted(maps.Keys(set.Models))
	switch {
	case c.Model == "" && set.Models[preferredModel] != nil:
		return preferredModel, nil
	case c.Model == "":
		return names[0], nil // there is one, or it would be a fault
	case set.Models[c.Model] == nil:
		return "", exit(exitNotFound, "there is no model %q in %s; there are %s", c.Model, filepath.Join(c.Schemas, "models.yaml"), strings.Join(names, ", "))
	}
	return c.Model, nil
}

// purposes are of the files of a task, in the order in which they are read.
func purposes() []written {
	return []written{
		{"task.yaml", "model, deadline, ladder, rules; the other settings are named"},
		{"prompt.tmpl", "what the model is told"},
		{"input.schema.json", "what a request must be"},
		{"output.schema.json", "what an answer must be"},
		{"canned.yaml", "prepared answers, for when no model has one"},
		{"cases/question.yaml", "an answer, and what must come of it"},
		{"cases/unknown-category.yaml", "an answer that is corrected"},
	}
}

// write makes the folder beside its place, under a name that is not read, and moves it there when it is whole.
func (c *taskNewCmd) write(folder, model string) (files []written, err error) {
	draft, err := os.MkdirTemp(filepath.Dir(folder), ".new-")
	if err != nil {
		return nil, fmt.Errorf("write the task: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(draft) // what failed is told already
		}
	}()
	fill := strings.NewReplacer(taskMark, c.Name, modelMark, model)
	for _, one := range purposes() {
		text, err := newTask.ReadFile(path.Join("newtask", one.Path))
		if err != nil {
			return nil, fmt.Errorf("read what is built in: %w", err)
		}
		target := filepath.Join(draft, one.Path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // as above
			return nil, fmt.Errorf("write the task: %w", err)
		}
		if err := os.WriteFile(target, []byte(fill.Replace(string(text))), 0o644); err != nil { //nolint:gosec // as above
			return nil, fmt.Errorf("write the task: %w", err)
		}
		files = append(files, written{filepath.Join(folder, one.Path), one.For})
	}
	if err := os.Chmod(draft, 0o755); err != nil { //nolint:gosec // as above
		return nil, fmt.Errorf("write the task: %w", err)
	}
	if err := os.Rename(draft, folder); err != nil {
		return nil, fmt.Errorf("write the task: %w", err)
	}
	return files, nil
}

// show says what was written, and what to do with it.
func (c *taskNewCmd) show(g *globals, files []written) error {
	if g.cli.JSON {
		return g.printJSON(map[string]any{"task": c.Name, "schemas": c.Schemas, "files": files, "next": c.next()})
	}
	t := newTable(g.stdout)
	for _, f := range files {
		t.row(f.Path, f.For)
	}
	if err := t.flush(); err != nil {
		return err
	}
	g.printf("\nIt works as it is. Make it yours, and look at it with:\n")
	for _, command := range c.next() {
		g.printf("  %s\n", command)
	}
	return nil
}

func (c *taskNewCmd) next() []string {
	in := " --schemas " + c.Schemas
	return []string{
		"spillway task check " + c.Name + in,
		"spillway task render " + c.Name + " question" + in,
		"spillway up" + in,
		"spillway submit " + c.Name + ` '{"text": "How long does the delivery take?"}'`,
	}
}
