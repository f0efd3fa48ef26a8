package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"spillway/pkg/bundle"
	"spillway/pkg/task"
)

// taskPushCmd makes the files of a folder live.
type taskPushCmd struct {
	natsFlags
	Names   []string `arg:"" optional:"" name:"name" help:"Tasks to push; without any, all of the folder."`
	Schemas string   `required:"" help:"Folder with tasks and models.yaml." placeholder:"DIR" type:"path"`
	By      string   `env:"-" help:"Who does it; default: this user on this machine." placeholder:"NAME"`
	DryRun  bool     `env:"-" help:"Check, show what would change, and do nothing."`
}

// Run checks the folder, then pushes task by task.
func (c *taskPushCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(ctx, g); err != nil {
		return err
	}
	set, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	names := c.Names
	if len(names) == 0 {
		names = namesOf(set)
	}
	for _, name := range names {
		if set.Tasks[name] == nil {
			return exit(exitNotFound, "there is no task %q in %s%s", name, c.Schemas, suggest(name, namesOf(set)))
		}
	}
	return c.versions(ctx, g, func(ctx context.Context, s *bundle.Store) error {
		for n, name := range names {
			if err := c.push(ctx, g, s, set, set.Tasks[name]); err != nil {
				return fmt.Errorf("push %s (%d of %d are done): %w", name, n, len(names), err)
			}
		}
		return nil
	})
}

// check does what `task check` does, and says what that says if there is a fault.
func (c *taskPushCmd) check(ctx context.Context, g *globals) error {
	var said bytes.Buffer
	quietly := *g
	quietly.stdout = &said
	err := (&taskCheckCmd{schemasFlag: schemasFlag{Schemas: c.Schemas}}).Run(ctx, &quietly)
	if err == nil {
		return nil
	}
	if _, failed := said.WriteTo(g.stdout); failed != nil {
		return quiet(failed)
	}
	return fmt.Errorf("nothing is pushed: %w", err)
}

// push makes one task's files live, unless they are.
func (c *taskPushCmd) push(ctx context.Context, g *globals, s *bundle.Store, set *task.Set, t *task.Task) error {
	r, _, err := s.Record(ctx, t.Name)
	if errors.Is(err, bundle.ErrNoTask) {
		r, err = &bundle.Record{Task: t.Name}, nil
	}
	if err != nil {
		return err
	}
	next := bundle.Of(t)
	change, err := c.changeOf(ctx, s, r, next)
	if err != nil {
		return err
	}
	more := map[string]any{"from": r.Live, "to": next.Version, "changed": change}
	switch {
	case r.Live == next.Version || isSimulatedTwin(r.Live, set, t):
		return g.tell("unchanged", t.Name, r.Live+" is live already", more)
	case c.DryRun:
		return g.tell("would_push", t.Name, fmt.Sprintf("%s -> %s would be live: %s", orNone(r.Live), next.Version, strings.Join(change, ", ")), more)
	}
	now, live, err := s.Push(ctx, bundle.Push{Bundle: next, Replaces: r.Live, By: whoever(c.By), How: bundle.HowPush})
	if err != nil {
		return err
	}
	if !live {
		return fmt.Errorf("%s became live in this moment, by %s: push again if %s is to be live", now.Live, now.By, next.Version)
	}
	return g.tell("pushed", t.Name, fmt.Sprintf("%s -> %s is live: %s", orNone(r.Live), next.Version, strings.Join(change, ", ")), more)
}

func orNone(version string) string {
	if version == "" {
		return "none"
	}
	return version
}

// isSimulatedTwin reports whether what is live is the same files, of a pipeline that simulates its models.
func isSimulatedTwin(live string, set *task.Set, t *task.Task) bool {
	twin := set.Simulated().Tasks[t.Name]
	return twin != nil && twin.Version == live
}

// changeOf names what would change: the files, and the entries of models.yaml.
func (c *taskPushCmd) changeOf(ctx context.Context, s *bundle.Store, r *bundle.Record, next *bundle.Bundle) ([]string, error) {
	if r.Live == "" {
		return []string{"a new task"}, nil
	}
	before, err := s.Get(ctx, r.Task, r.Live)
	if errors.Is(err, task.ErrNoVersion) {
		return []string{"not known, as " + r.Live + " is not stored"}, nil
	}
	if err != nil {
		return nil, err
	}
	return changes(before, next), nil
}

// changes names the files and models in which two bundles differ.
func changes(a, b *bundle.Bundle) []string {
	list := differing("", a.Files, b.Files)
	if a.Simulated != b.Simulated {
		return list // the entries of simulated models are others
	}
	return append(list, differing("model ", a.Models, b.Models)...)
}

// differing says of two sets of texts what was changed, added and removed.
func differing[T ~[]byte](what string, a, b map[string]T) []string {
	var list []string
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		before, had := a[name]
		after, has := b[name]
		switch {
		case !had:
			list = append(list, what+name+" added")
		case !has:
			list = append(list, what+name+" removed")
		case !bytes.Equal(before, after):
			list = append(list, what+name+" changed")
		}
	}
	return list
}
