package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"spillway/pkg/broker"
)

// cacheCmd deals with cached answers.
type cacheCmd struct {
	Ls   cacheLsCmd   `cmd:"" help:"List cached answers, the newest last, or count them."`
	Show cacheShowCmd `cmd:"" help:"Show one cached answer, and whether it would be served today: by its key, or for an input."`
	Rm   cacheRmCmd   `cmd:"" help:"Remove cached answers for good."`
}

// cacheLsCmd lists cached answers.
type cacheLsCmd struct {
	natsFlags
	cacheFilter
	limitFlag
	By string `env:"-" help:"Print counts instead: by task or tenant." enum:",task,tenant" default:""`
}

// Run prints a table, or JSON lines.
func (c *cacheLsCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := c.checkLimit(); err != nil {
		return err
	}
	conn, err := c.open(ctx, g, "cache", broker.CacheStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.By != "" {
		return quiet(c.counts(ctx, g, conn))
	}
	l := listing[*entry]{
		what: "cached answers", by: "task", limit: c.Limit, show: g.showEntries,
		read: func(each func(*entry) error) error { return c.entries(ctx, conn, each) },
	}
	return quiet(l.print(g))
}

// showEntries prints entries as a table.
func (g *globals) showEntries(list []*entry) error {
	t := newTable(g.stdout, "age", "expires in", "task", "version", "tenant", "key", "model", "bytes")
	now := time.Now()
	for _, e := range list {
		expires := "never"
		if !e.expires.IsZero() {
			expires = span(e.expires.Sub(now))
		}
		t.row(span(now.Sub(e.At)), expires, dash(e.Task), dash(e.TaskVersion), dash(e.Tenant), e.key, e.model(), e.bytes)
	}
	return t.flush()
}

// entryLines prints entries as JSON; event says what is done with them.
func (g *globals) entryLines(list []*entry, event string) error {
	for _, e := range list {
		row := e.row()
		row["event"] = event
		if err := g.printJSON(row); err != nil {
			return err
		}
	}
	return nil
}

// sumOf is how many entries of a kind there are, and how large they are together.
type sumOf struct {
	of             string
	answers, bytes int
}

func (c *cacheLsCmd) counts(ctx context.Context, g *globals, conn *broker.Conn) error {
	sums := map[string]*sumOf{}
	err := c.entries(ctx, conn, func(e *entry) error {
		of := map[string]string{"task": e.Task, "tenant": e.Tenant}[c.By]
		if sums[of] == nil {
			sums[of] = &sumOf{of: of}
		}
		sums[of].answers++
		sums[of].bytes += e.bytes
		return nil
	})
	if err != nil {
		return err
	}
	var list []*sumOf
	for _, s := range sums {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *sumOf) int { return cmp.Or(b.answers-a.answers, cmp.Compare(a.of, b.of)) })
	t := newTable(g.stdout, c.By, "answers", "size")
	for _, s := range list {
		if g.cli.JSON {
			if err := g.printJSON(map[string]any{"by": c.By, "key": s.of, "count": s.answers, "bytes": s.bytes}); err != nil {
				return err
			}
			continue
		}
		t.row(dash(s.of), s.answers, size(s.bytes))
	}
	if g.cli.JSON {
		return nil
	}
	return t.flush()
}
