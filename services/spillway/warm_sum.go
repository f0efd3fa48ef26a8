package main

import (
	"encoding/json"
	"fmt"
	"time"

	"spillway/pkg/job"
)

// toldOfEach bounds how many lines of one status people are told of: an outage has thousands.
const toldOfEach = 20

// warmSums sums up how inputs ended.
type warmSums struct {
	started time.Time
	lines   int
	// called and fresh are in the cache: answered by a call just now, or before.
	called, fresh int
	// lost were answered, and are not kept.
	lost     int
	byStatus map[string]int // of those that are not in the cache, besides lost
	calls    int
	costUSD  float64
}

func newWarmSums() *warmSums { return &warmSums{started: time.Now(), byStatus: map[string]int{}} }

func (s *warmSums) add(end warmed) {
	s.lines++
	if end.result != nil {
		s.calls += end.result.Usage.Calls
		s.costUSD += end.result.CostUSD
	}
	switch {
	case end.cached && end.result.Source == job.FromCache:
		s.fresh++
	case end.cached:
		s.called++
	case end.status == string(job.Succeeded):
		s.lost++
	default:
		s.byStatus[end.status]++
	}
}

func (s *warmSums) inputs() int { return s.lines - s.byStatus[warmDuplicate] }

func (s *warmSums) cached() int { return s.called + s.fresh }

// note tells the person while the bar is out of the way.
func (w *warming) note(format string, args ...any) {
	_ = w.bar.aside(func() error { // a note has no error
		w.g.note(format, args...)
		return nil
	})
}

// show tells of one input: every one as JSON, people of those that are not in the cache.
func (w *warming) show(end warmed) error {
	w.tellOfOtherFiles(end.result)
	if w.g.cli.JSON {
		return w.bar.aside(func() error { return w.g.printJSON(end.row()) })
	}
	n := w.sums.byStatus[end.status]
	if end.status == string(job.Succeeded) {
		n = w.sums.lost
	}
	switch {
	case end.cached || end.status == warmDuplicate || n > toldOfEach:
	case n == toldOfEach:
		w.note("line %d: %s: %s (more that are %s are counted only; --json lists all)", end.line, end.status, oneLine(end.why), end.status)
	default:
		w.note("line %d: %s: %s", end.line, end.status, oneLine(end.why))
	}
	return nil
}

// warmedRow is an input as --json prints it.
type warmedRow struct {
	Line    int        `json:"line"`
	ID      string     `json:"id"`
	Key     string     `json:"key"`
	Status  string     `json:"status"`
	Source  job.Source `json:"source"`
	Cached  bool       `json:"cached"`
	Calls   int        `json:"calls"`
	CostUSD float64    `json:"cost_usd"`
	Why     string     `json:"why,omitempty"`
}

func (end warmed) row() warmedRow {
	row := warmedRow{Line: end.line, ID: end.id, Key: end.key, Status: end.status, Cached: end.cached, Why: end.why}
	if r := end.result; r != nil {
		row.Source, row.Calls, row.CostUSD = r.Source, r.Usage.Calls, r.CostUSD
	}
	return row
}

// tellOfOtherFiles says, once, that the answers are not those of the files here.
func (w *warming) tellOfOtherFiles(r *job.Result) {
	if w.told || r == nil || r.Status == job.Rejected || r.TaskVersion == w.t.Version {
		return
	}
	w.told = true
	if r.TaskVersion == w.simulated.Version {
		w.note("the pipeline is simulated: a real one will not find these answers")
		return
	}
	w.note("the pipeline works with version %s of the task, the files here are version %s: what it keeps is found by its version (--schemas names the files)", r.TaskVersion, w.t.Version)
}

// sum prints the sums: on standard output for people, beside the lines with --json.
func (w *warming) sum() error {
	s, took := w.sums, time.Since(w.sums.started)
	if w.g.cli.JSON {
		line := map[string]any{
			"event": "summary", "inputs": s.inputs(), "cached": s.cached(), "answered_by_call": s.called, "already_fresh": s.fresh, "not_kept": s.lost,
			"not_cached_by_status": s.notCached(), "duplicates": s.byStatus[warmDuplicate], "calls": s.calls, "cost_usd": s.costUSD, "took_ms": took.Milliseconds(),
		}
		_ = json.NewEncoder(w.g.stderr).Encode(line) // a closed standard error has no reader to miss it
		return nil
	}
	text := fmt.Sprintf("%s in %s: %d cached", count(s.inputs(), "input"), span(took), s.cached())
	if s.cached() > 0 {
		text += fmt.Sprintf(" (%d answered by a call, %d already fresh)", s.called, s.fresh)
	}
	part := func(n int, what string) {
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, what)
		}
	}
	for _, status := range []string{string(job.Degraded), string(job.Rejected), string(job.Failed), string(job.Cancelled)} {
		part(s.byStatus[status], status)
	}
	part(s.lost, "answered and not kept")
	part(s.byStatus[warmNoResult], "without a result")
	part(s.byStatus[warmNotSent], "not sent")
	if n := s.byStatus[warmDuplicate]; n > 0 {
		text += fmt.Sprintf("; %s left out", count(n, "duplicate"))
	}
	_, err := fmt.Fprintf(w.g.stdout, "%s; %s, $%.5f\n", text, count(s.calls, "call"), s.costUSD)
	return err
}

func (s *warmSums) notCached() map[string]int {
	byStatus := map[string]int{}
	for status, n := range s.byStatus {
		if status != warmDuplicate {
			byStatus[status] = n
		}
	}
	return byStatus
}

// finish prints the sums and decides the exit code.
func (w *warming) finish() error {
	if err := w.sum(); err != nil {
		return err
	}
	missing := w.sums.inputs() - w.sums.cached()
	switch {
	case w.sums.lines == 0 && len(w.t.Warm) > 0:
		w.g.note("no inputs were given; without --file those of the task's warm.jsonl are taken")
	case w.sums.byStatus[warmNotSent] > 0:
		return exit(exitFailed, "%d of %s not in the cache, %d of them not sent", missing, count(w.sums.inputs(), "input"), w.sums.byStatus[warmNotSent])
	case missing > 0:
		return exit(exitNotAnswered, "%d of %s not in the cache", missing, count(w.sums.inputs(), "input"))
	}
	return nil
}
