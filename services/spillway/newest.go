package main

import "fmt"

// limitFlag bounds a list.
type limitFlag struct {
	Limit int `help:"How many are listed, the newest of them; 0: all." default:"100" placeholder:"N"`
}

// checkLimit refuses what means nothing.
func (f limitFlag) checkLimit() error {
	if f.Limit < 0 {
		return exit(exitUsage, "--limit is 0 (all) or more")
	}
	return nil
}

// listing prints what a stream keeps of a kind: all of it, or the newest.
type listing[T interface{ row() map[string]any }] struct {
	// what are several of the kind; by is how --by counts them first.
	what, by string
	// limit is how many are listed, the newest; 0: all.
	limit int
	// read calls each for all, the oldest first.
	read func(each func(T) error) error
	// show prints a table.
	show func([]T) error
}

func (l *listing[T]) print(g *globals) error {
	if g.cli.JSON && l.limit == 0 {
		return l.read(func(one T) error { return g.printJSON(one.row()) })
	}
	kept, total, err := l.newest()
	if err != nil {
		return err
	}
	if g.cli.JSON {
		for _, one := range kept {
			if err := g.printJSON(one.row()); err != nil {
				return err
			}
		}
		return nil
	}
	if total == 0 {
		_, err := fmt.Fprintln(g.stdout, "no "+l.what)
		return err
	}
	if err := l.show(kept); err != nil {
		return err
	}
	if total > len(kept) {
		g.note("the newest %d of %d are shown (--limit 0: all; --by %s: counts)", len(kept), total, l.by)
	}
	return nil
}

// newest returns the last that are read, and how many there are.
func (l *listing[T]) newest() (kept []T, total int, err error) {
	err = l.read(func(one T) error {
		total++
		if kept = append(kept, one); l.limit > 0 && len(kept) == 2*l.limit {
			kept = kept[:copy(kept, kept[l.limit:])]
		}
		return nil
	})
	if l.limit > 0 && len(kept) > l.limit {
		kept = kept[len(kept)-l.limit:]
	}
	return kept, total, err
}
