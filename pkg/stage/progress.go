package stage

import (
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// Progress is an event of a job's way, published to whoever listens; nothing depends on its arrival.
type Progress struct {
	ID   string `json:"id"`
	Task string `json:"task"`
	Run  int    `json:"run"`
	Hop  int    `json:"hop"`
	// Stage let go of the job at At; To has it now, "" when the run ended.
	Stage string `json:"stage"`
	To    string `json:"to"`
	// Sequence is the job's in the stream of To's inbox.
	Sequence uint64    `json:"sequence,omitempty"`
	At       time.Time `json:"at"`
	Fate     string    `json:"fate,omitempty"`
	Code     fate.Code `json:"code,omitempty"`
	// Event says what happened when it was no hand-over: duplicate, id_conflict, replay_refused, result; acknowledged,
	// of a request with a session that a door took.
	Event   string     `json:"event,omitempty"`
	Message string     `json:"message,omitempty"`
	Status  job.Status `json:"status,omitempty"`
	// Result is the stored result, told again to the sender of a duplicate.
	Result *job.Result `json:"result,omitempty"`
	// Model is the one that a parked or delayed job waits for.
	Model string `json:"model,omitempty"`
	// NotBefore is when a delayed job may start.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Tenant and Session travel as headers.
	Tenant  string `json:"-"`
	Session string `json:"-"`
}

// progress announces a hand-over.
func (r *Runner) progress(j *job.Job, m move, sequence uint64) {
	p := Progress{
		ID: j.ID, Task: j.Task, Run: j.Run, Hop: j.Hop, Stage: r.def.Name, To: m.to, At: j.HandedOverAt,
		Sequence: sequence, Code: m.code, Message: m.detail, NotBefore: j.NotBefore, Tenant: j.Tenant, Session: j.Session,
	}
	if m.fate != 0 {
		p.Fate = m.fate.String()
	}
	if m.fate == fate.Park || m.fate == fate.Retry && !m.waits {
		p.Model = j.Model
	}
	if m.to == "" && m.fate == 0 && j.Outcome != nil {
		p.Event, p.Status = "result", j.Outcome.Status
	}
	Announce(r.env.Conn, p)
}

// Announce publishes a progress event. It may be lost: nobody may wait for it alone.
func Announce(c *broker.Conn, p Progress) {
	if p.At.IsZero() {
		p.At = time.Now().UTC()
	}
	body, err := json.Marshal(p)
	if err != nil {
		return
	}
	_ = c.NC.PublishMsg(&nats.Msg{
		Subject: broker.ProgressSubject(p.Task, p.ID), Data: body, Header: broker.Belonging(nil, p.Tenant, p.Session),
	})
}

// tell logs what became of a job, once.
func (r *Runner) tell(j *job.Job, m move, err error) {
	e := r.log.Debug()
	switch {
	case m.letter != nil && m.letter.Stack != "":
		e = r.log.Error()
	case m.handBack, m.fate == fate.Retry && !m.waits, m.fate == fate.Divert:
		e = r.log.Warn()
	}
	if !e.Enabled() {
		return
	}
	e = e.Str("job", j.ID).Str("task", j.Task).Int("run", j.Run).Int("hop", j.Hop)
	if id := job.TraceID(j.TraceParent); id != "" {
		e = e.Str("trace_id", id)
	}
	if m.fate != 0 {
		e = e.Str("fate", m.fate.String()).Str("code", string(m.code))
	}
	if err != nil {
		e = e.Err(err)
	}
	e.Str("to", m.to).Msg("job settled")
}
