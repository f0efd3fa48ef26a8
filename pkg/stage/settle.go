package stage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/nats-io/nats.go"

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
	if err := r.handOver(j, m); err != nil {
		r.unsettled(h, j, m, err, started, took)
		return
	}
	killpoint.Here("published-before-ack")
	r.finish(h)
	r.progress(j, m)
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
	m.fate, m.code, m.detail = f.Fate, f.Code, f.Message
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

// stuckJob ends a crashed or poisonous job: always a dead letter, then the ladder answers.
func (r *Runner) stuckJob(h *held, j *job.Job, c *crash) move {
	if h.p.inbox.Decode != nil {
		return r.rescue(h, j, c)
	}
	if r.def.Name == broker.Fallback || r.def.Name == broker.ResultWriter {
		m := r.giveUpOn(j, c.code, c.message, c.stack)
		m.code, m.detail = c.code, c.message
		return m
	}
	m := r.divert(j, c.code, c.message)
	if j.Trouble.Stage == r.def.Name {
		j.Trouble.Stack = job.Cut(string(c.stack), maxStack)
	}
	m.letter = r.letterOf(c.code, c.message, c.stack)
	m.fate, m.code, m.detail = fate.Divert, c.code, c.message
	return m
}

// rescueLater is when a message is tried again whose rescue failed for want of the broker.
const rescueLater = 5 * time.Second

// rescue ends a message that is no job and broke its stage. Its bytes are kept, whatever else is known.
func (r *Runner) rescue(h *held, j *job.Job, c *crash) move {
	err := fate.DoneElsewhere("nobody to tell")
	if rescuer, ok := r.handler.(Rescuer); ok {
		if f := r.tryRescue(rescuer, j); f != nil {
			err = f
		} else {
			err = nil
		}
	}
	if err != nil && err.Fate != fate.Elsewhere {
		return move{handBack: true, wait: rescueLater}
	}
	letter := r.letterOf(c.code, c.message, c.stack)
	letter.Raw, letter.At = bounded(h.data), time.Now().UTC()
	if err := r.keepRaw(h, letter); err != nil {
		return move{handBack: true, wait: rescueLater}
	}
	if err != nil {
		return move{fate: fate.Elsewhere, code: c.code, detail: c.message}
	}
	m := r.divert(j, c.code, c.message)
	j.Trouble.Stack = letter.Stack
	m.fate, m.code, m.detail = fate.Divert, c.code, c.message
	return m
}

// rawID names a message that is no job: its consumer and its number there.
func rawID(h *held) string { return h.p.inbox.Consumer + "-" + strconv.FormatUint(h.seq, 10) }

// keepRaw stores the letter of a message that is no job, under a name of its own.
func (r *Runner) keepRaw(h *held, l *job.Letter) error {
	body, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode the dead letter of %s: %w", rawID(h), err)
	}
	ctx, cancel := r.settling()
	defer cancel()
	r.m.dead.WithLabelValues(string(l.Code)).Inc()
	return r.store(ctx, &nats.Msg{
		Subject: broker.DeadSubject(r.def.Name, broker.RawTask, rawID(h)), Data: body,
		Header: nats.Header{broker.MsgIDHeader: {fmt.Sprintf("%s.%d.raw", h.arrival.Stream, h.seq)}},
	}, false)
}

func (r *Runner) tryRescue(rescuer Rescuer, j *job.Job) (f *fate.Error) {
	defer func() {
		if v := recover(); v != nil {
			f = fate.DoneElsewhere(fmt.Sprintf("the rescue panicked: %v", v))
		}
	}()
	if err := rescuer.Rescue(r.work, j); err != nil {
		return fate.Of(err)
	}
	return nil
}

// maxRaw bounds what is kept of a message that is no job: it must fit into a dead letter.
const maxRaw = 1 << 20

func bounded(data []byte) []byte { return data[:min(len(data), maxRaw)] }

// giveUpOn ends a job where the ladder itself, or the writing of the result, failed: a dead letter, and a
// minimal failed result. If even that cannot be written, the dead letter alone stays.
func (r *Runner) giveUpOn(j *job.Job, code fate.Code, message string, stack []byte) move {
	m := move{letter: r.letterOf(code, message, stack), fate: fate.Divert, code: code, detail: message}
	if j.Minimal {
		// Its letter, with the whole job, was kept by whoever made the stub: it is not to be overwritten.
		m.letter = nil
		r.log.Error().Str("job", j.ID).Str("task", j.Task).Str("code", string(code)).Msg("not even a failed result can be told: " + message)
		return m
	}
	stub := j.Stub(job.Failure{Code: code, Message: message, DeadLetter: broker.DeadSubject(r.def.Name, j.Task, j.ID)})
	whole := *j
	m.letter.Job = &whole
	*j = *stub
	m.to, m.subject = broker.ResultWriter, broker.StageSubject(broker.ResultWriter, j.Lane)
	return m
}

func (r *Runner) letterOf(code fate.Code, message string, stack []byte) *job.Letter {
	return &job.Letter{V: job.Version, Stage: r.def.Name, Code: code, Message: message, Stack: job.Cut(string(stack), maxStack)}
}

const maxStack = 16 << 10

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
	if last := lastOf(j); m.fate == fate.Park && last.Fate == e.Fate && last.Stage == e.Stage {
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

// lastWords bounds a hand-over after the grace.
const lastWords = 5 * time.Second

// settling is a context that outlives the handlers' by lastWords.
func (r *Runner) settling() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.work))
	stop := context.AfterFunc(r.work, func() {
		time.AfterFunc(lastWords, func() { cancel(context.Cause(r.work)) })
	})
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// handOver stores the dead letter and the job where they belong.
//
// A job that was handled to its end when the process had to leave is still handed over, if that takes no
// longer than lastWords: what was done for it was paid for.
func (r *Runner) handOver(j *job.Job, m move) error {
	ctx, cancel := r.settling()
	defer cancel()
	j.Hop++
	j.HandedOverAt = time.Now().UTC()
	if m.letter != nil {
		if err := r.keep(ctx, j, m.letter); err != nil {
			return err
		}
	}
	if m.subject != "" {
		body, err := encode(j)
		if err != nil {
			return err
		}
		msg := &nats.Msg{Subject: m.subject, Data: body, Header: headers(j, "")}
		if err := r.store(ctx, msg, m.fate == fate.Park); err != nil {
			return err
		}
	}
	if j.ForgetDead != 0 {
		if err := r.env.Conn.Delete(ctx, broker.DeadStream, j.ForgetDead); err != nil {
			r.log.Warn().Err(err).Str("job", j.ID).Msg("replayed, but its old dead letter stays listed")
		}
	}
	return nil
}

// headers name the hop, so that a repeated hand-over is known as one.
func headers(j *job.Job, suffix string) nats.Header {
	run, hop := strconv.Itoa(j.Run), strconv.Itoa(j.Hop)
	h := nats.Header{
		broker.MsgIDHeader: {j.ID + "." + run + "." + hop + suffix},
		broker.JobHeader:   {j.ID}, broker.RunHeader: {run}, broker.HopHeader: {hop},
	}
	if j.TraceParent != "" {
		h[broker.TraceParentHeader] = []string{j.TraceParent}
	}
	return h
}

// keep stores a dead letter: the whole job, with the hop that led here.
func (r *Runner) keep(ctx context.Context, j *job.Job, l *job.Letter) error {
	l.V = job.Version
	l.At = j.HandedOverAt
	if l.Stage == "" {
		l.Stage = r.def.Name
	}
	if l.Job == nil {
		l.Job = j
	}
	body, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode the dead letter of %s: %w", j.ID, err)
	}
	r.m.dead.WithLabelValues(string(l.Code)).Inc()
	return r.store(ctx, &nats.Msg{
		Subject: broker.DeadSubject(l.Stage, j.Task, j.ID), Data: body, Header: headers(j, ".dead"),
	}, false)
}

// store publishes until it is acknowledged. A full inbox is a fuse that blew: it is waited out, loudly,
// unless elsewhere is true, where the caller has another way.
func (r *Runner) store(ctx context.Context, msg *nats.Msg, elsewhere bool) error {
	for {
		_, err := r.env.Conn.Publish(ctx, msg)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil, errors.Is(err, broker.ErrTooLarge), errors.Is(err, broker.ErrFull) && elsewhere:
			return err
		}
		r.m.blocked.Inc()
		r.log.Error().Err(err).Str("subject", msg.Subject).Msg("a job cannot move on, trying again")
		if wait(ctx, time.Second) != nil {
			return context.Cause(ctx)
		}
	}
}

// unsettled deals with a hand-over that could not be stored.
func (r *Runner) unsettled(h *held, j *job.Job, m move, err error, started time.Time, took time.Duration) {
	switch {
	case r.work.Err() != nil:
		h.nak(0)
		h.p.release(h, false)
	case errors.Is(err, broker.ErrTooLarge) && !j.Shrunk && h.p.inbox.Decode == nil:
		j.Shrink()
		r.settle(h, j, &crash{code: fate.JobTooLarge, message: tooLarge}, started, took)
	case errors.Is(err, broker.ErrTooLarge) && !j.Minimal:
		r.settleStub(h, j)
	case m.fate == fate.Park:
		r.settle(h, j, fate.DivertTo(m.code, "no more jobs can be parked for this model", err), started, took)
	default:
		r.log.Error().Err(err).Str("job", j.ID).Msg("a job cannot be told of, it is left in the inbox")
		h.nak(time.Minute)
		h.p.release(h, false)
	}
}

const tooLarge = "the job grew beyond what a message may hold"

// settleStub ends a job that no message can hold even when shrunk: what is left of it is that it failed.
func (r *Runner) settleStub(h *held, j *job.Job) {
	dead := broker.DeadSubject(r.def.Name, j.Task, j.ID)
	*j = *j.Stub(job.Failure{Code: fate.JobTooLarge, Message: tooLarge, DeadLetter: dead})
	j.Metadata, j.History = nil, nil
	letter := r.letterOf(fate.JobTooLarge, tooLarge, nil)
	letter.Raw = bounded(h.data)
	m := move{
		to: broker.ResultWriter, subject: broker.StageSubject(broker.ResultWriter, j.Lane), letter: letter,
		fate: fate.Divert, code: fate.JobTooLarge, detail: tooLarge,
	}
	if err := r.handOver(j, m); err != nil {
		r.unsettled(h, j, m, err, time.Now(), 0)
		return
	}
	r.finish(h)
	r.progress(j, m)
}

// bury keeps a message that is no job, as it came. The deadline answers whom it belonged to.
func (r *Runner) bury(h *held, cause error) {
	r.log.Error().Err(cause).Uint64("sequence", h.seq).Str("stream", h.arrival.Stream).Msg("undecodable message, kept as a dead letter")
	l := &job.Letter{
		V: job.Version, Stage: r.def.Name, Code: fate.Undecodable, Message: job.Cut(cause.Error(), job.MaxDetail),
		At: time.Now().UTC(), Raw: bounded(h.data),
	}
	if id := h.header.Get(broker.JobHeader); job.IsID(id) {
		l.Message = "job " + id + ": " + l.Message
	}
	if len(h.data) > maxRaw {
		l.Message = fmt.Sprintf("%s (the first %d of %d bytes are kept)", l.Message, maxRaw, len(h.data))
	}
	if r.keepRaw(h, l) != nil {
		h.nak(rescueLater)
		h.p.release(h, false)
		return
	}
	h.term("undecodable")
	h.p.release(h, true)
}

// HandIn stores a job that did not come through an inbox in the inbox of result-writer: a cancellation, a
// deadline's answer. suffix makes its message id one of its own.
func HandIn(ctx context.Context, c *broker.Conn, j *job.Job, suffix string) error {
	j.HandedOverAt = time.Now().UTC()
	body, err := encode(j)
	if err != nil {
		return err
	}
	_, err = c.Publish(ctx, &nats.Msg{Subject: broker.StageSubject(broker.ResultWriter, j.Lane), Data: body, Header: headers(j, suffix)})
	return err
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
