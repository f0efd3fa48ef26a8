package main

import (
	"context"
	"fmt"

	"spillway/pkg/broker"
)

// deadPick says which letters a command is about: ids, or a filter with --all.
type deadPick struct {
	IDs []string `arg:"" optional:"" name:"id" help:"Ids of the jobs; or --all, with or without filters."`
	deadFilter
	All    bool `env:"-" help:"All that the filters pick."`
	DryRun bool `env:"-" help:"Show what would be done, and do nothing."`
}

func (p deadPick) check() error {
	for _, id := range p.IDs {
		if err := checkID(id); err != nil {
			return err
		}
	}
	switch {
	case len(p.IDs) > 0 && (p.All || !p.isEmpty()):
		return exit(exitUsage, "ids and filters exclude each other")
	case len(p.IDs) == 0 && !p.All && !p.DryRun:
		return exit(exitUsage, "name ids, or say --all, with or without filters (--dry-run shows what that is)")
	}
	return p.deadFilter.check()
}

// pick reads the letters: of the ids, or of the filter. An id without one has none in the list.
func (p deadPick) pick(ctx context.Context, conn *broker.Conn) ([]*letter, error) {
	var list []*letter
	add := func(l *letter) error {
		list = append(list, l)
		return nil
	}
	if len(p.IDs) == 0 {
		return list, p.letters(ctx, conn, add)
	}
	return list, lettersOf(ctx, conn, p.IDs, add)
}

// deadRmCmd removes dead letters.
type deadRmCmd struct {
	natsFlags
	deadPick
	Yes bool `env:"-" help:"Remove more than one without asking back."`
}

// Run deletes the picked letters, by their sequence: one that replaced a picked one stays.
func (c *deadRmCmd) Run(ctx context.Context, g *globals) error {
	if err := c.deadPick.check(); err != nil {
		return err
	}
	conn, err := c.open(ctx, g, "dead", broker.DeadStream)
	if err != nil {
		return err
	}
	defer conn.Close()
	list, err := c.pick(ctx, conn)
	if err != nil {
		return err
	}
	unknown := without(c.IDs, list)
	for _, id := range unknown {
		g.note("no dead letter of %s is kept", id)
	}
	switch {
	case c.DryRun:
		return quiet(c.preview(g, list))
	case len(list) > 1 && !c.Yes:
		return exit(exitUsage, "that would remove %s for good: say --yes (--dry-run lists them)", count(len(list), "dead letter"))
	}
	if err := c.remove(ctx, g, conn, list); err != nil {
		return quiet(err)
	}
	if len(unknown) > 0 {
		return exit(exitNotFound, "%d of %s not found", len(unknown), count(len(c.IDs), "id"))
	}
	return nil
}

func (c *deadRmCmd) preview(g *globals, list []*letter) error {
	if g.cli.JSON {
		for _, l := range list {
			row := l.row()
			row["event"] = "would_remove"
			if err := g.printJSON(row); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) > 0 {
		if err := g.showLetters(list); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(g.stdout, "%s would be removed\n", count(len(list), "dead letter"))
	return err
}

func (c *deadRmCmd) remove(ctx context.Context, g *globals, conn *broker.Conn, list []*letter) error {
	bar := g.newGauge(len(list), "removing")
	defer bar.done()
	for n, l := range list {
		asking, cancel := context.WithTimeout(ctx, patience)
		err := conn.Delete(asking, broker.DeadStream, l.sequence)
		cancel()
		if err != nil {
			return fmt.Errorf("remove the dead letter of %s (%d of %d are removed): %w", l.id, n, len(list), unanswerable(err))
		}
		bar.add()
		if g.cli.JSON {
			row := l.row()
			row["event"] = "removed"
			if err := g.printJSON(row); err != nil {
				return err
			}
		}
	}
	if g.cli.JSON {
		return nil
	}
	_, err := fmt.Fprintf(g.stdout, "%s removed\n", count(len(list), "dead letter"))
	return err
}

// without returns the ids that no letter of the list is of.
func without(ids []string, list []*letter) []string {
	kept := map[string]bool{}
	for _, l := range list {
		kept[l.id] = true
	}
	var missing []string
	for _, id := range ids {
		if !kept[id] {
			missing = append(missing, id)
		}
	}
	return missing
}
