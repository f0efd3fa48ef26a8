package stage

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// ErrDraining is the cause of a handler's ctx that ends because the process is leaving.
var ErrDraining = errors.New("the process is leaving and hands the job back")

// DefaultGrace is how long a leaving process finishes what it holds.
const DefaultGrace = 45 * time.Second

// maxDeliveries is when a message counts as poison: it was delivered so often without an end that the
// processes must be dying on it. Restarts and drains deliver again too, hence the room.
const maxDeliveries = 16

// early is how far before its moment a delayed job may start.
const early = 5 * time.Millisecond

// Runner runs one stage in this process.
type Runner struct {
	def     Definition
	env     *Env
	handler Handler
	route   route
	pullers []*puller
	present present
	m       *metrics
	log     zerolog.Logger
	grace   time.Duration

	//nolint:containedctx // it is the life of all handlers of this runner, which no call's context outlives
	work     context.Context
	giveUp   context.CancelCauseFunc
	inFlight sync.WaitGroup
}

// NewRunner makes the runner of the stage called name in the pipeline defs. grace is DefaultGrace if 0.
func NewRunner(defs []Definition, name string, env *Env, grace time.Duration) (*Runner, error) {
	def, ok := find(defs, name)
	if !ok {
		return nil, fmt.Errorf("there is no stage %q in the pipeline", name)
	}
	own := *env
	own.Inboxes = inboxStreams(defs)
	own.Log = env.Log.With().Str("stage", name).Logger()
	handler, err := def.New(&own)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", name, err)
	}
	if grace == 0 {
		grace = DefaultGrace
	}
	m, err := newMetrics(env.Metrics, name)
	if err != nil {
		return nil, err
	}
	r := &Runner{
		def: def, env: &own, handler: handler, route: newRoute(defs, name), m: m,
		log: own.Log, grace: grace,
	}
	r.work, r.giveUp = context.WithCancelCause(context.Background())
	for _, in := range inboxesOf(def) {
		r.pull(in)
	}
	if more, ok := handler.(Puller); ok {
		for _, in := range more.Inboxes() {
			r.pull(in).made = true
		}
	}
	return r, nil
}

// Run pulls and handles until ctx ends, then drains: it finishes what fits the grace and hands the rest
// back. It returns nil after a drain, or what made the stage stop by itself.
func (r *Runner) Run(ctx context.Context) error { return r.RunWithin(ctx, ctx) }

// RunWithin is Run for a stage that another one may take the place of, in a process that goes on: it drains when ctx
// ends, and the grace begins when life does.
func (r *Runner) RunWithin(ctx, life context.Context) error {
	stop, wait, failed := r.background(ctx)
	defer wait()
	defer stop()
	remove := r.env.Conn.OnReconnect(func() {
		for _, p := range r.pullers {
			p.reset()
		}
	})
	defer remove()
	silent, err := r.answerLocates()
	if err != nil {
		return err
	}
	defer silent()
	if err := r.start(ctx); err != nil {
		if ctx.Err() == nil {
			return err
		}
		r.log.Debug().Err(err).Msg("stage is told to leave while it starts")
	}
	r.log.Debug().Msg("stage is pulling")
	life, end := context.WithCancel(life)
	defer end()
	select {
	case <-ctx.Done():
	case err = <-failed:
		end()
	}
	r.drain(life)
	return err
}

// background starts what runs beside the pulling: the leases, the watch, the handler's own worker.
func (r *Runner) background(ctx context.Context) (stop, wait func(), failed <-chan error) {
	// Leases outlive ctx: they are needed while the stage drains.
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	broken := make(chan error, 1)
	var all sync.WaitGroup
	all.Go(func() { r.keepLeases(own) })
	all.Go(func() { r.watch(own) })
	if w, ok := r.handler.(Worker); ok {
		all.Go(func() {
			if err := w.Run(own); err != nil && own.Err() == nil {
				broken <- fmt.Errorf("%s stopped: %w", r.def.Name, err)
			}
		})
	}
	return stop, all.Wait, broken
}

func (r *Runner) keepLeases(ctx context.Context) {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, p := range r.pullers {
				p.tick(now)
			}
		}
	}
}

// drain stops pulling, waits for the handlers, and when life is over for as long as the grace asks them to give up.
func (r *Runner) drain(life context.Context) {
	for _, p := range r.pullers {
		p.stop()
	}
	if l, ok := r.handler.(Leaver); ok {
		l.Leave()
	}
	r.hush()
	done := make(chan struct{})
	go func() {
		r.inFlight.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-life.Done():
	}
	grace := time.NewTimer(r.grace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		r.log.Warn().Int("jobs", r.InHand()).Msg("the grace is over, handing jobs back")
		r.giveUp(ErrDraining)
		<-done
	}
	r.giveUp(ErrDraining)
	for _, p := range r.pullers {
		p.leave()
	}
	// The last acks leave with this; a lost one costs a redelivery, nothing more.
	_ = r.env.Conn.NC.FlushTimeout(time.Second)
}

// Missing names an inbox that the broker does not know; "": it knows all.
func (r *Runner) Missing() string {
	for _, p := range r.pullers {
		if p.missing.Load() {
			return p.inbox.Consumer
		}
	}
	return ""
}

// Unready says why this process should not take another's place yet; "": it may.
func (r *Runner) Unready() string {
	if missing := r.Missing(); missing != "" {
		return "the inbox " + missing + " is gone"
	}
	if s, ok := r.handler.(Starter); ok {
		return s.Unready()
	}
	return ""
}

// hushTimeout bounds the wait for what is on its way to a stage that has stopped to pull.
const hushTimeout = time.Second

// hush waits until the broker has heard that nobody pulls, and what it sent before has been handed back.
func (r *Runner) hush() {
	_ = r.env.Conn.NC.FlushTimeout(hushTimeout) // without a connection nothing is on its way
	deadline := time.Now().Add(hushTimeout)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, p := range r.pullers {
		for p.isListening() && time.Now().Before(deadline) {
			<-tick.C
		}
	}
}

// InHand counts the jobs that this stage holds in this process.
func (r *Runner) InHand() int {
	n := 0
	for _, p := range r.pullers {
		n += p.inHand()
	}
	return n
}

func (r *Runner) accept(h *held) {
	go func() {
		defer r.inFlight.Done()
		r.m.inFlight.Inc()
		defer r.m.inFlight.Dec()
		r.process(h)
	}()
}

// process takes one delivery from decode to settle.
func (r *Runner) process(h *held) {
	j, err := r.decode(h)
	if err != nil {
		r.bury(h, err)
		return
	}
	j.Arrival = h.arrival
	if wait := time.Until(j.NotBefore); wait > early {
		h.nak(wait)
		h.p.release(h, false)
		return
	}
	started := time.Now()
	if h.p.inbox.Decode == nil { // else its id is not known yet
		r.present.enter(r.def.Name, j, started)
		defer r.present.leave(j.ID)
	}
	err = r.judge(j, h, started)
	took := time.Since(started)
	r.m.handling.Observe(took.Seconds())
	r.settle(h, j, err, started, took)
}

// judge decides what needs no handler, and else calls it.
func (r *Runner) judge(j *job.Job, h *held, now time.Time) error {
	poisonous := maxDeliveries
	if !j.NotBefore.IsZero() {
		poisonous++ // the delivery that came too early is no try
	}
	switch {
	case h.deliveries > poisonous:
		return &crash{code: fate.TooManyDeliveries, message: fmt.Sprintf("delivered %d times without an end", h.deliveries)}
	case !r.def.FinishesLate && !j.Deadline.IsZero() && now.After(j.Deadline):
		return fate.DivertTo(fate.Deadline, "the deadline passed before "+r.def.Name, nil)
	}
	if err := r.isOver(j, h); err != nil {
		return err
	}
	return r.call(j)
}

// overTimeout bounds the look at a redelivered job's result: it saves work, and decides nothing.
const overTimeout = 5 * time.Second

// isOver stops a redelivered job whose run has its result: whoever had it before brought it to its end. One
// that was answered in its place goes to fallback, which keeps it for a replay. Stages that finish late
// look for themselves, and so does the one whose jobs are parked, which are delivered often.
func (r *Runner) isOver(j *job.Job, h *held) error {
	if h.deliveries <= 1 || r.def.FinishesLate || h.p.inbox.Decode != nil || h.arrival.Stream == broker.ParkedStream {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.work, overTimeout)
	defer cancel()
	stored, err := r.env.Conn.Last(ctx, broker.ResultsStream, broker.ResultSubject(j.Task, j.ID))
	switch {
	case errors.Is(err, broker.ErrNotFound):
		return nil
	case err != nil:
		r.log.Warn().Err(err).Str("job", j.ID).Msg("the result of a redelivered job was not read, it goes on")
		return nil
	case broker.RunOf(stored.Header) < j.Run:
		return nil
	}
	status := job.Status(stored.Header.Get(broker.StatusHeader))
	if broker.RunOf(stored.Header) == j.Run && (status == job.Degraded || status == job.Failed) {
		return fate.DivertTo(fate.Deadline, "the run was answered before it came to "+r.def.Name, nil)
	}
	return fate.DoneElsewhere("the run has its result already")
}

// call runs the handler and turns a panic into an error.
func (r *Runner) call(j *job.Job) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &crash{code: fate.Crashed, message: fmt.Sprintf("%s panicked: %v", r.def.Name, v), stack: debug.Stack()}
		}
	}()
	return r.handler.Handle(r.work, j)
}

func (r *Runner) decode(h *held) (j *job.Job, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("decoding panicked: %v\n%s", v, debug.Stack())
		}
	}()
	if h.p.inbox.Decode != nil {
		a := h.arrival
		a.Header = make(map[string]string, len(h.header))
		for key, values := range h.header {
			if len(values) > 0 {
				a.Header[key] = values[0]
			}
		}
		h.arrival = a
		return h.p.inbox.Decode(h.data, a)
	}
	if j, err = decode(h.data); err != nil {
		return nil, fmt.Errorf("the message is no job: %w", err)
	}
	if !job.IsID(j.ID) || j.Task == "" || j.Run < 1 || j.V > job.Version {
		return nil, fmt.Errorf("the message is no job of version %d: id %q, task %q, run %d, v %d", job.Version, job.Cut(j.ID, 80), job.Cut(j.Task, 80), j.Run, j.V)
	}
	return j, nil
}

// crash is a job that must not be tried again here: a panic, or too many deliveries.
type crash struct {
	code    fate.Code
	message string
	stack   []byte
}

func (c *crash) Error() string { return c.message }

func find(defs []Definition, name string) (Definition, bool) {
	for _, d := range defs {
		if d.Name == name {
			return d, true
		}
	}
	return Definition{}, false
}

func slotsOf(d Definition) int {
	if d.Slots > 0 {
		return d.Slots
	}
	return DefaultSlots
}
