package inference

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/partial"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

const (
	// draftPause is how long drafts are collected before they are published as one, and draftShare how much of
	// that a call adds for all: a process publishes at most 10,000 a second, however many calls it has.
	draftPause = 50 * time.Millisecond
	draftShare = 100 * time.Microsecond
	// draftGrowth is by which part of it a partial value must have grown to be sent again, for it is sent whole:
	// all drafts of an answer together are about so many times as long as it is.
	draftGrowth = 8
)

// telling is what all drafts of a process share.
type telling struct {
	// offer takes a draft, if there is room, and never waits; nil without a connection.
	offer func(job.Draft) bool
	// outbox is where offer puts them; nil without a connection.
	outbox *stage.Outbox
	// shapes say which strings of a task's output are shown only whole, by version of the task.
	shapes sync.Map
	// calls is how many calls have drafts now.
	calls atomic.Int64
}

// newTelling lets drafts be published on the connection.
func newTelling(env *stage.Env) (*telling, error) {
	t := &telling{}
	if env.Conn == nil {
		return t, nil
	}
	var err error
	if t.outbox, err = stage.NewOutbox(env.Conn, env.Metrics); err != nil {
		return nil, err
	}
	t.offer = t.outbox.Offer
	return t, nil
}

// shapeOf is nil for a task whose output has no schema.
func (t *telling) shapeOf(of *task.Task) *partial.Shape {
	if of.OutputSchema == nil {
		return nil
	}
	version := of.Name + "/" + of.Version
	if known, ok := t.shapes.Load(version); ok {
		return known.(*partial.Shape)
	}
	shape := partial.ShapeOf(of.OutputSchema.Document())
	t.shapes.Store(version, shape)
	return shape
}

func (t *telling) run(ctx context.Context) error {
	if t.outbox == nil {
		return nil
	}
	return t.outbox.Run(ctx)
}

// pause is how long the drafts of a call are collected.
func (t *telling) pause() time.Duration {
	return max(draftPause, time.Duration(t.calls.Load())*draftShare)
}

// drafts publishes what a model says while it says it. nil: nobody wants to know.
type drafts struct {
	telling *telling
	head    job.Draft
	// value reads the output of a task whose output is JSON, and unsent is true when it holds more than was
	// sent; nil: it is text, of which spoken shows what is said.
	value  *partial.Reader
	unsent bool
	spoken spoken
	// read is how much of the content was looked at, or sent if it is text; sent how many drafts there were.
	read int
	sent int
	next time.Time
	// enough is how long the content must be for the next draft.
	enough int
}

// tells reports whether drafts of the job's answers are published at all.
func (h *Handler) tells(j *job.Job, t *task.Task) bool {
	return j.Stream && h.drafts.offer != nil && t != nil && t.Output.Stream != task.StreamNever
}

// headOf begins what is told of the call that the job is here for.
func (h *Handler) headOf(j *job.Job, event string) job.Draft {
	d := j.Draft(event)
	// One process may have two copies of a job, whose calls are two.
	d.Call, d.Holder = j.Calls+1, fmt.Sprintf("%s.%d", h.replica, j.Arrival.Sequence)
	return d
}

// draftsOf returns the drafts of a call, nil when the request did not ask for them or its task has none. They
// are to be left.
func (h *Handler) draftsOf(c *call) *drafts {
	j := c.job
	if !h.tells(j, c.task) {
		return nil
	}
	d := &drafts{telling: h.drafts, head: h.headOf(j, job.DraftPart)}
	if c.task.Output.Format != task.FormatText {
		d.value = &partial.Reader{Shape: h.drafts.shapeOf(c.task)}
	}
	// The drafts of a delivery before this one are not known of.
	if j.Drafted || j.Arrival.Deliveries > 1 {
		d.send(func(e *job.Draft) { e.Event = job.DraftRestarted })
	}
	h.drafts.calls.Add(1)
	return d
}

// takeBack takes back what a process that died may have shown, of a job whose call is not made again here. Parked
// jobs are delivered often without a call.
func (h *Handler) takeBack(ctx context.Context, j *job.Job) {
	if j.Arrival.Deliveries <= 1 || j.Arrival.Stream == broker.ParkedStream {
		return
	}
	if t, err := h.tasks.For(ctx, j); err == nil && h.tells(j, t) {
		d := h.headOf(j, job.DraftRetracted)
		d.N = 1
		h.drafts.offer(d)
	}
}

func (d *drafts) leave() {
	if d != nil {
		d.telling.calls.Add(-1)
	}
}

func (d *drafts) send(fill func(*job.Draft)) bool {
	e := d.head
	e.N = d.sent + 1
	fill(&e)
	if !d.telling.offer(e) {
		return false
	}
	d.sent++
	return true
}

// heard publishes what is new in the content, unless that was done a moment ago.
func (d *drafts) heard(now time.Time, content []byte) {
	if d == nil || now.Before(d.next) || len(content) < d.enough {
		return
	}
	d.next = now.Add(d.telling.pause())
	if d.value != nil {
		d.enough = len(content) + len(content)/draftGrowth
	}
	d.flush(content)
}

// flush publishes what is new.
func (d *drafts) flush(content []byte) {
	if d.value == nil {
		d.speak(content)
		return
	}
	if d.value.Add(content[d.read:]) {
		d.unsent = true
	}
	d.read = len(content)
	if d.unsent {
		value := d.value.Value()
		d.unsent = !d.send(func(e *job.Draft) { e.Partial = value })
	}
}

// speak publishes what is new of a text.
func (d *drafts) speak(content []byte) {
	until, unsaid := d.spoken.of(content)
	switch {
	case unsaid && d.sent > 0:
		d.send(func(e *job.Draft) { e.Event = job.DraftRetracted })
	case until > d.read && d.send(func(e *job.Draft) { e.Text = string(content[d.read:until]) }):
		d.read = until
	}
}

// end publishes the rest of the answer, or that it is none.
func (d *drafts) end(c *call, failed *failure) {
	switch {
	case d == nil:
		return
	case failed == nil:
		d.flush(c.content)
	case d.sent > 0:
		d.send(func(e *job.Draft) {
			e.Event = job.DraftRetracted
			if c.ended == nil || isTimeout(c.ended) {
				e.Code = failed.code // else the job was cancelled, or the process leaves
			}
		})
	}
	if d.sent > 0 {
		c.job.Drafted = true
	}
}
