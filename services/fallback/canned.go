package fallback

import (
	"spillway/pkg/expr"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// fromCanned answers with the first prepared answer whose rule matches the input, or what is known of its session.
func (f *fallback) fromCanned(j *job.Job, t *task.Task) (outcome, detail string) {
	input, err := schema.Decode(j.Input)
	if err != nil {
		return rungMissed, "the input cannot be read: " + err.Error()
	}
	n, err := t.PickCanned(varsOf(j, input))
	if err != nil {
		detail = "a rule failed: " + err.Error()
	}
	if n == 0 {
		return rungMissed, detail
	}
	f.answer(j, t, cannedOutcome(t, n))
	return rungTaken, detail
}

// varsOf is what the rules see. The state is as it was when the prompt was built; of a job that came no further, or has
// no session, it is empty.
func varsOf(j *job.Job, input any) expr.Vars {
	vars := expr.Vars{Input: input}
	if state, err := schema.Decode(j.State); err == nil {
		vars.State, _ = state.(map[string]any)
	}
	if j.Session != "" {
		vars.Session = map[string]any{"id": j.Session}
	}
	return vars
}

// cannedOutcome is the n-th canned answer of t, from 1.
func cannedOutcome(t *task.Task, n int) job.Outcome {
	return job.Outcome{
		Output: t.Canned[n-1].Output, Source: job.FromCanned, Degraded: &job.Degradation{Rung: task.RungCanned},
	}
}
