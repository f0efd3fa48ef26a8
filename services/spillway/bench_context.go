package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"spillway/pkg/bench"
	"spillway/services"
)

// benchContextCmd measures what a long conversation costs.
type benchContextCmd struct {
	Turns   int           `help:"Turns of the session, one after the other." default:"500"`
	Budget  int           `help:"Most tokens of a prompt." default:"8000"`
	SVG     string        `name:"svg" env:"-" help:"Draw the tokens of each request into this file." placeholder:"FILE" type:"path"`
	Timeout time.Duration `help:"End without a report after this time." default:"10m"`
}

// Run measures, draws and prints.
func (c *benchContextCmd) Run(ctx context.Context, g *globals) error {
	o := bench.ContextOptions{
		Turns: c.Turns, Budget: c.Budget,
		Options: bench.Options{Stages: services.Pipeline(), Sync: time.Second, Getenv: g.getenv, Log: g.quietLogger()},
	}
	report, err := measure(ctx, c.Timeout, g, o.Options, func(ctx context.Context, shown bench.Options) (*bench.ContextReport, error) {
		o.Options = shown
		return bench.Context(ctx, o)
	})
	if err != nil {
		return err
	}
	built, err := measureBuilding(ctx)
	if err != nil {
		return err
	}
	if c.SVG != "" {
		var chart bytes.Buffer
		if err := report.Draw(&chart); err != nil {
			return err
		}
		if err := os.WriteFile(c.SVG, chart.Bytes(), 0o644); err != nil { //nolint:gosec // a picture for everybody
			return fmt.Errorf("write the picture: %w", err)
		}
	}
	if g.cli.JSON {
		err = g.printJSON(struct {
			*bench.ContextReport
			Building *building `json:"building"`
		}{report, built})
	} else {
		err = g.printContext(report, built)
	}
	return worth(err, report.Checks.OK() && report.Over == 0)
}

// shownTurns are the requests that are printed, beside the last and the one that fills the window.
func shownTurns() []int {
	return []int{1, 10, 25, 50, 100, 200, 300, 400, 500, 1000, 2000, 5000, 10_000}
}

func (g *globals) printContext(r *bench.ContextReport, b *building) error {
	g.printf("%s of one session, budget %s tokens a prompt, %d cores\n\n", count(r.Turns, "turn"), thousands(r.Budget), r.Cores)
	t := newTable(g.stdout, "request", "the provider counts", "counted before", "turns shown", "left out", "whole history")
	for n, q := range r.Requests {
		if !isShownTurn(r, n+1) {
			continue
		}
		t.row(thousands(n+1), thousands(q.Provider), thousands(q.Counted), known(q.Shown), known(q.LeftOut), thousands(q.Full))
	}
	if err := t.flush(); err != nil {
		return err
	}
	g.printf("\n")
	if r.FullFrom > 0 {
		least, most := r.Flat()
		g.printf("window   full from request %s on: %s to %s tokens since, as the provider counts\n", thousands(r.FullFrom), thousands(least), thousands(most))
	}
	g.printf("budget   exceeded by %s of %s\n", thousands(r.Over), count(len(r.Requests), "request"))
	g.printf("prompts  $%.4f; with the whole history $%.4f\n", r.CostUSD, r.FullCostUSD)
	g.printf("building %s tokens: %s ms with kept counts (p99 %s), %s ms when every text is counted for the first time\n",
		thousands(b.Tokens), trim(b.Kept.P50), trim(b.Kept.P99), trim(b.First.P50))
	g.printAnswers(&r.Checks)
	return nil
}

// isShownTurn reports whether the n-th request is one that is printed.
func isShownTurn(r *bench.ContextReport, n int) bool {
	return n == len(r.Requests) || n == r.FullFrom || slices.Contains(shownTurns(), n)
}
