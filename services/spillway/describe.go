package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// showResult prints a result for a person.
func (g *globals) showResult(r *job.Result) error {
	t := newTable(g.stdout)
	t.row("status", statusOf(r))
	t.row("id", fmt.Sprintf("%s (task %s, run %d)", r.ID, r.Task, r.Run))
	t.row("time", timeOf(r))
	if r.Source != "" {
		t.row("source", sourceOf(r))
	}
	if r.Recovery != "" {
		t.row("recovery", r.Recovery)
	}
	if r.Usage.Calls > 0 {
		t.row("cost", costOf(r.CostUSD, r.Usage))
	}
	if e := r.Error; e != nil {
		t.row("error", fmt.Sprintf("%s: %s", e.Code, e.Message))
		for _, reason := range e.Reasons {
			t.row("reason", reasonOf(reason))
		}
		if len(e.Reasons) == 0 && e.Pointer != "" {
			t.row("at", e.Pointer)
		}
		if e.DeadLetter != "" {
			t.row("dead letter", fmt.Sprintf("%s (`spillway dead show %s`)", e.DeadLetter, r.ID))
		}
		if remedy := remedyOf(e.Code); remedy != "" {
			t.row("remedy", remedy)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(r.Output) == 0 || string(r.Output) == "null" {
		return nil
	}
	_, err := fmt.Fprintf(g.stdout, "output\n%s\n", indent(pretty(r.Output)))
	return err
}

func statusOf(r *job.Result) string {
	text := string(r.Status)
	if d := r.Degraded; d != nil {
		text += fmt.Sprintf(" (%s: %s", d.Rung, d.Reason)
		if d.AgeMS > 0 {
			text += ", age " + span(time.Duration(d.AgeMS)*time.Millisecond)
		}
		text += ")"
	}
	if r.Late {
		text += ", after its deadline"
	}
	return text
}

func timeOf(r *job.Result) string {
	return span(r.FinishedAt.Sub(r.AcknowledgedAt))
}

func sourceOf(r *job.Result) string {
	text := string(r.Source)
	if r.Model != "" {
		text += " " + r.Model
	}
	if r.AnsweredBy != "" && r.AnsweredBy != r.Model {
		text += " (answered by " + r.AnsweredBy + ")"
	}
	return text
}

func costOf(usd float64, u job.Usage) string {
	return fmt.Sprintf("$%.5f (%s, %d tokens in, %d out)", usd, count(u.Calls, "call"), u.InputTokens, u.OutputTokens)
}

func reasonOf(r fate.Reason) string {
	if r.Pointer == "" {
		return r.Message
	}
	return r.Pointer + ": " + r.Message
}

func remedyOf(code fate.Code) string {
	for _, d := range fate.Codes() {
		if d.Code == code {
			return d.Remedy
		}
	}
	return ""
}

// pretty indents JSON; of a text it is the text itself.
func pretty(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return harmless(text)
	}
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return harmless(string(raw))
	}
	return harmless(b.String())
}

// brief is a result in one line.
func brief(r *job.Result) string {
	parts := []string{fmt.Sprintf("%-9s", r.Status), r.Task, r.ID, timeOf(r)}
	if r.Run > 1 {
		parts = append(parts, fmt.Sprintf("run %d", r.Run))
	}
	switch {
	case r.Error != nil:
		parts = append(parts, fmt.Sprintf("%s: %s", r.Error.Code, r.Error.Message))
	case r.Degraded != nil:
		parts = append(parts, fmt.Sprintf("%s (%s)", r.Degraded.Rung, r.Degraded.Reason), string(r.Output))
	default:
		parts = append(parts, r.Model, string(r.Output))
	}
	return job.Cut(oneLine(strings.Join(parts, "  ")), 240)
}

// unanswered is the error of a run that ended without an output; nil for the others.
func unanswered(r *job.Result) error {
	switch r.Status {
	case job.Rejected, job.Failed, job.Cancelled:
	default:
		return nil
	}
	if r.Error != nil {
		return exit(exitNotAnswered, "%s was %s: %s", r.ID, r.Status, r.Error.Code)
	}
	return exit(exitNotAnswered, "%s was %s", r.ID, r.Status)
}

// showHistory prints what happened to a job, a line an event.
func (g *globals) showHistory(events []job.Event) error {
	t := newTable(g.stdout, "run", "at", "kind", "where", "queued", "took", "tokens", "outcome")
	for _, e := range events {
		t.row(max(e.Run, 1), e.At.Local().Format("15:04:05.000"), e.Kind, whereOf(e), ms(e.QueuedMS), ms(e.TookMS), tokensOf(e), dash(outcomeOf(e)))
	}
	return t.flush()
}

func ms(n int64) string {
	if n == 0 {
		return "-"
	}
	return span(time.Duration(n) * time.Millisecond)
}

func whereOf(e job.Event) string {
	var parts []string
	if e.Stage != "" {
		parts = append(parts, e.Stage)
	}
	if e.Rung != "" && e.Rung != "model" {
		parts = append(parts, e.Rung)
	}
	if e.Model != "" {
		parts = append(parts, e.Model)
	}
	if e.Kind == job.KindCall && e.N > 0 {
		parts = append(parts, fmt.Sprintf("#%d", e.N))
	}
	return strings.Join(parts, " ")
}

func tokensOf(e job.Event) string {
	if e.InputTokens == 0 && e.OutputTokens == 0 {
		return "-"
	}
	return fmt.Sprintf("%d+%d", e.InputTokens, e.OutputTokens)
}

func outcomeOf(e job.Event) string {
	var parts []string
	for _, p := range []string{e.Outcome, e.Fate, string(e.Code)} {
		if p != "" && (len(parts) == 0 || parts[len(parts)-1] != p) {
			parts = append(parts, p)
		}
	}
	text := strings.Join(parts, " ")
	if e.Detail != "" {
		text = strings.TrimPrefix(text+": "+e.Detail, ": ")
	}
	return text
}
