package main

import (
	"context"
	"fmt"

	"spillway/pkg/broker"
)

// cacheRmCmd removes cached answers.
type cacheRmCmd struct {
	natsFlags
	Keys []string `arg:"" optional:"" name:"key" help:"Keys of the answers; or --all, with or without filters."`
	cacheFilter
	All    bool `env:"-" help:"All that the filters pick."`
	DryRun bool `env:"-" help:"Show what would be done, and do nothing."`
	Yes    bool `env:"-" help:"Remove more than one without asking back."`
}

func (c *cacheRmCmd) check() error {
	for _, key := range c.Keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	switch {
	case len(c.Keys) > 0 && (c.All || !c.isEmpty()):
		return exit(exitUsage, "keys and filters exclude each other")
	case len(c.Keys) == 0 && !c.All && !c.DryRun:
		return exit(exitUsage, "name keys, or say --all, with or without filters (--dry-run shows what that is)")
	}
	return c.cacheFilter.check()
}

// Run deletes the picked answers, by their sequence: one that was written meanwhile stays.
func (c *cacheRmCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	conn, err := c.open(ctx, g, "cache", broker.CacheStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	list, unknown, err := c.pick(ctx, conn)
	if err != nil {
		return err
	}
	for _, key := range unknown {
		g.note("nothing is kept under %s", key)
	}
	switch {
	case c.DryRun:
		return quiet(c.preview(g, list))
	case len(list) > 1 && !c.Yes:
		return exit(exitUsage, "that would remove %s for good: say --yes (--dry-run lists them)", count(len(list), "cached answer"))
	}
	if err := c.remove(ctx, g, conn, list); err != nil {
		return quiet(err)
	}
	if len(unknown) > 0 {
		return exit(exitNotFound, "%d of %s not found", len(unknown), count(len(c.Keys), "key"))
	}
	return nil
}

// pick reads the answers: of the keys, or of the filter. unknown are the keys under which nothing is kept.
func (c *cacheRmCmd) pick(ctx context.Context, conn *broker.Conn) (list []*entry, unknown []string, err error) {
	if len(c.Keys) == 0 {
		err = c.entries(ctx, conn, func(e *entry) error {
			list = append(list, e)
			return nil
		})
		return list, nil, err
	}
	seen := map[string]bool{}
	for _, key := range c.Keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		e, _, err := lastEntry(ctx, conn, key)
		switch {
		case isNotFound(err):
			unknown = append(unknown, key)
		case err != nil:
			return nil, nil, err
		default:
			list = append(list, e)
		}
	}
	return list, unknown, nil
}

func (c *cacheRmCmd) preview(g *globals, list []*entry) error {
	if g.cli.JSON {
		return g.entryLines(list, "would_remove")
	}
	if len(list) > 0 {
		if err := g.showEntries(list); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(g.stdout, "%s would be removed\n", count(len(list), "cached answer"))
	return err
}

func (c *cacheRmCmd) remove(ctx context.Context, g *globals, conn *broker.Conn, list []*entry) error {
	bar := g.newGauge(len(list), "removing")
	defer bar.done()
	for n, e := range list {
		asking, cancel := context.WithTimeout(ctx, patience)
		err := conn.Delete(asking, broker.CacheStream, e.sequence)
		cancel()
		if err != nil {
			return fmt.Errorf("remove the cached answer %s (%d of %d are removed): %w", e.key, n, len(list), unanswerable(err))
		}
		bar.add()
		if g.cli.JSON {
			if err := g.entryLines([]*entry{e}, "removed"); err != nil {
				return err
			}
		}
	}
	if g.cli.JSON {
		return nil
	}
	_, err := fmt.Fprintf(g.stdout, "%s removed\n", count(len(list), "cached answer"))
	return err
}
