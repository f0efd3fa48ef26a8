package stage

import (
	"context"
	"errors"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/killpoint"
)

// move is what settle does with a job: where it goes, what is kept of it, how the hop is told.
type move struct {
	// to is the stage that gets the job, subject its inbox; "": nobody, the job ends here.
	to, subject string
	// letter is kept as a dead letter before the job goes on; nil: none.
	letter *job.Letter
	// handBack returns the message to its inbox instead, after wait. No attempt is spent.
	handBack bool
	wait     time.Duration
	fate     fate.Fate
	code     fate.Code
	detail   string
	// waits: the job was parked, or comes back though nothing failed.
	waits bool
}

// settle is the only place where a job moves on, and the only one that acknowledges. The order is the
// guarantee: dead letter stored, hand-over stored, then the ack.
func (r *Runner) settle(h *held, j *job.Job, err error, started time.Time, took time.Duration) {
	m := r.decide(h, j, err)
	r.tell(j, m, err)
	if m.handBack {
		h.nak(m.wait)
		h.p.release(h, false)
		return
	}
	r.record(j, m, started, took)
	if killpoint.Planted("ack-before-publish") {
		_ = h.confirm(r.work)
		killpoint.Here("acked-before-publish")
	}
	killpoint.Here("before-publish")
	sequence, err := r.handOver(j, m)
	if err != nil {
		r.unsettled(h, j, m, err, started, took)
		return
	}
	killpoint.Here("published-before-ack")
	r.finish(h)
	r.progress(j, m, sequence)
}

// finish acknowledges, confirmed where the stage wants it so.
func (r *Runner) finish(h *held) {
	if r.def.ConfirmsAcks && r.work.Err() == nil {
		if err := h.confirm(r.work); err != nil {
			r.log.Warn().Err(err).Msg("ack not confirmed, the message may come again")
			h.p.release(h, false)
			return
		}
	} else {
		h.ack()
	}
	h.p.release(h, true)
}

// decide turns a handler's verdict into a move.
func (r *Runner) decide(h *held, j *job.Job, err error) move {
	switch {
	case err == nil:
		to, err := r.route.target(j)
		if err != nil {
			return r.stuckJob(h, j, &crash{code: fate.Internal, message: err.Error()})
		}
		return r.forward(j, to)
	case r.work.Err() != nil && !isFate(err):
		return move{handBack: true}
	}
	if c, ok := errors.AsType[*crash](err); ok {
		return r.stuckJob(h, j, c)
	}
	f := fate.Of(err)
	m := r.byFate(h, j, f)
	m.fate, m.code, m.detail, m.waits = f.Fate, f.Code, f.Message, f.Fate == fate.Park || f.Waits()
	return m
}

func isFate(err error) bool {
	_, ok := errors.AsType[*fate.Error](err)
	return ok
}

// forward sends j to a stage, keeping the dead letter that the handler asked for.
func (r *Runner) forward(j *job.Job, to string) move {
	m := move{to: to, letter: j.Keep}
	if to != "" {
		m.subject = broker.StageSubject(to, j.Lane)
	}
	return m
}

// byFate is the one switch over the fates.
func (r *Runner) byFate(h *held, j *job.Job, f *fate.Error) move {
	switch f.Fate {
	case fate.Retry:
		return r.again(h, j, f)
	case fate.Park:
		return r.park(h, j, f)
	case fate.Divert:
		return r.divert(j, f.Code, f.Message)
	case fate.Reject:
		j.Outcome = &job.Outcome{Status: job.Rejected, Error: failureOf(f)}
		return r.forward(j, broker.ResultWriter)
	case fate.Elsewhere:
		return move{letter: j.Keep}
	}
	return r.stuckJob(h, j, &crash{code: fate.Internal, message: "unknown fate " + f.Fate.String()})
}

// again lets the stage try once more, later: a copy in its own inbox, so that the wait is durable and
// holds no slot. A message that is not a job's keeps its identity and is handed back instead.
func (r *Runner) again(h *held, j *job.Job, f *fate.Error) move {
	if h.p.inbox.Decode != nil {
		return move{handBack: true, wait: f.After}
	}
	j.NotBefore = time.Now().Add(f.After)
	return move{to: r.def.Name, subject: broker.StageSubject(r.def.Name, j.Lane)}
}

// park lets the job wait for its model. One that waits already, and for which nothing was done, is handed
// back to where it waits; now and then it is stored anew, or it would look like poison in the end.
func (r *Runner) park(h *held, j *job.Job, f *fate.Error) move {
	subject := broker.ParkedSubject(j.Lane, j.Model)
	if f.AsItCame && h.arrival.Subject == subject && h.deliveries < maxDeliveries/2 {
		return move{handBack: true, wait: f.After}
	}
	j.NotBefore = time.Now().Add(f.After)
	return move{to: r.def.Name, subject: subject}
}

// divert sends the job to the ladder; from the ladder itself there is no way but a dead letter.
func (r *Runner) divert(j *job.Job, code fate.Code, message string) move {
	t := &job.Trouble{Stage: r.def.Name, Code: code, Message: message, At: time.Now().UTC()}
	if j.Trouble == nil {
		j.Trouble = t
	} else {
		j.Setback = t
	}
	if r.def.Name == broker.Fallback || r.def.Name == broker.ResultWriter {
		return r.giveUpOn(j, code, message, nil)
	}
	j.NotBefore = time.Time{}
	return r.forward(j, broker.Fallback)
}

func failureOf(f *fate.Error) *job.Failure {
	failure := &job.Failure{Code: f.Code, Message: f.Message, Reasons: f.Reasons}
	if len(f.Reasons) > 0 {
		failure.Pointer = f.Reasons[0].Pointer
	}
	return failure
}

// record writes the hop into the history.
func (r *Runner) record(j *job.Job, m move, started time.Time, took time.Duration) {
	from := j.HandedOverAt
	if from.IsZero() {
		from = j.Arrival.At
	}
	e := job.Event{
		Kind: job.KindHop, Stage: r.def.Name, At: started.UTC(), QueuedMS: max(started.Sub(from).Milliseconds(), 0),
		TookMS: took.Milliseconds(), Code: m.code, Detail: m.detail,
	}
	if m.fate != 0 {
		e.Fate = m.fate.String()
	}
	if last := lastOf(j); m.waits && last.Fate == e.Fate && last.Stage == e.Stage && (m.fate == fate.Park || last.Code == "") {
		e.N, e.QueuedMS = max(last.N, 1)+1, e.QueuedMS+last.QueuedMS
		*last = e // a job that waits for a day would have no room for anything else in its history
	} else {
		j.Record(e)
	}
	r.m.settled.WithLabelValues(fateLabel(m)).Inc()
}

// lastOf returns the last event of a job's history, or an empty one.
func lastOf(j *job.Job) *job.Event {
	if n := len(j.History); n > 0 {
		return &j.History[n-1]
	}
	return &job.Event{}
}

func fateLabel(m move) string {
	switch {
	case m.fate != 0:
		return m.fate.String()
	case m.to == "":
		return "end"
	}
	return "on"
}

// wait returns after d, or with the cause when ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
