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
)

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

// handOver stores the dead letter and the job where they belong, and returns the job's sequence there.
//
// A job that was handled to its end when the process had to leave is still handed over, if that takes no
// longer than lastWords: what was done for it was paid for.
func (r *Runner) handOver(j *job.Job, m move) (sequence uint64, err error) {
	ctx, cancel := r.settling()
	defer cancel()
	j.Hop++
	j.HandedOverAt = time.Now().UTC()
	if m.letter != nil {
		if err := r.keep(ctx, j, m.letter); err != nil {
			return 0, err
		}
	}
	if m.subject != "" {
		body, err := encode(j)
		if err != nil {
			return 0, err
		}
		msg := &nats.Msg{Subject: m.subject, Data: body, Header: headers(j, "")}
		if sequence, err = r.store(ctx, msg, m.fate == fate.Park); err != nil {
			return 0, err
		}
	}
	if j.ForgetDead != 0 {
		if err := r.env.Conn.Delete(ctx, broker.DeadStream, j.ForgetDead); err != nil {
			r.log.Warn().Err(err).Str("job", j.ID).Msg("replayed, but its old dead letter stays listed")
		}
	}
	return sequence, nil
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
	h := headers(j, ".dead")
	if j.TaskVersion != "" {
		h[broker.VersionHeader] = []string{j.TaskVersion}
	}
	_, err = r.store(ctx, &nats.Msg{Subject: broker.DeadSubject(l.Stage, j.Task, j.ID), Data: body, Header: h}, false)
	return err
}

// store publishes until it is acknowledged. A full inbox is a fuse that blew: it is waited out, loudly,
// unless elsewhere is true, where the caller has another way.
func (r *Runner) store(ctx context.Context, msg *nats.Msg, elsewhere bool) (sequence uint64, err error) {
	for {
		ack, err := r.env.Conn.Publish(ctx, msg)
		switch {
		case err == nil:
			return ack.Sequence, nil
		case ctx.Err() != nil, errors.Is(err, broker.ErrTooLarge), errors.Is(err, broker.ErrFull) && elsewhere:
			return 0, err
		}
		r.m.blocked.Inc()
		r.log.Error().Err(err).Str("subject", msg.Subject).Msg("a job cannot move on, trying again")
		if wait(ctx, time.Second) != nil {
			return 0, context.Cause(ctx)
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
	sequence, err := r.handOver(j, m)
	if err != nil {
		r.unsettled(h, j, m, err, time.Now(), 0)
		return
	}
	r.finish(h)
	r.progress(j, m, sequence)
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
