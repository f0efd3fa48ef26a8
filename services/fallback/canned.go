package fallback

import (
	"spillway/pkg/expr"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// fromCanned answers with the first prepared answer whose rule matches the input.
func (f *fallback) fromCanned(j *job.Job, t *task.Task) (outcome, detail string) {
	input, err := schema.Decode(j.Input)
	if err != nil {
		return rungMissed, "the input cannot be read: " + err.Error()
	}
	n, err := t.PickCanned(expr.Vars{Input: input})
	if err != nil {
		detail = "a rule failed: " + err.Error()
	}
	if n == 0 {
		return rungMissed, detail
	}
	f.answer(j, t, cannedOutcome(t, n))
	return rungTaken, detail
}

// cannedOutcome is the n-th canned answer of t, from 1.
func cannedOutcome(t *task.Task, n int) job.Outcome {
	return job.Outcome{
		Output: t.Canned[n-1].Output, Source: job.FromCanned, Degraded: &job.Degradation{Rung: task.RungCanned},
	}
}
