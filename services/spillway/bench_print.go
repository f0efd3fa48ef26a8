package main

import (
	"fmt"
	"slices"
	"strings"

	"spillway/pkg/bench"
)

// printBench writes a report for a person.
func (g *globals) printBench(r *bench.Report) error {
	g.printf("%s jobs of %s KB, task %s, %d cores, model latency %g ms, window %d, server %s%s\n\n",
		thousands(r.Jobs), trim(float64(r.PromptBytes)/1000), r.Task, r.Cores, r.ModelMS, r.Window, r.Server, syncOf(r))
	if err := g.printThroughput(r); err != nil {
		return err
	}
	if r.PipelineLatency != nil {
		g.printf("\n")
		if err := g.printLatency(r); err != nil {
			return err
		}
	}
	g.printf("\n")
	g.printChecks(r)
	return nil
}

func syncOf(r *bench.Report) string {
	if r.Sync == "" {
		return ""
	}
	return ", sync " + r.Sync
}

func (g *globals) printThroughput(r *bench.Report) error {
	t := newTable(g.stdout, "burst", "jobs/s", "CPU-s/1,000", "redelivered", "of relay with call")
	for _, row := range []struct {
		name string
		t    *bench.Throughput
	}{{"relay, no call", r.Relay}, {"relay with call", r.RelayWithCall}, {"pipeline", r.Pipeline}} {
		if row.t == nil {
			continue
		}
		cpu, ratio := "-", ""
		if row.t.CPUPer1000 > 0 {
			cpu = fmt.Sprintf("%.2f", row.t.CPUPer1000)
		}
		if row.t == r.Pipeline && r.RatioJobs > 0 {
			ratio = fmt.Sprintf("%.2f x jobs/s", r.RatioJobs)
			if r.RatioCPU > 0 {
				ratio += fmt.Sprintf(", %.2f x CPU", r.RatioCPU)
			}
		}
		t.row(row.name, thousands(int(row.t.JobsPerSecond)), cpu, row.t.Redeliveries, ratio)
	}
	return t.flush()
}

func (g *globals) printLatency(r *bench.Report) error {
	t := newTable(g.stdout, fmt.Sprintf("added at %g jobs/s", r.Rate), "p50 ms", "p95 ms", "p99 ms")
	for _, row := range []struct {
		name string
		s    *bench.Spread
	}{{"relay with call", r.RelayLatency}, {"pipeline", r.PipelineLatency}} {
		if row.s != nil {
			t.row(row.name, fmt.Sprintf("%.1f", row.s.P50), fmt.Sprintf("%.1f", row.s.P95), fmt.Sprintf("%.1f", row.s.P99))
		}
	}
	return t.flush()
}

func (g *globals) printChecks(r *bench.Report) {
	g.printAnswers(&r.Checks)
	if m := r.Memory; m != nil && m.PeakRSSBytes > 0 {
		since := ""
		if !m.ResetRSS {
			since = " since the process began"
		}
		g.printf("memory   peak RSS %s%s, heap %s\n", size(int(m.PeakRSSBytes)), since, size(int(m.HeapPeakBytes)))
	}
	if s := r.Storage; s != nil {
		g.printf("bytes    %s a job kept%s\n", thousands(int(s.KeptTotal)), keptOf(s))
		if s.Published > 0 {
			g.printf("         %s a job sent by the pipeline\n", thousands(int(s.Published)))
		}
	}
}

func (g *globals) printAnswers(c *bench.Checks) {
	g.printf("answers  %s jobs, %s results; missing %d, repeated %d, not succeeded %d, another job's %d (known by %s)\n",
		thousands(c.Jobs), thousands(c.Results), c.Missing, c.Repeated, c.Failed, c.Foreign, c.OwnBy)
	g.printf("calls    %s; paid twice %d\n", thousands(c.Calls), c.PaidTwice)
	for _, example := range c.Examples {
		g.printf("         %s\n", harmless(example))
	}
}

// keptOf lists what the streams keep, the most first.
func keptOf(s *bench.Storage) string {
	var streams []string
	for name := range s.Kept {
		streams = append(streams, name)
	}
	slices.SortFunc(streams, func(a, b string) int { return int(s.Kept[b]) - int(s.Kept[a]) })
	parts := make([]string, len(streams))
	for i, name := range streams {
		parts[i] = name + " " + thousands(int(s.Kept[name]))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// thousands writes 12,345.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// trim writes a number without needless zeros.
func trim(f float64) string { return fmt.Sprintf("%g", f) }
