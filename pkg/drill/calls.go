package drill

import (
	"context"
	"slices"
	"time"

	"spillway/pkg/task"
)

// Model is what one model and its breaker did.
type Model struct {
	Name string `json:"model"`
	// Failing is how long it failed; HalfOpenAfter is its breaker's.
	Failing       Span `json:"failing"`
	HalfOpenAfter Span `json:"half_open_after"`
	// Calls arrived while it failed: ToOpen before its breaker opened, Probes after that, which was open for
	// so many half-open periods until the provider recovered.
	Calls   int     `json:"calls_while_failing"`
	ToOpen  int     `json:"calls_until_open"`
	Probes  int     `json:"calls_while_open"`
	Periods float64 `json:"half_open_periods"`
	// OpenedAfter is the time from the first call that failed to the breaker's opening; nil: it did not open.
	// ClosedAfter is that from the provider's recovery to its closing, negative when it closed before; nil: it
	// has not closed.
	OpenedAfter *Span `json:"opened_after,omitempty"`
	ClosedAfter *Span `json:"closed_after,omitempty"`
	// AskedSince is false for a model that nobody has asked since the provider recovered.
	AskedSince bool `json:"asked_since_recovery"`
}

// reportCalls asks the provider what it counted.
func (d *drill) reportCalls(ctx context.Context, r *Report) error {
	var seen []string
	for _, name := range modelsOf(d.task) {
		m := d.Tasks.Models[name]
		if m == nil || slices.Contains(seen, name) {
			continue
		}
		seen = append(seen, name)
		arrivals, err := d.Provider.Arrivals(ctx, m.ID)
		if err != nil {
			return err
		}
		r.Calls += len(arrivals)
		if told := d.model(m, arrivals); told != nil {
			r.Models = append(r.Models, *told)
		}
	}
	return nil
}

// model tells of one model; nil: its time to fail had not come.
func (d *drill) model(m *task.Model, arrivals []time.Time) *Model {
	fails := 2 // the act in which all do
	if m.Name == d.task.Model {
		fails = 1
	}
	if len(d.began) <= fails {
		return nil
	}
	from, back := d.began[fails].Truncate(time.Millisecond), time.Now()
	if len(d.began) == len(d.acts) {
		back = d.began[len(d.acts)-1]
	}
	told := &Model{Name: m.Name, Failing: d.span(back.Sub(from)), HalfOpenAfter: d.span(m.Breaker.HalfOpenAfter)}
	failing := within(arrivals, from, back)
	told.Calls, told.ToOpen = len(failing), len(failing)
	told.AskedSince = len(within(arrivals, back, time.Now())) > 0
	if len(failing) == 0 {
		return told
	}
	d.tellOpening(told, m, failing, back)
	return told
}

// tellOpening adds what the breaker did since the first call that failed.
func (d *drill) tellOpening(told *Model, m *task.Model, failing []time.Time, back time.Time) {
	var opened, closed time.Time
	for _, c := range d.ear.changesOf(m.Name) {
		switch {
		case c.at.Before(failing[0]):
		case c.state == stateOpen && opened.IsZero() && c.at.Before(back):
			opened = c.at
			after := d.span(opened.Sub(failing[0]))
			told.OpenedAfter = &after
		case c.state == stateClosed && !opened.IsZero():
			closed = c.at
		case c.state == stateOpen:
			closed = time.Time{}
		}
	}
	if opened.IsZero() {
		return
	}
	probes := within(failing, opened, back)
	told.Probes, told.ToOpen = len(probes), len(failing)-len(probes)
	told.Periods = float64(back.Sub(opened)) / float64(m.Breaker.HalfOpenAfter)
	if !closed.IsZero() {
		after := d.span(closed.Sub(back))
		told.ClosedAfter = &after
	}
}

// within are the moments from one until before another.
func within(all []time.Time, from, to time.Time) []time.Time {
	var some []time.Time
	for _, at := range all {
		if !at.Before(from) && at.Before(to) {
			some = append(some, at)
		}
	}
	return some
}
