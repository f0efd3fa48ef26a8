package main

import (
	"fmt"
	"strings"
	"time"

	"spillway/pkg/drill"
)

// printPlan says before the drill what it does, and what is not as it will be.
func (g *globals) printPlan(o *drill.Options, nats string) {
	g.printf("The night of the incident, rehearsed: task %s, %s requests, a simulated provider.\n", o.Task, thousands(o.Requests))
	switch {
	case nats != "":
		g.printf("The pipeline is your own, and the night lasts as long as it does: about 20 minutes.\n\n")
	default:
		g.printf("Time goes by %s times as fast, for all settings too: %s.\nThe times below are the night's.\n\n", trim(o.Speed), strings.Join(hurried(o), ", "))
	}
}

// hurried tells the times that matter most, as they are written and as they are in the drill.
func hurried(o *drill.Options) []string {
	before, after := o.Tasks, o.Tasks.Hurried(o.Speed)
	t, fast := before.Tasks[o.Task], after.Tasks[o.Task]
	m, quick := before.Models[t.Model], after.Models[t.Model]
	first, soon := m.Timeouts.FirstToken, quick.Timeouts.FirstToken
	if t.Timeouts.FirstToken > 0 {
		first, soon = t.Timeouts.FirstToken, fast.Timeouts.FirstToken
	}
	var all []string
	for _, row := range []struct {
		what        string
		was, became time.Duration
	}{
		{"deadline", t.Deadline.Default, fast.Deadline.Default},
		{"first_token", first, soon},
		{"half_open_after", m.Breaker.HalfOpenAfter, quick.Breaker.HalfOpenAfter},
	} {
		all = append(all, fmt.Sprintf("%s %s is %s", row.what, short(row.was), span(row.became)))
	}
	return all
}

// printDrill writes what was found for a person.
func (g *globals) printDrill(r *drill.Report) error {
	if err := g.printActs(r); err != nil {
		return err
	}
	g.printf("\n")
	if err := g.printEndings(r); err != nil {
		return err
	}
	if len(r.Models) > 0 {
		g.printf("\n")
		if err := g.printModels(r); err != nil {
			return err
		}
	}
	g.printf("\n")
	if r.LiveAgain != nil {
		g.printf("The first live answer came %s after the provider's recovery. ", span(r.LiveAgain.Night()))
	}
	g.printf("%s calls in all: $%.2f, had they been real.\n", thousands(r.Calls), r.CostUSD)
	if r.OwnBy != "nonce" {
		g.printf("Whose answer it is was told by metadata alone: this task's answers have no text with room for more.\n")
	}
	if r.NotTaken != "" {
		g.printf("%s requests were not acknowledged: %s\n", thousands(r.Requests-r.All.Acknowledged), harmless(r.NotTaken))
	}
	for _, example := range r.Examples {
		g.printf("  %s\n", harmless(example))
	}
	if r.OK() && !r.Cut {
		g.printf("Every one of %s acknowledged requests has one result, its own, in time.\n", thousands(r.All.Acknowledged))
	}
	return nil
}

// printActs shows the night, an act a line.
func (g *globals) printActs(r *drill.Report) error {
	head := []string{"night", "the provider", "requests", "live", "cache", "other model", "canned", "failed", "lost"}
	t := newTable(g.stdout, head...)
	line := func(from, what string, e *drill.Endings, none string) {
		cells := []any{from, what}
		for i, n := range []int{e.Acknowledged, e.Live, e.Cache, e.Model, e.Canned, e.Failed + e.Rejected + e.Cancelled, e.Lost} {
			text := thousands(n)
			if n == 0 {
				text = none
			}
			cells = append(cells, fmt.Sprintf("%*s", len(head[i+2]), text))
		}
		t.row(cells...)
	}
	for i := range r.Acts {
		a := &r.Acts[i]
		line(a.From, a.What, &a.Endings, "-")
	}
	line("all", "", &r.All, "0")
	return t.flush()
}

// printEndings is the sum of it.
func (g *globals) printEndings(r *drill.Report) error {
	e, p := &r.All, &r.Replay
	t := newTable(g.stdout)
	line := func(what string, n int, detail string) {
		cells := []any{"  " + what, fmt.Sprintf("%7s", thousands(n))}
		if detail != "" {
			cells = append(cells, detail)
		}
		t.row(cells...)
	}
	line("acknowledged", e.Acknowledged, "")
	line("answered live", e.Live, "")
	stand := ""
	if e.Degraded() > 0 {
		stand = fmt.Sprintf("and saying so: %s from the cache, %s by another model, %s canned", thousands(e.Cache), thousands(e.Model), thousands(e.Canned))
	}
	line("answered by a stand-in", e.Degraded(), stand)
	line("failed, saying why", e.Failed+e.Rejected+e.Cancelled, "")
	line("lost", e.Lost, "")
	line("late", e.Late+p.Endings.Late, "")
	line("answered twice", e.Repeated+p.Endings.Repeated, "")
	line("given another's answer", e.Foreign+p.Endings.Foreign, "")
	line("replayed afterwards", p.Ordered, replayWords(r))
	return t.flush()
}

func replayWords(r *drill.Report) string {
	p := &r.Replay
	var words []string
	if p.Ordered > 0 {
		words = append(words, fmt.Sprintf("%s with a real answer: %s of %s have one now", thousands(p.Answered), thousands(r.Answered()), thousands(r.All.Acknowledged)))
	}
	if p.Endings.Lost > 0 {
		words = append(words, thousands(p.Endings.Lost)+" lost")
	}
	if p.NotKept > 0 {
		words = append(words, thousands(p.NotKept)+" more have no dead letter (keep_degraded)")
	}
	return strings.Join(words, "; ")
}

// printModels shows what each model was asked while it failed.
func (g *globals) printModels(r *drill.Report) error {
	t := newTable(g.stdout, "model", "failed for", "calls", "breaker opened", "calls while it was open", "closed again")
	for i := range r.Models {
		m := &r.Models[i]
		opened, open, closed := "never", "-", "-"
		if m.OpenedAfter != nil {
			opened = fmt.Sprintf("after %s, call %d", span(m.OpenedAfter.Night()), m.ToOpen)
			open = fmt.Sprintf("%d in %.1f half-open periods of %s", m.Probes, m.Periods, short(m.HalfOpenAfter.Night()))
			closed = closedWords(m)
		}
		t.row(m.Name, short(m.Failing.Night().Round(time.Second)), fmt.Sprintf("%5d", m.Calls), opened, open, closed)
	}
	return t.flush()
}

func closedWords(m *drill.Model) string {
	switch {
	case m.ClosedAfter == nil && !m.AskedSince:
		return "not asked since"
	case m.ClosedAfter == nil:
		return "not yet"
	case m.ClosedAfter.MS < 0:
		return "before the recovery"
	}
	return span(m.ClosedAfter.Night()) + " after recovery"
}
