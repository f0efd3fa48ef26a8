package validator

import (
	"fmt"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

const raiseOnce = "raise_once"

// raise sends a job whose answer was cut at its limit of tokens back with twice the limit, once. The cut
// answer itself is of no use: what is missing in it nobody knows.
func (h *Handler) raise(j *job.Job, t *task.Task) error {
	raised := h.raisedLimit(j, t)
	if why := h.barsRaise(j, t, raised); why != "" {
		return fate.DivertTo(fate.OutputTruncated, fmt.Sprintf("the answer of model %s was cut at its limit of tokens (%s)", j.Model, why), nil)
	}
	j.MaxOutputTokens, j.Raised = raised, true
	j.Answer = nil
	j.Attempts = 0
	j.To = broker.Inference
	return nil
}

// barsRaise says why the limit stays; "": it may be raised.
func (h *Handler) barsRaise(j *job.Job, t *task.Task, raised int) string {
	switch {
	case t.Correction.OnTruncation != raiseOnce:
		return "the task does not raise it"
	case j.Raised:
		return "it was raised before"
	case j.Calls >= t.Retry.MaxCalls:
		return fmt.Sprintf("all %d calls are spent", t.Retry.MaxCalls)
	case !hasTime(j, t, h.now()):
		return "no time is left for another call"
	case raised <= limitOf(j, t):
		return "the model can say no more"
	}
	return ""
}

// limitOf is the limit that cut the answer. A job without one ran into the provider's own, which is what
// the answer took.
func limitOf(j *job.Job, t *task.Task) int {
	if j.MaxOutputTokens > 0 {
		return j.MaxOutputTokens
	}
	if t.Parameters.MaxOutputTokens > 0 {
		return t.Parameters.MaxOutputTokens
	}
	if e := lastCall(j); e != nil {
		return e.OutputTokens
	}
	return 0
}

// raisedLimit is twice the limit, at most what the model can say and what its window leaves.
func (h *Handler) raisedLimit(j *job.Job, t *task.Task) int {
	raised := 2 * limitOf(j, t)
	m := h.tasks.Model(t, j.Model)
	if m == nil {
		return raised
	}
	if m.MaxOutputTokens > 0 {
		raised = min(raised, m.MaxOutputTokens)
	}
	if m.ContextWindow > 0 {
		raised = min(raised, m.ContextWindow-j.PromptTokens-tokensOf(j.Correction))
	}
	return raised
}
