package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"spillway/pkg/bench"
)

// inFlightLatency is long enough for all calls to be under way at once.
const inFlightLatency = 5 * time.Second

// inFlight measures many calls at once.
func (c *benchSpeedCmd) inFlight(ctx context.Context, g *globals) error {
	if err := c.ownServer("--in-flight"); err != nil {
		return err
	}
	o, err := c.options(g, inFlightLatency)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	o.Jobs, o.LatencyJobs = c.InFlight, 0
	o.Provider = []string{self, "fakellm", "--json", "--addr=127.0.0.1:0", "--latency=" + o.ModelLatency.String(), "--per-token=0s"}
	report, err := measure(ctx, c.Timeout, g, o, bench.InFlight)
	if err != nil {
		return err
	}
	if g.cli.JSON {
		err = g.printJSON(report)
	} else {
		err = g.printInFlight(report)
	}
	return worth(err, report.Checks.OK())
}

func (g *globals) printInFlight(r *bench.InFlightReport) error {
	g.printf("%s calls at once, texts of %s KB, %d cores, model latency %g ms, window %d, sync %s\n\n",
		thousands(r.Calls), trim(float64(r.PromptBytes)/1000), r.Cores, r.ModelMS, r.Window, r.Sync)
	t := newTable(g.stdout, "all at once", "seconds", "most in flight", "RSS a call", "live a call", "of bare client")
	for _, row := range []struct {
		name string
		a    *bench.AtOnce
	}{{"bare client", &r.Bare}, {"pipeline", &r.Pipeline}} {
		resident, ratio := "-", ""
		if row.a.Resident != nil {
			resident = kib(row.a.Resident)
		}
		if row.a == &r.Pipeline {
			ratio = fmt.Sprintf("%.2f x seconds", r.Ratio)
		}
		t.row(row.name, fmt.Sprintf("%.2f", row.a.Seconds), thousands(row.a.MaxInFlight), resident, kib(&row.a.Live), ratio)
	}
	if err := t.flush(); err != nil {
		return err
	}
	g.printf("\n")
	g.printAnswers(&r.Checks)
	g.printf("messages delivered again %d\n", r.Redeliveries)
	for _, m := range []struct {
		name string
		of   *bench.Growth
	}{{"RSS", r.Pipeline.Resident}, {"live heap and stacks", &r.Pipeline.Live}} {
		if m.of != nil {
			g.printf("memory   %s of the pipeline's process: %s before, %s at its peak\n", m.name, mib(m.of.Before), mib(m.of.Peak))
		}
	}
	if least := min(r.Bare.MaxInFlight, r.Pipeline.MaxInFlight); least < r.Calls {
		g.printf("Not all calls were in flight at once, so that what a call takes is told too low: a longer --model-latency gives them time.\n")
	}
	return nil
}

// kib is what a call takes.
func kib(m *bench.Growth) string { return fmt.Sprintf("%.1f KiB", m.PerCall/(1<<10)) }
