package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// MaxRequests bounds a drill: what is expected of each request is kept in memory.
const MaxRequests = 100_000

// Options of a drill.
type Options struct {
	// Conn is a connection that the pipeline does not use.
	Conn *broker.Conn
	// Provider is the one that the pipeline calls.
	Provider *Provider
	// Tasks are as the pipeline has them, hurried where it is, and Task names the one that is asked.
	Tasks *task.Set
	Task  string

	// Requests are published during the night. Their inputs are made of Inputs, or with none of the task's cases.
	Requests int
	Inputs   [][]byte
	// Speed is how many times as fast the night goes by.
	Speed float64
	// ReplayRate is how many replays are ordered a second.
	ReplayRate float64
	// Seed decides which inputs are repeated.
	Seed uint64

	// Progress, unless nil, is told how far a part is.
	Progress func(part string, done, of int)
}

// margin is how long after the last deadline a result is still awaited, before it is called lost.
const margin = 5 * time.Second

// drill is one rehearsal.
type drill struct {
	Options
	task      *task.Task
	acts      []act
	run       string
	probe     *question
	questions []*question
	ear       *ear

	// began is when each act did; acked when each request was acknowledged, zero: it was not.
	began   []time.Time
	acked   []time.Time
	refused error

	// steered: the provider is not as it was.
	steered   bool
	replayed  []*replayed
	unkept    int
	replaying time.Duration
	cut       bool
}

// Incident rehearses the night. It returns what was found; when ctx ends before the night does, what was found
// so far. An error says why nothing could be found: a NotSimulatedError, an UnreachedError, or what failed.
func Incident(ctx context.Context, o Options) (*Report, error) {
	d, err := newDrill(o)
	if err != nil {
		return nil, err
	}
	if err := d.Provider.Check(ctx); err != nil {
		return nil, err
	}
	if d.ear, err = listen(d.Conn, d.questions); err != nil {
		return nil, err
	}
	defer func() { _ = d.ear.close() }() // the connection is gone then, and they with it
	err = d.rehearse(ctx)
	return d.finish(context.WithoutCancel(ctx), err)
}

// finish makes the report, if there is one to make, and resets a provider that was steered, whatever happened.
func (d *drill) finish(ctx context.Context, err error) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*finishTimeout)
	defer cancel()
	var r *Report
	if err == nil {
		r, err = d.report(ctx)
	}
	if !d.steered {
		return r, err
	}
	if reset := d.Provider.Reset(ctx); reset != nil {
		err = errors.Join(err, fmt.Errorf("the simulated provider may still misbehave, start it anew: %w", reset))
	}
	return r, err
}

// finishTimeout bounds what is read when the time of the night is over.
const finishTimeout = 30 * time.Second

func newDrill(o Options) (*drill, error) {
	t := o.Tasks.Tasks[o.Task]
	switch {
	case t == nil:
		return nil, fmt.Errorf("there is no task %q", o.Task)
	case o.Requests < 1 || o.Requests > MaxRequests:
		return nil, fmt.Errorf("requests are 1 to %d, not %d", MaxRequests, o.Requests)
	case !(o.Speed > 0) || !(o.ReplayRate > 0):
		return nil, fmt.Errorf("speed and rate are above zero, not %g and %g", o.Speed, o.ReplayRate)
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	d := &drill{Options: o, task: t, run: newRun(), acked: make([]time.Time, o.Requests)}
	model := o.Tasks.Models[t.Model]
	d.acts = night(model, time.Duration(float64(model.Breaker.HalfOpenAfter)*o.Speed))
	known := int(float64(o.Requests) * float64(d.acts[0].lasts) / float64(length(d.acts)))
	forms, err := formsOf(t, d.bases())
	if err != nil {
		return nil, err
	}
	if d.questions, err = questions(t, forms, o.Seed, d.run, o.Requests, known); err != nil {
		return nil, err
	}
	d.probe, err = forms[0].ask(t, d.run, -1, -1, "bypass")
	return d, err
}

// bases are the inputs that requests are made of.
func (d *drill) bases() [][]byte {
	all := d.Inputs
	if len(all) == 0 {
		for _, c := range d.task.Cases {
			all = append(all, c.Input)
		}
	}
	if len(all) == 0 {
		all = append(all, d.Tasks.Sample(d.Task))
	}
	return all
}

// rehearse is the whole drill. The end of ctx cuts it short: what was acknowledged is waited for all the same.
func (d *drill) rehearse(ctx context.Context) error {
	if err := d.reach(ctx); err != nil {
		return err
	}
	err := d.play(ctx)
	if err == nil {
		err = d.settle(ctx)
	}
	if err == nil {
		err = d.replay(ctx)
	}
	if d.cut = ctx.Err() != nil; d.cut {
		err = d.drain(context.WithoutCancel(ctx))
	}
	return err
}

// drain makes the provider well again, and waits for what was acknowledged and ordered.
func (d *drill) drain(ctx context.Context) error {
	steering, cancel := context.WithTimeout(ctx, steerTimeout)
	defer cancel()
	return errors.Join(d.stage(steering, d.acts[len(d.acts)-1]), d.settle(ctx), d.settleReplays(ctx))
}

// play is the night: requests go on evenly, and the provider changes between them.
func (d *drill) play(ctx context.Context) error {
	began, whole := time.Now(), d.here(length(d.acts))
	for n := range d.questions {
		due := whole * time.Duration(n) / time.Duration(len(d.questions))
		if err := d.turn(ctx, began, due); err != nil {
			return err
		}
		if err := sleepUntil(ctx, began.Add(due)); err != nil {
			return err
		}
		if err := d.publish(ctx, n); err != nil {
			return err
		}
		d.Progress(d.now(), n+1, len(d.questions))
	}
	if err := d.turn(ctx, began, whole); err != nil {
		return err
	}
	return sleepUntil(ctx, began.Add(whole))
}

// turn begins the acts that begin before due.
func (d *drill) turn(ctx context.Context, began time.Time, due time.Duration) error {
	for len(d.began) < len(d.acts) {
		next := d.acts[len(d.began)]
		if d.here(next.begins) > due {
			return nil
		}
		if err := sleepUntil(ctx, began.Add(d.here(next.begins))); err != nil {
			return err
		}
		if err := d.stage(ctx, next); err != nil {
			return err
		}
		d.began = append(d.began, time.Now())
	}
	return nil
}

// now says which act it is.
func (d *drill) now() string {
	a := d.acts[len(d.began)-1]
	return clock(a.begins) + " " + a.what
}

// publish publishes the n-th request. One that is refused was not acknowledged, and nothing is promised of it.
func (d *drill) publish(ctx context.Context, n int) error {
	_, err := d.Conn.Publish(ctx, d.request(d.questions[n]))
	switch {
	case err == nil:
		d.acked[n] = time.Now()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		d.refused = err
	}
	return nil
}

func (d *drill) request(q *question) *nats.Msg {
	return &nats.Msg{
		Subject: broker.RequestSubject(job.Interactive, d.Task), Data: q.body, Header: nats.Header{broker.MsgIDHeader: {q.id}},
	}
}

// settle waits until what was acknowledged has its result, at most until the last deadline and the margin;
// then it reads from the stream what was not heard.
func (d *drill) settle(ctx context.Context) error {
	var open []*question
	last := time.Now()
	for n, at := range d.acked {
		if !at.IsZero() {
			open = append(open, d.questions[n])
			last = at
		}
	}
	err := d.ear.await(ctx, open, 1, last.Add(d.task.Deadline.Default+margin), func(n int) { d.Progress("results", n, len(open)) })
	if err != nil {
		return err
	}
	return d.read(ctx, open, 1)
}

// read looks in the stream for results of a run that were not heard.
func (d *drill) read(ctx context.Context, open []*question, run int) error {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	for _, q := range open {
		if d.ear.ended(q, run) {
			continue
		}
		stored, err := d.Conn.Last(ctx, broker.ResultsStream, broker.ResultSubject(d.Task, q.id))
		if errors.Is(err, broker.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for the result of %s: %w", q.id, err)
		}
		if found := broker.RunOf(stored.Header); found >= run && !d.ear.ended(q, run) {
			d.ear.hear(stored.Subject, stored.Data, stored.At, found)
		}
	}
	return nil
}

func sleepUntil(ctx context.Context, at time.Time) error {
	wait := time.Until(at)
	if wait <= 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
