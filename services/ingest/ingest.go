package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/admission"
	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/killpoint"
	"spillway/pkg/session"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Definition is the stage.
func Definition() stage.Definition {
	a := &admission.Admission{}
	return stage.Definition{
		Name: broker.Ingest,
		Inboxes: []stage.Inbox{
			{
				Stream: broker.RequestsStream, Subject: broker.AllRequests, Consumer: broker.Ingest,
				Slots: 256, Decode: decode, Gate: a.Gate(job.Interactive),
			},
			{
				Stream: broker.BatchStream, Subject: broker.AllBatch, Consumer: broker.BatchIngestConsumer,
				Slots: 8, Decode: decode, Gate: a.Gate(job.Batch),
			},
		},
		New: newIngest,
	}
}

// decode makes a job of a request without reading it: whatever is in it, it has an id and an end.
func decode(data []byte, a job.Arrival) (*job.Job, error) {
	lane := job.Interactive
	if a.Stream == broker.BatchStream {
		lane = job.Batch
	}
	j := &job.Job{
		V: job.Version, Task: broker.Token(a.Subject, 2), Lane: lane, Run: 1,
		AcknowledgedAt: a.At.UTC(), TraceParent: a.Header[broker.TraceParentHeader], Raw: data, Arrival: a,
	}
	j.ID = derivedID(a.Stream, time.Time{}, a.At, a.Sequence)
	return j, nil
}

type ingest struct {
	conn     *broker.Conn
	tasks    *task.Book
	desk     *Desk
	sessions *session.Store
	m        *metrics
	log      zerolog.Logger

	mu      sync.Mutex
	created map[string]time.Time // of the request streams
}

var (
	_ stage.Handler = (*ingest)(nil)
	_ stage.Worker  = (*ingest)(nil)
	_ stage.Rescuer = (*ingest)(nil)
)

func newIngest(env *stage.Env) (stage.Handler, error) {
	book := env.Book()
	return &ingest{
		conn: env.Conn, tasks: book, desk: NewDesk(env.Conn, book, env.Log),
		sessions: session.NewStore(env.Conn), m: newMetrics(env.Metrics), log: env.Log, created: map[string]time.Time{},
	}, nil
}

// Handle admits one request.
func (in *ingest) Handle(ctx context.Context, j *job.Job) error {
	t := in.tasks.Live().Tasks[j.Task]
	r := read(j.Raw, j.Arrival.Header[broker.MsgIDHeader], j.Task, j.Lane, t)
	held, mine, err := in.admit(ctx, j, r, t)
	if err != nil {
		return err
	}
	killpoint.Here("after-marker")
	if t == nil || held.TaskVersion != t.Version {
		// It was admitted before the task changed, and is what it was then.
		if t, err = in.tasks.ForMarker(ctx, held); err != nil {
			return fmt.Errorf("get the task of %s: %w", held.ID, err)
		}
		r = read(j.Raw, j.Arrival.Header[broker.MsgIDHeader], j.Task, j.Lane, t)
	}
	in.m.admitted.WithLabelValues(j.Lane).Inc()
	fill(j, held, r, t)
	j.Raw = nil
	if rejection := r.rejection(); rejection != nil {
		return rejection
	}
	if refusal := in.paused(j, mine); refusal != nil {
		return refusal
	}
	if err := in.join(ctx, j, t); err != nil {
		return err
	}
	killpoint.Here("after-join")
	return in.inTime(ctx, j, held)
}

// inTime diverts a job that nobody needs to be called for any more: its deadline passed, or fallback has answered it by its
// marker. Fallback keeps it then, with its input, for a replay.
func (in *ingest) inTime(ctx context.Context, j *job.Job, held *job.Marker) error {
	now := time.Now()
	switch {
	case now.After(j.Deadline):
		return fate.DivertTo(fate.Deadline, "the deadline passed before the request was admitted", nil)
	case now.Before(held.AnswerBy):
		return nil
	}
	run, err := in.conn.ResultRun(ctx, j.Task, j.ID)
	if err != nil {
		return fmt.Errorf("read the result of %s: %w", j.ID, err)
	}
	if run > 0 {
		return fate.DivertTo(fate.Deadline, "answered from the ladder before the request was admitted", nil)
	}
	return nil
}

// admit takes the request's marker and returns it, mine if it was not there before; or says as an error with a fate that
// the request is a repetition, or over already.
func (in *ingest) admit(ctx context.Context, j *job.Job, r *reading, t *task.Task) (held *job.Marker, mine bool, err error) {
	id := r.id
	if id == "" {
		created, err := in.streamCreated(ctx, j.Arrival.Stream)
		if err != nil {
			return nil, false, err
		}
		id = derivedID(j.Arrival.Stream, created, j.Arrival.At, j.Arrival.Sequence)
	}
	held, err = in.marked(ctx, id, &j.Arrival)
	if held == nil && err == nil {
		own := newMarker(id, j, r, t)
		if held, err = in.conn.Admit(ctx, own); err == nil && !isOf(held, &j.Arrival) {
			return nil, false, in.repeated(ctx, own, held)
		}
		mine = held == own
	}
	if err != nil {
		return nil, false, fmt.Errorf("admit %s: %w", id, err)
	}
	if j.Arrival.Deliveries > 1 {
		run, err := in.conn.ResultRun(ctx, held.Task, id)
		if err != nil {
			return nil, false, fmt.Errorf("read the result of %s: %w", id, err)
		}
		if run > 0 {
			return nil, false, fate.DoneElsewhere("the run has its result already")
		}
	}
	return held, mine, nil
}

// Rescue admits a request that broke ingest, so that its sender is told. Nothing of it is checked: what
// can be had of its input is for a canned answer and for a replay.
func (in *ingest) Rescue(ctx context.Context, j *job.Job) error {
	r := &reading{duration: defaultDeadline}
	if header := j.Arrival.Header[broker.MsgIDHeader]; job.IsID(header) {
		r.id = header
	}
	// As read does: the body's id counts where the body can be read, or is refused for its size alone.
	if id := findID(j.Raw); id != "" && (len(j.Raw) > job.MaxRequestBytes || json.Valid(j.Raw)) {
		r.id = id
	}
	held, _, err := in.admit(ctx, j, r, nil)
	if err != nil {
		return err
	}
	if json.Unmarshal(j.Raw, &r.request) != nil {
		r.request = job.Request{}
	}
	fill(j, held, r, in.tasks.Live().Tasks[j.Task])
	j.Raw = nil
	return nil
}

// newMarker is the one that this request would hold.
func newMarker(id string, j *job.Job, r *reading, t *task.Task) *job.Marker {
	m := &job.Marker{
		V: job.Version, ID: id, Task: j.Task, Lane: j.Lane, Tenant: r.request.Tenant,
		RequestStream: j.Arrival.Stream, RequestSeq: j.Arrival.Sequence, BodyHash: hashBody(j.Task, j.Raw),
		AcknowledgedAt: j.AcknowledgedAt, Deadline: j.AcknowledgedAt.Add(r.duration), Run: 1,
		TraceParent: traceParent(j.TraceParent),
	}
	m.AnswerBy = m.Deadline.Add(-time.Second)
	if t != nil {
		m.TaskVersion = t.Version
		m.AnswerBy = m.Deadline.Add(-t.AnswerLead(r.duration))
	}
	m.Session, m.Parent = r.request.Session, r.request.Parent
	if len(r.request.Metadata) <= job.MaxMarkedMetadata {
		m.Metadata = bytes.Clone(r.request.Metadata) // who waits for the result keeps the marker, not the body
	}
	m.CacheKey, m.Canned = r.shape(t)
	if r.request.Cache == job.CacheBypass {
		m.CacheKey = "" // neither answered from the cache nor kept in it
	}
	return m
}

// fill completes the job from the marker, which is the same at each delivery, and from the request.
func fill(j *job.Job, m *job.Marker, r *reading, t *task.Task) {
	q := r.request
	j.ID, j.TaskVersion, j.Tenant, j.AcknowledgedAt, j.Deadline = m.ID, m.TaskVersion, m.Tenant, m.AcknowledgedAt, m.Deadline
	j.CacheKey, j.TraceParent, j.RequestSeq, j.Run = m.CacheKey, m.TraceParent, m.RequestSeq, 1
	j.Session, j.Parent, j.Stream, j.Webhook = q.Session, q.Parent, q.Stream, q.Webhook
	j.Input, j.Metadata = q.Input, q.Metadata
	j.CacheBypass, j.CacheRenew = q.Cache == job.CacheBypass, q.Cache == job.CacheRenew
	if t != nil {
		j.Model = t.Model
	}
}

// streamCreated is part of what a derived id is made of: a deleted and recreated stream counts anew.
func (in *ingest) streamCreated(ctx context.Context, stream string) (time.Time, error) {
	in.mu.Lock()
	created, ok := in.created[stream]
	in.mu.Unlock()
	if ok {
		return created, nil
	}
	s, err := in.conn.JS.Stream(ctx, stream)
	if err != nil {
		return time.Time{}, fmt.Errorf("look at stream %s: %w", stream, err)
	}
	created = s.CachedInfo().Created
	in.mu.Lock()
	defer in.mu.Unlock()
	in.created[stream] = created
	return created, nil
}
