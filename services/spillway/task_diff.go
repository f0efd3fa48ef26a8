package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"spillway/pkg/bundle"
)

// taskDiffCmd shows what two versions differ in.
type taskDiffCmd struct {
	taskFlags
	From    string `arg:"" help:"A version; task ls --versions lists them."`
	To      string `arg:"" optional:"" help:"Another one; without it the live one, or with --schemas the files."`
	Schemas string `help:"Folder with tasks and models.yaml." placeholder:"DIR" type:"path"`
}

// Run prints a unified diff of the files, and of the entries of models.yaml.
func (c *taskDiffCmd) Run(ctx context.Context, g *globals) error {
	if c.To != "" && g.isGiven("schemas") {
		return exit(exitUsage, "name a second version, or --schemas, not both")
	}
	return c.change(ctx, g, func(ctx context.Context, s *bundle.Store, r *bundle.Record) error {
		a, err := c.get(ctx, s, r, c.From)
		if err != nil {
			return err
		}
		b, err := c.other(ctx, g, s, r)
		if err != nil {
			return err
		}
		return c.show(g, a, b)
	})
}

func (c *taskDiffCmd) get(ctx context.Context, s *bundle.Store, r *bundle.Record, version string) (*bundle.Bundle, error) {
	if err := checkVersion(r, version); err != nil {
		return nil, err
	}
	return s.Get(ctx, c.Name, version)
}

// other is what the version is held against.
func (c *taskDiffCmd) other(ctx context.Context, g *globals, s *bundle.Store, r *bundle.Record) (*bundle.Bundle, error) {
	switch {
	case c.To != "":
		return c.get(ctx, s, r, c.To)
	case g.isGiven("schemas"):
		set, err := loadTasks(c.Schemas, g.getenv)
		if err != nil {
			return nil, err
		}
		if set.Tasks[c.Name] == nil {
			return nil, exit(exitNotFound, "there is no task %q in %s%s", c.Name, c.Schemas, suggest(c.Name, namesOf(set)))
		}
		return bundle.Of(set.Tasks[c.Name]), nil
	case r.Live == "":
		return nil, exit(exitFailed, "task %s was taken out: name a second version", c.Name)
	}
	return s.Get(ctx, c.Name, r.Live)
}

func (c *taskDiffCmd) show(g *globals, a, b *bundle.Bundle) error {
	if g.cli.JSON {
		return g.printJSON(map[string]any{"task": c.Name, "from": a.Version, "to": b.Version, "changed": append([]string{}, changes(a, b)...)})
	}
	files, others := textsOf(a, b), textsOf(b, a)
	all := maps.Clone(files)
	maps.Copy(all, others)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text := udiff.Unified(c.Name+"@"+a.Version+"/"+name, c.Name+"@"+b.Version+"/"+name, files[name], others[name])
		if _, err := fmt.Fprint(g.stdout, harmless(text)); err != nil {
			return err
		}
	}
	return nil
}

// textsOf are the files of a bundle, and its models unless only one of the two is simulated.
func textsOf(b, other *bundle.Bundle) map[string]string {
	texts := map[string]string{}
	for name, text := range b.Files {
		texts[name] = string(text)
	}
	if b.Simulated != other.Simulated {
		return texts
	}
	for name, entry := range b.Models {
		var lines bytes.Buffer
		if json.Indent(&lines, entry, "", "  ") != nil {
			lines.Write(entry)
		}
		texts["models.yaml/"+name] = strings.TrimSpace(lines.String()) + "\n"
	}
	return texts
}
