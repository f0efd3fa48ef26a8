package main

import (
	"encoding/json"
	"fmt"
	"time"

	"spillway/pkg/job"
)

// tally sums up how runs ended.
type tally struct {
	started      time.Time
	acknowledged int // and not awaited
	faults       int // no result
	refused      int // replays that were not ordered
	byStatus     map[job.Status]int
	calls, late  int
	costUSD      float64
}

func newTally() *tally { return &tally{started: time.Now(), byStatus: map[job.Status]int{}} }

func (t *tally) add(r *job.Result) {
	t.byStatus[r.Status]++
	t.calls += r.Usage.Calls
	t.costUSD += r.CostUSD
	if r.Late {
		t.late++
	}
}

func (t *tally) total() int {
	n := t.acknowledged + t.faults + t.refused
	for _, k := range t.byStatus {
		n += k
	}
	return n
}

func (t *tally) unanswered() int {
	return t.byStatus[job.Rejected] + t.byStatus[job.Failed] + t.byStatus[job.Cancelled]
}

// summary prints the sums on standard error: standard output holds results alone.
func (g *globals) summary(t *tally) {
	took := time.Since(t.started)
	if g.cli.JSON {
		line := map[string]any{
			"event": "summary", "requests": t.total(), "took_ms": took.Milliseconds(), "by_status": t.byStatus,
			"acknowledged": t.acknowledged, "without_result": t.faults, "refused": t.refused, "late": t.late, "calls": t.calls, "cost_usd": t.costUSD,
		}
		_ = json.NewEncoder(g.stderr).Encode(line) // a closed standard error has no reader to miss it
		return
	}
	text := fmt.Sprintf("%s in %s", count(t.total(), "request"), span(took))
	sep := ": "
	part := func(n int, what string) {
		if n > 0 {
			text += fmt.Sprintf("%s%d %s", sep, n, what)
			sep = ", "
		}
	}
	for _, s := range []job.Status{job.Succeeded, job.Degraded, job.Rejected, job.Failed, job.Cancelled} {
		part(t.byStatus[s], string(s))
	}
	part(t.acknowledged, "acknowledged")
	part(t.faults, "without a result")
	part(t.refused, "refused")
	part(t.late, "late")
	if t.calls > 0 {
		text += fmt.Sprintf("; %s, $%.5f", count(t.calls, "call"), t.costUSD)
	}
	g.note("%s", text)
}
