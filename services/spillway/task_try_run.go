package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// tries are the calls of one command, and what came of them.
type tries struct {
	g      *globals
	c      *taskTryCmd
	sides  []*contender
	inputs []tryInput
	// rejected are the lines for which nobody is called.
	rejected []tryRejected
	money    purse
	bar      *gauge
	sums     *trySums

	mu sync.Mutex // guards bar, sums, and what is printed
}

// tried is what came of one input.
type tried struct {
	Line  int        `json:"line,omitempty"`
	Sides []*attempt `json:"sides"`
	// Differences are those of two outputs; nil: there are no two. Expected are those from the output that the case
	// expects, of each side.
	Differences []difference   `json:"differences"`
	Expected    [][]difference `json:"expected_differences,omitempty"`
}

func newTries(g *globals, c *taskTryCmd, sides []*contender, inputs []tryInput, rejected []tryRejected) *tries {
	return &tries{g: g, c: c, sides: sides, inputs: inputs, rejected: rejected, money: purse{left: c.MaxUSD}, sums: newTrySums(sides)}
}

// announce says, before anything is paid for, what is called and what that costs at most.
func (r *tries) announce() {
	if r.c.Simulate {
		r.g.note("the answers are simulated: costs are what real ones of this length would be, and nobody pays them")
		return
	}
	var names []string
	calls, most := 0, 0.0
	for _, side := range r.sides {
		names = append(names, side.model.ID)
		for _, in := range r.inputs {
			if p, err := side.prompt(in); err == nil {
				calls++
				most += side.most(p)
			}
		}
	}
	if calls > 1 {
		bound := ""
		if most > r.c.MaxUSD {
			bound = fmt.Sprintf("; no call is made that may make it more than --max-usd %g", r.c.MaxUSD)
		}
		r.g.note("%s of %s: at most $%.4f, had each answer its full length%s", count(calls, "call"), strings.Join(slices.Compact(names), " and "), most, bound)
	}
}

// one tries one input on all sides.
func (r *tries) one(ctx context.Context, in tryInput) (*tried, error) {
	d := &tried{Line: in.line}
	for _, side := range r.sides {
		a, err := side.try(ctx, in, &r.money)
		if err != nil {
			return d, err
		}
		d.Sides = append(d.Sides, a)
		if in.k != nil && in.k.Expect.Output != nil && a.isAccepted() {
			d.Expected = append(d.Expected, orEmpty(differencesOf(in.k.Expect.Output, a.Output)))
		}
	}
	if len(d.Sides) == 2 && d.Sides[0].isAccepted() && d.Sides[1].isAccepted() {
		d.Differences = orEmpty(differencesOf(d.Sides[0].Output, d.Sides[1].Output))
	}
	return d, nil
}

// runOne tries the argument.
func (r *tries) runOne(ctx context.Context) error {
	d, err := r.one(ctx, r.inputs[0])
	switch {
	case errors.Is(err, errSpent):
		return exit(exitFailed, "the call may cost more than --max-usd %g: raise it", r.c.MaxUSD)
	case err != nil && ctx.Err() != nil:
		return exit(exitInterrupted, "stopped during the call; it may have to be paid for")
	case err != nil:
		return err
	}
	if r.g.cli.JSON {
		err = r.g.printJSON(d)
	} else {
		err = r.show(d)
	}
	if err != nil {
		return err
	}
	for _, a := range d.Sides {
		switch {
		case a.Error != nil:
			return exit(exitFailed, "%s: there is no answer: %s: %s", a.Side, a.Error.Code, oneLine(a.Error.Message))
		case !a.isAccepted():
			return exit(exitNotAnswered, "%s: the answer is no output: %s", a.Side, a.Verdict)
		}
	}
	return nil
}

// runMany tries all lines, some at once.
func (r *tries) runMany(ctx context.Context) error {
	r.bar = r.g.newGauge(len(r.inputs), "trying "+r.c.Name)
	for _, no := range r.rejected {
		if err := r.showRejected(no); err != nil {
			return err
		}
	}
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(r.c.Parallel)
	for _, in := range r.inputs {
		if working.Err() != nil {
			break
		}
		group.Go(func() error {
			if working.Err() != nil {
				return nil
			}
			// The others end what they pay for when one finds the purse empty; Ctrl-C ends them all.
			d, err := r.one(ctx, in)
			if err != nil {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.sums.addSides(d) // what was paid for is told
				return err
			}
			return r.done(d)
		})
	}
	err := group.Wait()
	r.bar.done()
	if err != nil && !errors.Is(err, errSpent) && ctx.Err() == nil {
		return err
	}
	if err := r.sum(); err != nil {
		return err
	}
	left := len(r.inputs) - r.sums.inputs
	switch {
	case ctx.Err() != nil:
		return exit(exitInterrupted, "stopped; %s not tried to the end", count(left, "input"))
	case errors.Is(err, errSpent):
		return exit(exitFailed, "%s not tried: another call might have made it more than --max-usd %g; raise it", count(left, "input"), r.c.MaxUSD)
	case r.sums.isAllFailed():
		return exit(exitFailed, "no call had an answer")
	}
	return nil
}

// done adds what came of a line.
func (r *tries) done(d *tried) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bar.add()
	r.sums.add(d)
	return r.bar.aside(func() error {
		if r.g.cli.JSON {
			return r.g.printJSON(d)
		}
		return r.showLine(d)
	})
}
