package validator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/drift"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Definition is the stage. It finishes late: to check an answer that was paid for costs nothing, and a late
// one is better than none.
func Definition() stage.Definition {
	return stage.Definition{
		Name:         broker.Validator,
		SendsOn:      []string{broker.Inference},
		FinishesLate: true,
		New:          func(env *stage.Env) (stage.Handler, error) { return New(env) },
	}
}

// Handler judges answers.
type Handler struct {
	tasks   *task.Book
	metrics *metrics
	drift   *drift.Watch
	log     zerolog.Logger
	now     func() time.Time
	publish func(job.Draft) // nil without a connection
}

var _ stage.Handler = (*Handler)(nil)

// New makes the handler.
func New(env *stage.Env) (*Handler, error) {
	m, err := newMetrics(env.Metrics)
	if err != nil {
		return nil, err
	}
	h := &Handler{tasks: env.Book(), metrics: m, log: env.Log, now: time.Now}
	if h.drift, err = drift.NewWatch(env.Log.With().Str("stage", broker.Validator).Logger(), env.Metrics); err != nil {
		return nil, err
	}
	if env.Conn != nil {
		h.publish = func(d job.Draft) { stage.PublishDraft(env.Conn, d) }
	}
	return h, nil
}

// Handle judges the job's answer, and ends the run with it or sends the job where it can be mended.
func (h *Handler) Handle(ctx context.Context, j *job.Job) error {
	t, err := h.tasks.For(ctx, j)
	if err != nil {
		return fmt.Errorf("get the task of %s: %w", j.ID, err)
	}
	if t == nil {
		return fate.DivertTo(fate.Internal, fmt.Sprintf("task %s is not loaded here", j.Task), nil)
	}
	if j.Answer == nil {
		return fate.DivertTo(fate.Internal, "there is no answer to check", nil)
	}
	t.Sign(j, broker.Validator)
	if j.Correction != nil {
		j.CorrectionTokens += lastCallTokens(j)
	}
	v := Judge(t, j.Input, j.Answer)
	h.record(j, &v)
	h.weigh(j, t, &v)
	h.retract(j, &v)
	switch v.Outcome {
	case Refusal:
		return fate.DivertTo(fate.Refused, fmt.Sprintf("model %s refused to answer", j.Model), nil)
	case Empty:
		return fate.DivertTo(fate.ProviderEmpty, fmt.Sprintf("model %s answered nothing", j.Model), nil)
	case TooLarge:
		return fate.DivertTo(fate.OutputTooLarge, fmt.Sprintf("the answer of model %s has %d bytes, more than the %d of output.max_bytes",
			j.Model, len(j.Answer.Content), t.Output.MaxBytes), nil)
	case Truncated:
		return h.raise(j, t)
	}
	if !v.isOutput() {
		return h.correct(j, t, &v)
	}
	accept(j, t, &v)
	h.metrics.outputs.WithLabelValues(j.Task, j.Outcome.Recovery).Inc()
	return nil
}

// weigh lets the share of answers that are none be watched. Only what the task's own model says at first counts: a
// correction answers something else, and on the ladder another model speaks.
func (h *Handler) weigh(j *job.Job, t *task.Task, v *Verdict) {
	if j.Correction == nil && !j.Raised && j.Trouble == nil {
		h.drift.Saw(t.Name, t.Version, drift.Invalid, !v.isOutput())
	}
}

// retract takes back the drafts of an answer that is no output.
func (h *Handler) retract(j *job.Job, v *Verdict) {
	if !j.Drafted || v.isOutput() || h.publish == nil {
		return
	}
	d := j.Draft(job.DraftRetracted)
	d.Code = codeOf(v)
	h.publish(d)
}

// codeOf names a verdict that is no output.
func codeOf(v *Verdict) fate.Code {
	switch v.Outcome {
	case Refusal:
		return fate.Refused
	case Empty:
		return fate.ProviderEmpty
	case TooLarge:
		return fate.OutputTooLarge
	case Truncated:
		return fate.OutputTruncated
	}
	return fate.OutputInvalid
}

// accept ends the run with the output. What only a further call would need is dropped: the message stays
// small. The input is kept, for a degraded job may be replayed.
func accept(j *job.Job, t *task.Task, v *Verdict) {
	o := &job.Outcome{
		Status: job.Succeeded, Output: v.Output, Source: job.FromModel,
		Model: j.Model, AnsweredBy: j.Answer.AnsweredBy, Recovery: recoveryOf(j, v),
	}
	if j.Trouble != nil {
		o.Status = job.Degraded
		o.Degraded = &job.Degradation{Reason: j.Trouble.Code, Rung: task.RungModel}
		if t.KeepDegraded {
			j.Keep = &job.Letter{
				Stage: j.Trouble.Stage, Code: j.Trouble.Code, Message: j.Trouble.Message, Stack: j.Trouble.Stack, Degraded: true,
			}
		}
	}
	j.Outcome = o
	j.Answer, j.Prompt, j.Correction = nil, job.Prompt{}, nil
}

func recoveryOf(j *job.Job, v *Verdict) string {
	switch {
	case j.Correction != nil:
		return job.RecoveryCorrected
	case v.Outcome == Valid:
		return job.RecoveryStrict
	}
	return v.Outcome
}

// record adds the verdict to the job's history and to the metrics.
func (h *Handler) record(j *job.Job, v *Verdict) {
	j.Record(job.Event{
		Kind: job.KindVerdict, Stage: broker.Validator, At: h.now().UTC(), Model: j.Model,
		Outcome: v.Outcome, Detail: detail(j, v),
	})
	h.metrics.verdicts.WithLabelValues(j.Task, v.Outcome).Inc()
	h.log.Debug().Str("job", j.ID).Str("task", j.Task).Str("stage", broker.Validator).Str("model", j.Model).
		Str("verdict", v.Outcome).Str("trace_id", job.TraceID(j.TraceParent)).Msg("the answer is judged")
}

// detail says what a person wants to know of the verdict.
func detail(j *job.Job, v *Verdict) string {
	switch v.Outcome {
	case Refusal:
		return strings.TrimSpace(j.Answer.Refusal)
	case Invalid, Ambiguous:
		return firstFaults(v)
	}
	return strings.Join(v.Notes, "; ")
}

// firstFaults is the beginning of what is wrong, in one line.
func firstFaults(v *Verdict) string {
	const few = 3
	var said []string
	for i := range v.Faults[:min(len(v.Faults), few)] {
		said = append(said, v.Faults[i].String())
	}
	if more := len(v.Faults) - few; more > 0 {
		said = append(said, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(said, "; ")
}

// lastCallTokens is what the call cost that brought the answer at hand.
func lastCallTokens(j *job.Job) int {
	if e := lastCall(j); e != nil {
		return e.InputTokens + e.OutputTokens
	}
	return 0
}

func lastCall(j *job.Job) *job.Event {
	for i := len(j.History) - 1; i >= 0; i-- {
		if j.History[i].Kind == job.KindCall {
			return &j.History[i]
		}
	}
	return nil
}
