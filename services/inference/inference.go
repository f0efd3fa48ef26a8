package inference

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"spillway/pkg/breaker"
	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/limit"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Slots of one process: a call in flight is three goroutines and some kilobytes, so they are many. Batch has
// few, so that a crowd of it neither takes the machine from the other lane nor the provider by storm.
const (
	interactiveSlots = 12_000
	batchSlots       = 64
	// heldBytes bounds the messages of the calls in flight, of each inbox.
	heldBytes = 512 << 20
	// parkedBytes is the same for each inbox of parked jobs.
	parkedBytes = 128 << 20
)

type lane struct {
	lane  string
	slots int
}

func lanes() []lane {
	return []lane{{job.Interactive, interactiveSlots}, {job.Batch, batchSlots}}
}

// Definition is the stage. Its inboxes for jobs that wait for a model are the handler's: see Inboxes.
func Definition() stage.Definition {
	d := stage.Definition{
		Name:         broker.Inference,
		Inboxes:      stage.Lanes(broker.Inference, 0),
		ConfirmsAcks: true,
		New:          func(env *stage.Env) (stage.Handler, error) { return New(env) },
		MadeOf:       madeOf,
		Check:        check,
	}
	for i, in := range lanes() {
		d.Inboxes[i].Slots, d.Inboxes[i].HeldBytes = in.slots, heldBytes
	}
	return d
}

// Handler makes one call to a model for each job that it is given.
type Handler struct {
	tasks *task.Book
	// models are those that the handler was made with: what is kept of a model is kept of these.
	models    map[string]*task.Model
	providers map[string]*provider
	// unusable says why a provider that no task names could not be made; a replay may still ask for it.
	unusable map[string]error
	results  Results
	cancels  Cancels
	// breakers and limits are shared with the other replicas; nil without a connection.
	conn     *broker.Conn
	breakers *breaker.Breakers
	limits   *limit.Limiter
	parked   map[parkedKey]*parked
	leaving  chan struct{} // closed when the stage leaves
	// drafts are told in the name of this replica.
	drafts  *telling
	replica string
	budgets map[string]*budget // by model
	// strangers are the names that models answered under and should not have.
	strangers strangers
	usual     usual
	log       zerolog.Logger
	metrics   *metrics
	pace      pace
	random    func() float64
}

var (
	_ stage.Handler = (*Handler)(nil)
	_ stage.Worker  = (*Handler)(nil)
	_ stage.Puller  = (*Handler)(nil)
	_ stage.Leaver  = (*Handler)(nil)
)

// New makes the handler. It fails when a provider that a task needs can not be used as it is configured.
func New(env *stage.Env) (*Handler, error) {
	h := &Handler{
		tasks:   env.Book(),
		models:  env.Tasks.Models,
		parked:  map[parkedKey]*parked{},
		leaving: make(chan struct{}),
		budgets: map[string]*budget{},
		log:     env.Log,
		pace:    defaultPace,
		random:  rand.Float64,
	}
	for name := range env.Tasks.Models {
		h.budgets[name] = &budget{}
	}
	var err error
	if h.metrics, err = newMetrics(env.Metrics); err != nil {
		return nil, err
	}
	h.results, h.cancels = fromBroker(env.Conn)
	h.replica = replicaName()
	if h.drafts, err = newTelling(env); err != nil {
		return nil, err
	}
	if err := h.share(env); err != nil {
		return nil, err
	}
	if h.providers, h.unusable, err = providersOf(env); err != nil {
		return nil, err
	}
	return h, nil
}

// share makes what is kept together with the other replicas.
func (h *Handler) share(env *stage.Env) (err error) {
	if env.Conn == nil {
		return nil
	}
	h.conn = env.Conn
	models := make([]breaker.Model, 0, len(env.Tasks.Models))
	for _, name := range slices.Sorted(maps.Keys(env.Tasks.Models)) {
		m := env.Tasks.Models[name]
		models = append(models, breaker.Model{Name: name, Provider: m.Provider, Settings: m.Breaker, CallTimeout: m.Timeouts.Call})
	}
	h.breakers, err = breaker.New(breaker.Options{Conn: env.Conn, Replica: h.replica, Models: models, Log: env.Log, Metrics: env.Metrics})
	if err != nil {
		return fmt.Errorf("preparing the breakers: %w", err)
	}
	o := limit.Options{Conn: env.Conn, Replica: h.replica, Log: env.Log, Metrics: env.Metrics}
	o.Models, o.Providers, o.Tasks = boundsOf(env)
	if h.limits, err = limit.New(o); err != nil {
		return fmt.Errorf("preparing the limits: %w", err)
	}
	return nil
}

// replicaName tells this process from all others, also from an earlier one on the same machine.
func replicaName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	return fmt.Sprintf("%s-%d-%06x", host, os.Getpid(), rand.IntN(1<<24))
}

// Run keeps up with the other replicas until ctx ends.
func (h *Handler) Run(ctx context.Context) error {
	if h.breakers == nil {
		<-ctx.Done()
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.breakers.Run(ctx) })
	group.Go(func() error { return h.limits.Run(ctx) })
	group.Go(func() error { return h.drafts.run(ctx) })
	return group.Wait()
}

// Leave hands back the jobs that only wait: calls under way are another matter.
func (h *Handler) Leave() { close(h.leaving) }

// Handle makes one call for j and leaves in it what came of it.
func (h *Handler) Handle(ctx context.Context, j *job.Job) error {
	_, err := h.handle(ctx, j)
	return err
}

// handle returns the call beside the error; nil: none was prepared.
func (h *Handler) handle(ctx context.Context, j *job.Job) (*call, error) {
	parked := j.Arrival.Stream == broker.ParkedStream
	if !parked {
		if err := h.answeredBefore(ctx, j); err != nil {
			return nil, err
		}
	}
	if h.isCancelled(j) {
		return nil, fate.DoneElsewhere("the job was cancelled")
	}
	c, err := h.prepare(ctx, j)
	if err != nil {
		h.takeBack(ctx, j)
		return nil, err
	}
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer h.onCancel(j, func() { cancel(errCancelled) })()
	if err := h.enter(own, c); err != nil {
		h.takeBack(ctx, j)
		if errors.Is(err, errCancelled) {
			return c, fate.DoneElsewhere("the job was cancelled while it waited")
		}
		return c, err
	}
	defer c.leaveAnyway()
	if parked {
		// It came often without being called for: it is looked up once, and now.
		if err := h.answeredBefore(ctx, j); err != nil {
			return c, err
		}
	}
	if j.Arrival.Deliveries > 1 && !c.isParked() {
		h.metrics.repeated.Inc()
	}
	failed := h.call(own, cancel, c)
	gone := failed != nil && ctx.Err() != nil
	cancelled := failed != nil && errors.Is(c.ended, errCancelled)
	h.leave(c, failed, gone || cancelled)
	switch {
	case gone:
		h.count(c, "abandoned")
		return c, fmt.Errorf("the call of model %s was given up: %w", j.Model, context.Cause(ctx))
	case cancelled:
		h.count(c, "cancelled")
		return c, fate.DoneElsewhere("the job was cancelled during its call")
	case failed != nil:
		return c, h.fail(c, failed)
	}
	h.succeed(c)
	return c, nil
}

// prepare finds what the call needs, and refuses the call that the job may not make any more.
func (h *Handler) prepare(ctx context.Context, j *job.Job) (*call, error) {
	t, err := h.tasks.For(ctx, j)
	if err != nil {
		return nil, fmt.Errorf("get the task of %s: %w", j.ID, err)
	}
	if t == nil {
		return nil, fate.DivertTo(fate.Internal, "the task is not loaded at inference", nil)
	}
	t.Sign(j, broker.Inference)
	if j.Model == "" {
		j.Model = t.Model
	}
	m, p, err := h.reach(t, j)
	if err != nil {
		return nil, err
	}
	if most := t.Retry.MaxCalls; most > 0 && j.Calls >= most {
		return nil, fate.DivertTo(fate.CallsSpent, fmt.Sprintf("all %d model calls of the job are spent", most), nil)
	}
	c := &call{job: j, task: t, model: m, provider: p, pace: h.pace, limits: timeouts(&m.Timeouts, &t.Timeouts)}
	if err := c.afford(); err != nil {
		return nil, err
	}
	return c, c.begin(time.Now())
}

// begin sets what the deadline leaves to the call; an error when that is too little.
func (c *call) begin(now time.Time) error {
	c.started, c.left = now, c.timeLeft(now)
	if c.left < leastTime {
		return fate.DivertTo(fate.Deadline, fmt.Sprintf("no time is left for model %s before the deadline", c.model.Name), nil)
	}
	return nil
}

// call runs c to its end. It returns nil when the model answered.
func (h *Handler) call(ctx context.Context, cancel context.CancelCauseFunc, c *call) *failure {
	defer h.callsParked(c.job)()
	h.budgets[c.model.Name].called(c.started)
	c.watch = newWatch(c.started, c.left, c.limits, cancel)
	defer c.watch.stop()
	c.drafts = h.draftsOf(c)
	defer c.drafts.leave()
	failed := c.run(ctx)
	if failed != nil && isOfKey(failed.code) {
		c.otherKey = c.provider.keys.refused(c.key, time.Now())
	}
	c.ended, c.took = context.Cause(ctx), time.Since(c.started)
	c.drafts.end(c, failed)
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
	if !c.isForOthers(f) {
		c.job.Attempts++
	}
	h.record(c, string(f.code), f.text)
	// The runner logs the failure itself, with its cause, where the fate is carried out.
	h.about(h.log.Debug(), c).Str("outcome", string(f.code)).Int("status", c.status).Int("attempt", c.job.Attempts).
		Str("provider_request_id", c.requestID()).Msg("a model call failed")
	return h.retry(c, f)
}

// isForOthers reports whether the failed call costs the job none of its tries: another key is left for it, or
// it was the probe for all who wait.
func (c *call) isForOthers(f *failure) bool {
	if c.otherKey {
		return true
	}
	blamed := f.blame(c)
	return c.isProbe() && c.mayWait() && blamed != blameNobody && blamed != blameless
}

// record adds the call to the job's history, its usage and cost, and to the metrics.
func (h *Handler) record(c *call, outcome, detail string) {
	j, spent, counted := c.job, c.spent(), c.inputTokens()
	cost := spent.cost(c.model.Prices)
	j.Calls++
	j.Usage.Calls++
	j.Usage.InputTokens += spent.input
	j.Usage.OutputTokens += spent.output
	j.CostUSD += cost
	j.Record(job.Event{
		Kind: job.KindCall, Stage: broker.Inference, At: c.started.UTC(), N: j.Calls, Model: j.Model,
		TookMS: c.took.Milliseconds(), FirstTokenMS: c.firstToken.Milliseconds(), Outcome: outcome,
		ProviderRequestID: job.Cut(c.requestID(), 128), CountedTokens: counted, InputTokens: spent.input, OutputTokens: spent.output,
		CostUSD: cost, Detail: c.remarks(detail, spent),
	})
	h.count(c, outcome)
	h.recognize(c)
	h.metrics.spend(j.Task, j.Model, counted, spent, cost)
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
