package inference

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Slots of one process: a call in flight is two goroutines and a few kilobytes, so they are many.
const (
	interactiveSlots = 256
	batchSlots       = 64
	parkedSlots      = 64
)

// Definition is the stage.
func Definition() stage.Definition {
	return stage.Definition{
		Name: broker.Inference,
		Inboxes: []stage.Inbox{
			lane(job.Interactive, interactiveSlots),
			lane(job.Batch, batchSlots),
			{Stream: broker.ParkedStream, Subject: broker.AllParked, Consumer: broker.Inference + "-parked", Slots: parkedSlots},
		},
		ConfirmsAcks: true,
		New:          func(env *stage.Env) (stage.Handler, error) { return New(env) },
	}
}

func lane(name string, slots int) stage.Inbox {
	return stage.Inbox{
		Stream:   broker.StageStream(broker.Inference),
		Subject:  broker.LaneSubject(broker.Inference, name),
		Consumer: broker.Inference + "-" + name,
		Slots:    slots,
	}
}

// Handler makes one call to a model for each job that it is given.
type Handler struct {
	tasks     *task.Set
	providers map[string]*provider
	// unusable says why a provider that no task names could not be made; a replay may still ask for it.
	unusable map[string]error
	results  Results
	cancels  Cancels
	log      zerolog.Logger
	metrics  *metrics
	pace     pace
	random   func() float64
}

var _ stage.Handler = (*Handler)(nil)

// New makes the handler. It fails when a provider that a task needs can not be used as it is configured.
func New(env *stage.Env) (*Handler, error) {
	h := &Handler{
		tasks:     env.Tasks,
		providers: make(map[string]*provider, len(env.Tasks.Providers)),
		unusable:  map[string]error{},
		log:       env.Log,
		pace:      defaultPace,
		random:    rand.Float64,
	}
	var err error
	if h.metrics, err = newMetrics(env.Metrics); err != nil {
		return nil, err
	}
	h.results, h.cancels = fromBroker(env.Conn)
	needed := neededProviders(env.Tasks)
	for _, name := range slices.Sorted(maps.Keys(env.Tasks.Providers)) {
		p, err := newProvider(env, env.Tasks.Providers[name])
		switch user := needed[name]; {
		case err == nil:
			h.providers[name] = p
		case user != "":
			return nil, fmt.Errorf("provider %s (used by task %s): %w", name, user, err)
		default:
			h.unusable[name] = err
		}
	}
	return h, nil
}

// neededProviders maps each provider that some task may call to the first task that may.
func neededProviders(set *task.Set) map[string]string {
	needed := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(set.Tasks)) {
		t := set.Tasks[name]
		models := []string{t.Model, t.Correction.LastOn}
		for _, rung := range t.Ladder {
			models = append(models, rung.Model)
		}
		for _, model := range models {
			if m := set.Models[model]; m != nil && needed[m.Provider] == "" {
				needed[m.Provider] = name
			}
		}
	}
	return needed
}

// Handle makes one call for j and leaves in it what came of it.
func (h *Handler) Handle(ctx context.Context, j *job.Job) error {
	if err := h.answeredBefore(ctx, j); err != nil {
		return err
	}
	if h.isCancelled(j) {
		return fate.DoneElsewhere("the job was cancelled")
	}
	c, err := h.prepare(j)
	if err != nil {
		return err
	}
	if j.Arrival.Deliveries > 1 {
		h.metrics.repeated.Inc()
	}
	failed := h.call(ctx, c)
	switch {
	case failed != nil && ctx.Err() != nil:
		h.count(c, "abandoned")
		return fmt.Errorf("the call of model %s was given up: %w", j.Model, context.Cause(ctx))
	case failed != nil && errors.Is(c.ended, errCancelled):
		h.count(c, "cancelled")
		return fate.DoneElsewhere("the job was cancelled during its call")
	case failed != nil:
		return h.fail(c, failed)
	}
	h.succeed(c)
	return nil
}

// prepare finds what the call needs, and refuses the call that the job may not make any more.
func (h *Handler) prepare(j *job.Job) (*call, error) {
	t := h.tasks.Tasks[j.Task]
	if t == nil {
		return nil, fate.DivertTo(fate.Internal, "the task is not loaded at inference", nil)
	}
	if j.Model == "" {
		j.Model = t.Model
	}
	m := h.tasks.Models[j.Model]
	if m == nil {
		return nil, fate.DivertTo(fate.ProviderRefusedRequest, fmt.Sprintf("no model of the name %q is in models.yaml", job.Cut(j.Model, 64)), nil)
	}
	p := h.providers[m.Provider]
	if p == nil {
		return nil, fate.DivertTo(fate.ProviderAuth, fmt.Sprintf("model %s: its provider is not configured here", m.Name), h.unusable[m.Provider])
	}
	if most := t.Retry.MaxCalls; most > 0 && j.Calls >= most {
		return nil, fate.DivertTo(fate.CallsSpent, fmt.Sprintf("all %d model calls of the job are spent", most), nil)
	}
	now := time.Now()
	left := j.Left(now, t.ReserveOf(j.Deadline.Sub(j.AcknowledgedAt)))
	if left < leastTime {
		return nil, fate.DivertTo(fate.Deadline, fmt.Sprintf("no time is left for model %s before the deadline", m.Name), nil)
	}
	return &call{
		job: j, task: t, model: m, provider: p, pace: h.pace, started: now, left: left,
		limits: timeouts(&m.Timeouts, &t.Timeouts),
	}, nil
}

// call runs c to its end. It returns nil when the model answered.
func (h *Handler) call(ctx context.Context, c *call) *failure {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer h.onCancel(c.job, func() { cancel(errCancelled) })()
	c.watch = newWatch(c.started, c.left, c.limits, cancel)
	defer c.watch.stop()
	failed := c.run(ctx)
	c.ended, c.took = context.Cause(ctx), time.Since(c.started)
	return failed
}

// succeed leaves the answer in the job.
func (h *Handler) succeed(c *call) {
	c.job.Attempts = 0
	c.job.Answer = &job.Answer{
		Content:      string(c.content),
		FinishReason: c.finish,
		Refusal:      string(c.refusal),
		AnsweredBy:   c.answeredBy,
	}
	h.record(c, outcomeOK, "")
	h.about(h.log.Debug(), c).Int64("took_ms", c.took.Milliseconds()).Str("finish_reason", c.finish).Msg("the model answered")
}

// fail leaves the failed call in the job and decides between another try and fallback.
func (h *Handler) fail(c *call, f *failure) error {
	c.job.Attempts++
	h.record(c, string(f.code), f.text)
	// The runner logs the failure itself, with its cause, where the fate is carried out.
	h.about(h.log.Debug(), c).Str("outcome", string(f.code)).Int("status", c.status).Int("attempt", c.job.Attempts).
		Str("provider_request_id", c.requestID()).Msg("a model call failed")
	return h.retry(c, f)
}

// record adds the call to the job's history, its usage and cost, and to the metrics.
func (h *Handler) record(c *call, outcome, detail string) {
	j, spent := c.job, c.spent()
	cost := spent.cost(c.model.Prices)
	j.Calls++
	j.Usage.Calls++
	j.Usage.InputTokens += spent.input
	j.Usage.OutputTokens += spent.output
	j.CostUSD += cost
	j.Record(job.Event{
		Kind: job.KindCall, Stage: broker.Inference, At: c.started.UTC(), N: j.Calls, Model: j.Model,
		TookMS: c.took.Milliseconds(), FirstTokenMS: c.firstToken.Milliseconds(), Outcome: outcome,
		ProviderRequestID: job.Cut(c.requestID(), 128), InputTokens: spent.input, OutputTokens: spent.output,
		CostUSD: cost, Detail: c.remarks(detail, spent),
	})
	h.count(c, outcome)
	h.metrics.spend(j.Model, spent, cost)
}

// count adds the end of a call to the metrics.
func (h *Handler) count(c *call, outcome string) {
	h.metrics.ended(c.model.Name, outcome, c.took, c.firstToken)
}

// about adds the fields that name the job to a log event.
func (h *Handler) about(e *zerolog.Event, c *call) *zerolog.Event {
	j := c.job
	return e.Str("job", j.ID).Str("task", j.Task).Str("stage", broker.Inference).Int("run", j.Run).Int("hop", j.Hop).
		Str("model", j.Model).Str("trace_id", job.TraceID(j.TraceParent))
}
