package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/bundle"
)

// taskLsCmd lists tasks, as a server has them or as files do.
type taskLsCmd struct {
	natsFlags
	schemasFlag
	Versions bool `env:"-" help:"List all versions that are kept."`
}

// Run asks the server, if there is one and no folder was named.
func (c *taskLsCmd) Run(ctx context.Context, g *globals) error {
	if g.isGiven("schemas") {
		if c.Versions {
			return exit(exitUsage, "a server keeps versions, a folder does not: leave --schemas out")
		}
		g.note("these are the files in %s; without --schemas the server is asked what is live", c.Schemas)
		return c.files(g)
	}
	err := c.versions(ctx, g, func(ctx context.Context, s *bundle.Store) error { return c.server(ctx, g, s) })
	if errors.Is(err, errNoServer) && !c.isAsked(g) && !c.Versions {
		which := "that are built in"
		if c.Schemas != "" {
			which = "in " + c.Schemas
		}
		g.note("no server answers at %s: these are the files %s", broker.RedactURLs(c.NATS), which)
		return c.files(g)
	}
	return err
}

// isAsked reports whether somebody named a server.
func (c *taskLsCmd) isAsked(g *globals) bool {
	return g.isGiven("nats") || g.getenv("SPILLWAY_NATS") != ""
}

// files prints a line a task of a folder.
func (c *taskLsCmd) files(g *globals) error {
	set, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	t := newTable(g.stdout, "name", "version", "model", "lane", "deadline", "ladder", "cache", "warm", "owner", "description")
	for _, name := range namesOf(set) {
		k := set.Tasks[name]
		if g.cli.JSON {
			row := map[string]any{
				"name": k.Name, "version": k.Version, "model": k.Model, "lane": k.Lane, "deadline": short(k.Deadline.Default), "from": "files",
				"ladder": ladderOf(k), "cache": cacheView(k), "warm": len(k.Warm), "owner": k.Owner, "description": k.Description,
			}
			if err := g.printJSON(row); err != nil {
				return quiet(err)
			}
			continue
		}
		t.row(k.Name, k.Version, k.Model, k.Lane, short(k.Deadline.Default), dash(strings.Join(ladderOf(k), " > ")), cacheOf(k), len(k.Warm), dash(k.Owner), k.Description)
	}
	if g.cli.JSON {
		return nil
	}
	return quiet(t.flush())
}

// server prints a line a task of a server, or one a version.
func (c *taskLsCmd) server(ctx context.Context, g *globals, s *bundle.Store) error {
	records, err := s.Records(ctx)
	if err != nil {
		return err
	}
	if len(records) == 0 && !g.cli.JSON {
		_, err := fmt.Fprintln(g.stdout, "no task is live here: start a process that serves some, or `spillway task push --schemas DIR`")
		return err
	}
	now := time.Now()
	counts, err := s.InFlight(ctx, now)
	if err != nil {
		g.note("the jobs in flight are not counted: %v", err)
	}
	l := roster{g: g, now: now, counts: counts, counted: err == nil}
	switch {
	case g.cli.JSON:
		return l.lines(records, c.Versions)
	case c.Versions:
		return l.versions(records)
	}
	return l.tasks(records)
}

// roster prints records.
type roster struct {
	g       *globals
	now     time.Time
	counts  map[bundle.Name]int
	counted bool
}

func (l roster) ago(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return span(l.now.Sub(at)) + " ago"
}

func (l roster) tasks(records []*bundle.Record) error {
	t := newTable(l.g.stdout, "name", "live", "since", "how", "by", "in flight", "kept", "takes requests")
	for _, r := range records {
		t.row(r.Task, dash(r.Live), l.ago(r.Since), dash(howOf(r)), dash(r.By), l.inFlight(r), len(r.Versions), l.takes(r))
	}
	return t.flush()
}

// howOf says how the live version became live.
func howOf(r *bundle.Record) string {
	if v := r.Known(r.Live); v != nil {
		return v.How
	}
	return ""
}

// takes says whether a task takes requests, and if not why.
func (l roster) takes(r *bundle.Record) string {
	switch {
	case r.Live == "":
		return "no: taken out"
	case r.Paused != nil:
		return fmt.Sprintf("no: paused %s by %s: %s", l.ago(r.Paused.Since), r.Paused.By, r.Paused.Why)
	}
	return "yes"
}

// inFlight counts the jobs of a task: those of the live version, then those of others.
func (l roster) inFlight(r *bundle.Record) string {
	if !l.counted {
		return "?"
	}
	parts := []string{fmt.Sprint(l.counts[bundle.Name{Task: r.Task, Version: r.Live}])}
	var others []string
	for n, count := range l.counts {
		if n.Task == r.Task && n.Version != r.Live {
			others = append(others, fmt.Sprintf("%d under %s", count, n.Version))
		}
	}
	slices.Sort(others)
	return strings.Join(append(parts, others...), ", ")
}

func (l roster) versions(records []*bundle.Record) error {
	t := newTable(l.g.stdout, "name", "version", "live since", "until", "first", "how", "by", "in flight")
	for _, r := range records {
		for _, v := range r.Versions {
			until := "live"
			if v.Version != r.Live {
				until = l.ago(v.Until)
			}
			if v.Left != "" {
				until += " (" + v.Left + ")"
			}
			inFlight := "?"
			if l.counted {
				inFlight = fmt.Sprint(l.counts[bundle.Name{Task: r.Task, Version: v.Version}])
			}
			t.row(r.Task, v.Version, l.ago(v.Since), until, l.ago(v.First), v.How, v.By, inFlight)
		}
	}
	return t.flush()
}

// taskRow is a task of a server as --json prints it.
type taskRow struct {
	Name  string `json:"name"`
	From  string `json:"from"`
	Live  string `json:"live"`
	Since any    `json:"since"`
	By    string `json:"by"`
	How   string `json:"how"`
	// InFlight are counts by version; nil: they are not known.
	InFlight map[string]int   `json:"in_flight"`
	Paused   *bundle.Paused   `json:"paused"`
	Kept     int              `json:"kept"`
	Versions []bundle.Version `json:"versions,omitempty"`
}

func (l roster) lines(records []*bundle.Record, whole bool) error {
	for _, r := range records {
		row := taskRow{Name: r.Task, From: "server", Live: r.Live, Since: r.Since, By: r.By, How: howOf(r), Paused: r.Paused, Kept: len(r.Versions)}
		if l.counted {
			row.InFlight = map[string]int{}
		}
		for n, count := range l.counts {
			if n.Task == r.Task {
				row.InFlight[n.Version] = count
			}
		}
		if whole {
			row.Versions = r.Versions
		}
		if err := l.g.printJSON(row); err != nil {
			return err
		}
	}
	return nil
}
