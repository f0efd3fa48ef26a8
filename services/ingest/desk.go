package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/killpoint"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Desk accepts requests and cancellations for whoever stands between a client and JetStream: llm.submit, the
// HTTP door. What it acknowledged has its marker, so that whoever asks next finds it.
//
// The request is stored first, then the marker, which names where: ingest finds its own there and goes on. A
// process that dies in between leaves a request without one; ingest takes it then.
// TestWhatADoorAcknowledgedBeforeItWasKilledEndsWithAResult pins it.
type Desk struct {
	conn  *broker.Conn
	tasks *task.Book
	clock *clock
	log   zerolog.Logger
}

// NewDesk makes a desk for the requests of these tasks.
func NewDesk(conn *broker.Conn, tasks *task.Book, log zerolog.Logger) *Desk {
	return &Desk{conn: conn, tasks: tasks, log: log, clock: &clock{now: time.Now, log: log, ask: func(ctx context.Context) (time.Time, error) {
		// Its leader gives the requests their times.
		s, err := conn.JS.Stream(ctx, broker.RequestsStream)
		if err != nil {
			return time.Time{}, err
		}
		return s.CachedInfo().TimeStamp, nil
	}}}
}

// Submission is a request as a client brings it.
type Submission struct {
	Task string
	Body []byte
	// ID binds: a body that names another one is refused. MsgID is for a body that names none. Both "": a ULID
	// is drawn for such a body.
	ID, MsgID string
	// Tenant binds if Tenanted, and is written into the body; else the body's own label counts.
	Tenant      string
	Tenanted    bool
	TraceParent string
}

// keyedPrefix begins the ids that are made of a client's key. A tenant who could name them in a body might take
// one before its owner does.
const keyedPrefix = "ik_"

// KeyedID is the id of the request that a client's key stands for; digest is what its tenant and key make.
func KeyedID(digest string) string { return keyedPrefix + digest }

// The words of Receipt.Status for what is no terminal status.
const (
	Acknowledged = "acknowledged"
	Duplicate    = "duplicate"
	Cancelling   = "cancelling"
)

// deskTimeout bounds the work for one submission or cancellation; it is longer than most elections.
const deskTimeout = 8 * time.Second

// Submit checks a request and stores it, then its marker, and says so; or why not. The marker that the id has is
// returned with it. With Unavailable nobody knows whether the request was stored: to send it again under the same
// id is safe, and tells.
func (d *Desk) Submit(ctx context.Context, s Submission) (job.Receipt, *job.Marker) {
	ctx, cancel := context.WithTimeout(ctx, deskTimeout)
	defer cancel()
	t := d.tasks.Live().Tasks[s.Task]
	lane := laneOf(s.Body, t)
	r := read(s.Body, s.MsgID, s.Task, lane, t)
	body := s.bind(r, t)
	if rejection := r.rejection(); rejection != nil {
		if receipt, held := d.recognise(ctx, s, r.id); held != nil || receipt.Error != nil {
			return receipt, held
		}
		return job.Receipt{ID: r.id, Error: &job.Failure{
			Code: rejection.Code, Message: rejection.Message, Pointer: r.reasons[0].Pointer, Reasons: r.reasons,
		}}, nil
	}
	j := &job.Job{ID: r.id, Task: s.Task, Lane: lane, TraceParent: s.TraceParent, Raw: body}
	if j.ID == "" {
		j.ID = ulid.Make().String() // nobody knows it yet
	} else if held, _, err := d.conn.Marker(ctx, j.ID); !errors.Is(err, broker.ErrNotFound) {
		return d.repeated(j, held, err)
	}
	if p, paused := d.tasks.Paused(s.Task); paused {
		return job.Receipt{ID: r.id, Error: &job.Failure{Code: fate.TaskPaused, Message: pausedBy(s.Task, p) + "send it again when it is resumed"}}, nil
	}
	return d.store(ctx, j, r, t)
}

// recognise looks whether a request that would be refused today is one that was taken before: its task may have been
// tightened, or removed, while its job runs. The receipt is empty for all others.
func (d *Desk) recognise(ctx context.Context, s Submission, id string) (job.Receipt, *job.Marker) {
	var of struct {
		Tenant string `json:"tenant"`
	}
	if id == "" || json.Unmarshal(s.Body, &of) != nil {
		return job.Receipt{}, nil
	}
	body := s.Body
	if s.Tenanted && of.Tenant == "" {
		body = withTenant(body, s.Tenant)
	}
	held, _, err := d.conn.Marker(ctx, id)
	switch {
	case errors.Is(err, broker.ErrNotFound):
		return job.Receipt{}, nil
	case err != nil:
		return d.notStored(id, err), nil
	case held.BodyHash != hashBody(s.Task, body), s.Tenanted && held.Tenant != s.Tenant:
		return job.Receipt{}, nil
	}
	return d.repeated(&job.Job{ID: id, Task: s.Task, Raw: body}, held, nil)
}

// laneOf is the lane that the body asks for, else its task's.
func laneOf(body []byte, t *task.Task) string {
	lane := job.Interactive
	if t != nil {
		lane = t.Lane
	}
	var asked struct {
		Lane string `json:"lane"`
	}
	if bytes.Contains(body, []byte(`"lane"`)) && json.Unmarshal(body, &asked) == nil && (asked.Lane == job.Batch || asked.Lane == job.Interactive) {
		lane = asked.Lane
	}
	return lane
}

// bind holds a request that was read to its id and tenant, and returns the body that is published.
func (s Submission) bind(r *reading, t *task.Task) []byte {
	if s.Tenanted && s.ID == "" && strings.HasPrefix(r.id, keyedPrefix) {
		r.fault(fate.InvalidRequest, "/id", "ids that begin with %s are made of Idempotency-Keys", keyedPrefix)
	}
	if s.ID != "" {
		if r.id != "" && r.id != s.ID {
			r.fault(fate.InvalidRequest, "/id", "the body's id and the request's key name two ids; send one of them")
		}
		r.id = s.ID
	}
	if !s.Tenanted || r.code != "" || r.request.Tenant == s.Tenant {
		return s.Body
	}
	if r.request.Tenant != "" {
		r.fault(fate.Forbidden, "/tenant", "the tenant is the key's; leave it out")
		return s.Body
	}
	r.request.Tenant = s.Tenant
	body := withTenant(s.Body, s.Tenant)
	if limit := maxBytes(t); len(body) > limit {
		r.fault(fate.TooLarge, "", "the request has %d bytes, %d is the most for this tenant", len(s.Body), limit-(len(body)-len(s.Body)))
	}
	return body
}

// withTenant writes the tenant into a request, which has a member at least.
func withTenant(body []byte, tenant string) []byte {
	name, _ := json.Marshal(tenant) // a string always can
	at := bytes.IndexByte(body, '{') + 1
	whole := make([]byte, 0, len(body)+len(name)+len(`"tenant":,`))
	whole = append(whole, body[:at]...)
	whole = append(whole, `"tenant":`...)
	whole = append(whole, name...)
	whole = append(whole, ',')
	return append(whole, body[at:]...)
}

// store publishes a good request and takes its marker.
func (d *Desk) store(ctx context.Context, j *job.Job, r *reading, t *task.Task) (job.Receipt, *job.Marker) {
	msg := &nats.Msg{Subject: broker.RequestSubject(j.Lane, j.Task), Data: j.Raw, Header: nats.Header{broker.MsgIDHeader: {j.ID}, broker.DeskHeader: {"1"}}}
	if j.TraceParent != "" {
		msg.Header.Set(broker.TraceParentHeader, j.TraceParent)
	}
	ack, err := d.conn.Publish(ctx, msg)
	if err != nil {
		return d.notStored(j.ID, err), nil
	}
	killpoint.Here("submit-published")
	j.AcknowledgedAt = d.clock.read(ctx).UTC()
	j.Arrival = job.Arrival{Stream: ack.Stream, Sequence: ack.Sequence, At: j.AcknowledgedAt}
	if ack.Duplicate {
		held, err := d.await(ctx, j.ID)
		return d.repeated(j, held, err)
	}
	mine := newMarker(j.ID, j, r, t)
	held, err := d.conn.Admit(ctx, mine)
	killpoint.Here("submit-marked")
	if err != nil || !isOf(held, &j.Arrival) {
		return d.repeated(j, held, err)
	}
	if held.Session != "" { // for who follows it: ingest may come to it only later
		stage.Announce(d.conn, stage.Progress{
			ID: j.ID, Task: j.Task, Run: 1, To: broker.Ingest, Sequence: held.RequestSeq, At: held.AcknowledgedAt,
			Event: Acknowledged, Tenant: held.Tenant, Session: held.Session,
		})
	}
	return job.Receipt{ID: j.ID, Status: Acknowledged, ResultSubject: broker.ResultSubject(j.Task, j.ID)}, held
}

// markerPause is between two looks for a marker that another one is about to write.
const markerPause = 20 * time.Millisecond

// await returns the marker of an id under which another request was stored a moment ago. It is that one's to
// take: what was stored is not known here.
func (d *Desk) await(ctx context.Context, id string) (*job.Marker, error) {
	tick := time.NewTicker(markerPause)
	defer tick.Stop()
	for {
		held, _, err := d.conn.Marker(ctx, id)
		if !errors.Is(err, broker.ErrNotFound) {
			return held, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// repeated answers who comes with a body for an id that has its marker already, or of which that is not known.
func (d *Desk) repeated(j *job.Job, held *job.Marker, err error) (job.Receipt, *job.Marker) {
	switch {
	case err != nil:
		return d.notStored(j.ID, err), nil
	case held.BodyHash != hashBody(j.Task, j.Raw):
		return job.Receipt{ID: j.ID, Error: &job.Failure{
			Code: fate.IDConflict, Message: "this id was admitted before with another body; use a new id", Pointer: "/id",
		}}, nil
	}
	return job.Receipt{ID: j.ID, Status: Duplicate, ResultSubject: broker.ResultSubject(held.Task, j.ID)}, held
}

func (d *Desk) notStored(id string, err error) job.Receipt {
	if errors.Is(err, broker.ErrFull) {
		return job.Receipt{ID: id, Error: &job.Failure{Code: fate.DoorFull, Message: "too many requests wait for admission; try again later"}}
	}
	d.log.Warn().Err(err).Str("job", id).Msg("a request was not acknowledged")
	return job.Receipt{ID: id, Error: &job.Failure{
		Code:    fate.Unavailable,
		Message: "JetStream does not answer (is its disk full?); whether the request was stored is not known, to send it again under the same id is safe",
	}}
}

// Cancel ends a run from outside: the cancelled result competes with the run's own, the first write
// decides. Then the id is marked, so that no more work is spent on it. With the receipt comes the marker of the run
// that it is about; nil: it is about none.
func (d *Desk) Cancel(ctx context.Context, id string) (job.Receipt, *job.Marker) {
	ctx, cancel := context.WithTimeout(ctx, deskTimeout)
	defer cancel()
	held, _, err := d.conn.Marker(ctx, id)
	if errors.Is(err, broker.ErrNotFound) {
		return job.Receipt{ID: id, Error: &job.Failure{Code: fate.NotFound, Message: "nothing is known of this id; a request that was only just published is known once ingest has read it"}}, nil
	}
	if err != nil {
		return d.notCancelled(id, err), nil
	}
	subject := broker.ResultSubject(held.Task, id)
	if r, _, err := d.conn.Result(ctx, held.Task, id); err == nil && r.Run >= held.Run {
		return job.Receipt{ID: id, Status: string(r.Status), ResultSubject: subject}, held
	}
	j := held.Job()
	j.Outcome = &job.Outcome{Status: job.Cancelled}
	if err := stage.HandIn(ctx, d.conn, j, ".cancel"); err != nil {
		return d.notCancelled(id, err), nil
	}
	if err := d.conn.Cancel(ctx, id, held.Run); err != nil {
		d.log.Warn().Err(err).Str("job", id).Msg("cancelled, but calls under way were not told")
	}
	return job.Receipt{ID: id, Status: Cancelling, ResultSubject: subject}, held
}

func (d *Desk) notCancelled(id string, err error) job.Receipt {
	d.log.Warn().Err(err).Str("job", id).Msg("a cancellation was not taken up")
	return job.Receipt{ID: id, Error: &job.Failure{Code: fate.Unavailable, Message: "JetStream does not answer; cancel again"}}
}
