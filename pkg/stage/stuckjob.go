package stage

import (
	"fmt"
	"strconv"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

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
	_, err = r.store(ctx, &nats.Msg{
		Subject: broker.DeadSubject(r.def.Name, broker.RawTask, rawID(h)), Data: body,
		Header: nats.Header{broker.MsgIDHeader: {fmt.Sprintf("%s.%d.raw", h.arrival.Stream, h.seq)}},
	}, false)
	return err
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
