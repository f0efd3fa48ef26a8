package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/lint"
	"spillway/pkg/schema"
	"spillway/pkg/session"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	contextbuilder "spillway/services/context-builder"
	"spillway/services/validator"
)

// trial puts the cases of a task through the stages that need no model.
type trial struct {
	task    *task.Task
	prompts *contextbuilder.Previewer
	judge   *validator.Handler
	found   []lint.Finding
}

// tryCases reports cases whose prompt can not be made, or of whose answers something else comes than they expect, and
// models that prompts do not fit. The task has no faults.
func tryCases(ctx context.Context, t *task.Task) []lint.Finding {
	judge, err := validator.New(&stage.Env{Tasks: &task.Set{Tasks: map[string]*task.Task{t.Name: t}, Models: t.Models}})
	if err != nil {
		return []lint.Finding{{Fault: task.Fault{File: t.Path(""), Message: err.Error()}, Severity: lint.Fault}}
	}
	tr := &trial{task: t, prompts: contextbuilder.NewPreviewer(), judge: judge}
	for _, k := range t.Cases {
		tr.prompt(k)
		tr.answers(ctx, k)
	}
	tr.windows()
	return tr.found
}

func (tr *trial) report(s lint.Severity, file, pointer, format string, args ...any) {
	line, column := tr.task.Place(file, pointer)
	tr.found = append(tr.found, lint.Finding{Severity: s, Fault: task.Fault{
		File: tr.task.Path(file), Line: line, Column: column, Message: fmt.Sprintf(format, args...),
	}})
}

func caseFile(k task.Case) string { return "cases/" + k.Name + ".yaml" }

// prompt makes the case's prompt for each model.
func (tr *trial) prompt(k task.Case) {
	for _, name := range slices.Sorted(maps.Keys(tr.task.Models)) {
		_, err := tr.prompts.Prompt(tr.task, tr.task.Models[name], k.Input, &session.Session{State: k.State})
		severity := lint.Warning
		if name == tr.task.Model {
			severity = lint.Fault
		}
		if err != nil {
			tr.report(severity, caseFile(k), "/input", "no prompt can be made of it for model %s: %s", name, whyNot(err))
		}
	}
}

// whyNot is what is said of a fate, and its first reason.
func whyNot(err error) string {
	f, ok := errors.AsType[*fate.Error](err)
	if !ok {
		return err.Error()
	}
	if len(f.Reasons) > 0 && f.Reasons[0].Message != f.Message {
		return f.Message + ": " + reasonOf(f.Reasons[0])
	}
	return f.Message
}

// answers plays the case's answers through the validator.
func (tr *trial) answers(ctx context.Context, k task.Case) {
	if len(k.Answers) == 0 {
		tr.report(lint.Fault, caseFile(k), "/answer", "the case has no answer: write what the model said")
		return
	}
	tr.errors(k)
	if tr.breaks(k) {
		return
	}
	now := time.Now()
	j := &job.Job{
		V: job.Version, ID: "case", Task: tr.task.Name, TaskVersion: tr.task.Version, Run: 1, Lane: job.Interactive, Model: tr.task.Model, Input: k.Input,
		AcknowledgedAt: now, Deadline: now.Add(time.Hour), Prompt: job.NewPrompt(job.Message{Role: "user"}), MaxOutputTokens: tr.task.Parameters.MaxOutputTokens,
	}
	verdict := ""
	for i := range k.Answers {
		j.Answer, j.To, j.Calls = answerOf(k.Answers[i]), "", i+1
		err := tr.judge.Handle(ctx, j)
		verdict = lastVerdict(j)
		if err != nil || j.To == "" {
			break
		}
	}
	if j.Outcome != nil {
		verdict = strings.Replace(j.Outcome.Recovery, "strict", validator.Valid, 1)
	}
	if verdict != k.Expect.Verdict {
		tr.report(lint.Fault, caseFile(k), "/expect/verdict", "the verdict is %s, not %s%s (mend what has changed, or the case)", verdict, k.Expect.Verdict, tr.because(k))
		return
	}
	if k.Expect.Calls != 0 && k.Expect.Calls != j.Calls {
		tr.report(lint.Fault, caseFile(k), "/expect/calls", "it takes %s, not %d (mend what has changed, or the case)", count(j.Calls, "call"), k.Expect.Calls)
	}
	if j.Outcome != nil && k.Expect.Output != nil && !isSame(j.Outcome.Output, k.Expect.Output) {
		tr.report(lint.Fault, caseFile(k), "/expect/output", "the output is %s, not %s (mend what has changed, or the case)", job.Cut(string(j.Outcome.Output), 200), job.Cut(string(k.Expect.Output), 200))
	}
}

func answerOf(a task.CaseAnswer) *job.Answer {
	return &job.Answer{Content: a.Content, FinishReason: a.FinishReason, Refusal: a.Refusal}
}

// errors reports errors that are expected of the first answer, and that it does not have.
func (tr *trial) errors(k task.Case) {
	first := validator.Judge(tr.task, k.Input, answerOf(k.Answers[0]))
	for i, want := range k.Expect.Errors {
		if !slices.ContainsFunc(first.Faults, want.Matches) {
			tr.report(lint.Fault, caseFile(k), fmt.Sprintf("/expect/errors/%d", i), "the first answer has no such error at %s%s (mend what has changed, or the case)", want.Pointer, tr.because(k))
		}
	}
}

// breaks reports an expected output that the task's rules refuse.
func (tr *trial) breaks(k task.Case) bool {
	if k.Expect.Output == nil {
		return false
	}
	output, err := schema.Decode(k.Expect.Output)
	if err != nil {
		return false // it was read from the case, so it can be
	}
	broken := tr.task.Broken(k.Input, output)
	for _, violation := range broken {
		tr.report(lint.Fault, caseFile(k), "/expect/output", "the expected output breaks the rule %s: %s (change one of the two)", violation.Rule, violation.Message)
	}
	return len(broken) > 0
}

// because says what is wrong with the first answer, as the end of a message.
func (tr *trial) because(k task.Case) string {
	first := validator.Judge(tr.task, k.Input, answerOf(k.Answers[0]))
	if len(first.Faults) == 0 {
		return ""
	}
	return ": " + job.Cut(first.Faults[0].String(), 200)
}

// lastVerdict is the newest one in a job's history.
func lastVerdict(j *job.Job) string {
	for _, e := range slices.Backward(j.History) {
		if e.Kind == job.KindVerdict {
			return e.Outcome
		}
	}
	return ""
}

// isSame compares two texts of JSON as values.
func isSame(a, b []byte) bool {
	canonical := func(text []byte) []byte {
		value, err := schema.Decode(text)
		if err != nil {
			return text
		}
		if text, err = task.Canonical(value); err != nil {
			return nil
		}
		return text
	}
	return bytes.Equal(canonical(a), canonical(b))
}

// windows reports models that are to take prompts which are too long for them.
func (tr *trial) windows() {
	t := tr.task
	own := t.Models[t.Model]
	if own == nil {
		return
	}
	budget := contextbuilder.InputBudget(t, own)
	for i, rung := range t.Ladder {
		m := t.Models[rung.Model]
		if rung.Kind != task.RungModel || m == nil {
			continue
		}
		if room := contextbuilder.InputBudget(t, m); room < budget {
			tr.report(lint.Warning, "task.yaml", fmt.Sprintf("/ladder/%d/model", i),
				"a prompt may have %s tokens, and only %s on model %s of this rung: more is left out there, or the rung is passed over; context.max_input_tokens: %d makes them alike",
				thousands(budget), thousands(room), m.Name, room)
		}
	}
	if m := t.Models[t.Correction.LastOn]; m != nil && m.ContextWindow < budget {
		tr.report(lint.Warning, "task.yaml", "/correction/last_on",
			"a prompt may have %s tokens, and model %s has a window of %s: longer ones get no last correction; choose a larger model, or set context.max_input_tokens",
			thousands(budget), m.Name, thousands(m.ContextWindow))
	}
}
