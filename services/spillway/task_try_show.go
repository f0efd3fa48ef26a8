package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"spillway/pkg/job"
)

// maxCell bounds a value in a table of differences, in bytes.
const maxCell = 60

// show prints what came of one input for a person.
func (r *tries) show(d *tried) error {
	for i, a := range d.Sides {
		if i > 0 {
			r.g.printf("\n")
		}
		if err := r.showAttempt(r.sides[i], a); err != nil {
			return err
		}
	}
	for i, differences := range d.Expected {
		r.g.printf("\n")
		if err := r.g.showDifferences(differences, "the case", d.Sides[i].Side); err != nil {
			return err
		}
	}
	if d.Differences == nil {
		return nil
	}
	r.g.printf("\n")
	return r.g.showDifferences(d.Differences, d.Sides[0].Side, d.Sides[1].Side)
}

func (r *tries) showAttempt(c *contender, a *attempt) error {
	t := newTable(r.g.stdout)
	t.row("task", fmt.Sprintf("%s, version %s", c.task.Name, a.Version))
	t.row("model", fmt.Sprintf("%s (%s)", a.Model, c.model.ID))
	switch {
	case a.Error != nil:
		t.row("no answer", fmt.Sprintf("%s: %s", a.Error.Code, a.Error.Message))
	case a.isAccepted():
		t.row("verdict", verdictOf(a))
	default:
		t.row("verdict", a.Verdict+": "+a.Next)
	}
	for _, f := range a.Faults {
		t.row("fault", f.String())
	}
	for _, note := range a.Notes {
		t.row("changed", note)
	}
	if a.AnsweredBy != "" {
		text := a.AnsweredBy
		if a.Stranger {
			text += ", not " + c.model.AnswersAs + ", which models.yaml names (answers_as)"
		}
		t.row("answered by", text)
	}
	t.row("time", fmt.Sprintf("%s, first token after %s", took(a.TookMS), took(a.FirstTokenMS)))
	t.row("cost", costOf(a.CostUSD, job.Usage{InputTokens: a.InputTokens, OutputTokens: a.OutputTokens, Calls: a.Calls})+fmt.Sprintf("; the prompt was counted as %d", a.CountedTokens))
	if err := t.flush(); err != nil {
		return err
	}
	if a.Error != nil {
		return nil
	}
	r.g.printf("answer\n%s\n", indent(harmless(cmp.Or(a.Raw, a.Refusal))))
	if a.isAccepted() && a.Recovery != job.RecoveryStrict {
		r.g.printf("output\n%s\n", indent(pretty(a.Output)))
	}
	return nil
}

// verdictOf says of an accepted answer how it was won.
func verdictOf(a *attempt) string {
	if a.Recovery == job.RecoveryStrict {
		return "accepted, as it came"
	}
	return "accepted, " + a.Recovery
}

// String is for a person.
func (f attemptFault) String() string {
	text := f.Message
	if f.Got != "" {
		text += ", got " + f.Got
	}
	return strings.TrimPrefix(f.Pointer+": "+text, ": ")
}

// showDifferences prints where two outputs differ.
func (g *globals) showDifferences(list []difference, first, second string) error {
	if len(list) == 0 {
		g.printf("the outputs are the same: %s, %s\n", first, second)
		return nil
	}
	t := newTable(g.stdout, "differs at", first, second)
	for _, d := range list {
		t.row(cmp.Or(d.Pointer, "(the whole)"), cell(d.First), cell(d.Second))
	}
	return t.flush()
}

func cell(value json.RawMessage) string { return dash(job.Cut(oneLine(string(value)), maxCell)) }

// showRejected tells of a line that no request may have.
func (r *tries) showRejected(no tryRejected) error {
	if r.g.cli.JSON {
		return r.g.printJSON(map[string]any{"line": no.line, "rejected": no.err.Error()})
	}
	r.g.note("line %d: %s", no.line, oneLine(no.err.Error()))
	return nil
}

// showLine tells people of the lines that are not as they should be: of the others the sums say enough.
func (r *tries) showLine(d *tried) error {
	for _, a := range d.Sides {
		switch {
		case a.Error != nil:
			r.told(a.Side+string(a.Error.Code), "line %d, %s: no answer: %s: %s", d.Line, a.Side, a.Error.Code, oneLine(a.Error.Message))
		case !a.isAccepted():
			var faults []string
			for _, f := range a.Faults {
				faults = append(faults, f.String())
			}
			r.told(a.Side+a.Verdict, "line %d, %s: %s: %s", d.Line, a.Side, a.Verdict, oneLine(job.Cut(strings.Join(faults, "; "), job.MaxDetail)))
		}
	}
	if len(d.Differences) > 0 {
		var places []string
		for _, one := range d.Differences {
			places = append(places, fmt.Sprintf("%s %s / %s", cmp.Or(one.Pointer, "(the whole)"), cell(one.First), cell(one.Second)))
		}
		r.told("differs", "line %d differs: %s", d.Line, job.Cut(strings.Join(places, "; "), job.MaxDetail))
	}
	return nil
}

// told notes something of one kind, unless enough of its kind was told.
func (r *tries) told(kind, format string, args ...any) {
	r.sums.told[kind]++
	switch n := r.sums.told[kind]; {
	case n < toldOfEach:
		r.g.note(format, args...)
	case n == toldOfEach:
		r.g.note(format+" (more of this kind are counted only; --json lists all)", args...)
	}
}
