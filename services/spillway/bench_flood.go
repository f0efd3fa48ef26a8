package main

import (
	"context"
	"fmt"
	"time"

	"spillway/pkg/bench"
)

const (
	// floodLatency keeps the flood waiting without keeping the measurement waiting.
	floodLatency = 200 * time.Millisecond
	// floodSettle lets admission come to rest behind the flood's begin.
	floodSettle = 3 * time.Second
)

// flood measures interactive jobs beside batch requests.
func (c *benchSpeedCmd) flood(ctx context.Context, g *globals) error {
	if err := c.ownServer("--flood"); err != nil {
		return err
	}
	o, err := c.options(g, floodLatency)
	if err != nil {
		return err
	}
	o.Jobs, o.Settle = c.Flood, floodSettle
	report, err := measure(ctx, c.Timeout, g, o, bench.Flood)
	if err != nil {
		return err
	}
	if g.cli.JSON {
		err = g.printJSON(report)
	} else {
		err = g.printFlood(report)
	}
	return worth(err, report.OK())
}

func (g *globals) printFlood(r *bench.FloodReport) error {
	g.printf("%s batch requests of %s KB, %d cores, model latency %g ms, window %d, sync %s\n\n",
		thousands(r.Batch.Requests), trim(float64(r.PromptBytes)/1000), r.Cores, r.ModelMS, r.Window, r.Sync)
	t := newTable(g.stdout, fmt.Sprintf("interactive at %g jobs/s", r.Rate), "p50 ms", "p99 ms", "more p50", "more p99", "batch jobs/s", "batch waiting")
	t.row("alone", tenth(r.Alone.P50), tenth(r.Alone.P99), "", "", "", "")
	for _, row := range []struct {
		name string
		f    *bench.FloodRound
	}{{"the flood begins", &r.Begins}, {"the flood goes on", &r.Steady}} {
		t.row(row.name, tenth(row.f.Latency.P50), tenth(row.f.Latency.P99), signed(row.f.MoreP50), signed(row.f.MoreP99),
			thousands(int(row.f.BatchPerSecond)), thousands(row.f.BatchWaiting))
	}
	if err := t.flush(); err != nil {
		return err
	}
	g.printf("\n")
	g.printAnswers(&r.Checks)
	b := &r.Batch
	g.printf("batch    %s of %s answered; repeated %d, not succeeded %d, another job's %d; paid twice %d\n",
		thousands(b.Answered), thousands(b.Requests), b.Repeated, b.Failed, b.Foreign, b.PaidTwice)
	if b.Refused > 0 {
		g.printf("         %s publishes found the stream full and were repeated\n", thousands(b.Refused))
	}
	for _, example := range b.Examples {
		g.printf("         %s\n", harmless(example))
	}
	if r.Steady.BatchWaiting == 0 {
		g.printf("The flood was over before the measurement was: take a greater one.\n")
	}
	return nil
}

// tenth writes milliseconds as far as they are of interest.
func tenth(ms float64) string { return fmt.Sprintf("%.1f", ms) }

func signed(ms float64) string { return fmt.Sprintf("%+.1f", ms) }
