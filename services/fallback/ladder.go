package fallback

import (
	"context"
	"fmt"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// leastCallTime is what a model rung needs at least, beside the reserve.
const leastCallTime = time.Second

// climb tries the rungs that are left, in order.
func (f *fallback) climb(ctx context.Context, j *job.Job) error {
	j.Answer, j.Correction = nil, nil
	t, err := f.tasks.For(ctx, j)
	if err != nil {
		return fmt.Errorf("get the task of %s: %w", j.ID, err)
	}
	if t == nil {
		return f.fail(j, "the task is not loaded here")
	}
	t.Sign(j, broker.Fallback)
	for ; j.Rung < len(t.Ladder); j.Rung++ {
		rung := t.Ladder[j.Rung]
		started := time.Now()
		outcome, detail := f.try(ctx, j, t, rung)
		j.Record(job.Event{
			Kind: job.KindRung, Stage: broker.Fallback, At: started.UTC(), TookMS: time.Since(started).Milliseconds(),
			Rung: rung.Kind, Model: rung.Model, Outcome: outcome, Detail: detail,
		})
		f.m.rungs.WithLabelValues(j.Task, rung.Kind, outcome).Inc()
		if outcome == rungTaken {
			j.Rung++
			return nil
		}
	}
	return f.fail(j, "")
}

// What became of a rung.
const (
	rungTaken   = "taken"
	rungMissed  = "missed"
	rungSkipped = "skipped"
)

// try takes one rung, or says why not.
func (f *fallback) try(ctx context.Context, j *job.Job, t *task.Task, rung task.Rung) (outcome, detail string) {
	if why := barred(j, t, rung); why != "" {
		return rungSkipped, why
	}
	switch rung.Kind {
	case task.RungCache:
		return f.fromCache(ctx, j, t, rung)
	case task.RungModel:
		return f.fromModel(j, t, rung)
	case task.RungCanned:
		return f.fromCanned(j, t)
	}
	return rungSkipped, "unknown rung"
}

// barred says why policy forbids a rung; "": it does not.
func barred(j *job.Job, t *task.Task, rung task.Rung) string {
	if latest(j).Code == fate.Refused {
		switch {
		case t.AfterRefusal == "fail":
			return "the task ends after a refusal"
		case t.AfterRefusal == "canned" && rung.Kind != task.RungCanned:
			return "no shopping for another answer after a refusal"
		}
	}
	return ""
}

// latest is what made the last try fail.
func latest(j *job.Job) *job.Trouble {
	if j.Setback != nil {
		return j.Setback
	}
	return j.Trouble
}

// fromModel sends the job to another model, whose answer is validated like any other.
func (f *fallback) fromModel(j *job.Job, t *task.Task, rung task.Rung) (outcome, detail string) {
	if why := f.unusable(j, t, rung); why != "" {
		return rungSkipped, why
	}
	j.To = broker.ContextBuilder
	if !j.Prompt.IsZero() && fitsAsWell(f.tasks.Model(t, j.Model), f.tasks.Model(t, rung.Model)) {
		j.To = broker.Inference
	} else {
		j.Prompt = job.Prompt{}
	}
	j.Model = rung.Model
	j.Attempts, j.MaxOutputTokens, j.Raised = 0, 0, false
	return rungTaken, ""
}

// fitsAsWell reports whether a prompt that was made for one model needs no new count for the next.
func fitsAsWell(made, next *task.Model) bool {
	return made != nil && next.ContextWindow >= made.ContextWindow && next.Encoding == made.Encoding && next.TokenSafety <= made.TokenSafety
}

// unusable says why a model cannot help this job; "": it may.
func (f *fallback) unusable(j *job.Job, t *task.Task, rung task.Rung) string {
	last := latest(j)
	next, failed := f.tasks.Model(t, rung.Model), f.tasks.Model(t, j.Model)
	total := j.Deadline.Sub(j.AcknowledgedAt)
	switch {
	case next == nil:
		return "the model is not loaded here"
	case rung.Model == j.Model && j.Trouble.Stage == broker.Inference:
		return "it is the model that failed"
	case j.Calls >= t.Retry.MaxCalls:
		return fmt.Sprintf("all %d calls are spent", t.Retry.MaxCalls)
	case j.Left(time.Now(), t.ReserveOf(total)) < leastCallTime:
		return "no time for a call"
	}
	switch last.Code {
	case fate.ProviderQuota, fate.ProviderAuth:
		if failed != nil && failed.Provider == next.Provider {
			return "the same provider refuses this account"
		}
	case fate.ContextTooLong:
		if failed != nil && failed.ContextWindow >= next.ContextWindow {
			return "its context window is no larger"
		}
	case fate.Crashed, fate.TooManyDeliveries, fate.JobTooLarge, fate.Undecodable:
		return "a job that broke a stage is not sent through it again"
	}
	return ""
}

// fail ends the run without an output: a dead letter, and a failed result that names it.
func (f *fallback) fail(j *job.Job, why string) error {
	message := j.Trouble.Message
	if why != "" {
		message += "; " + why
	}
	j.Fail(j.Trouble.Code, message, broker.DeadSubject(j.Trouble.Stage, j.Task, j.ID))
	j.Keep = letterOf(j, false)
	j.To = broker.ResultWriter
	return nil
}

// answer ends the run with a degraded output.
func (f *fallback) answer(j *job.Job, t *task.Task, o job.Outcome) {
	o.Status = job.Degraded
	o.Degraded.Reason = j.Trouble.Code
	j.Outcome = &o
	if t.KeepDegraded {
		j.Keep = letterOf(j, true)
	}
	j.To = broker.ResultWriter
}
