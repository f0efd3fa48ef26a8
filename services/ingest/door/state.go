package door

import (
	"context"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/services/ingest"
)

// State is what is said of a job that has no result yet.
type State struct {
	ID      string `json:"id"`
	Task    string `json:"task"`
	Session string `json:"session,omitempty"`
	Run     int    `json:"run"`
	Status  Status `json:"status"`
	// Stage has the job, or its inbox does, since Since; "": not known, or the job has ended.
	Stage string    `json:"stage,omitempty"`
	Since time.Time `json:"since"`
	// Why says what it waits for; nil: it does not wait, or nobody knows.
	Why            *Why      `json:"why,omitempty"`
	AcknowledgedAt time.Time `json:"acknowledged_at"`
	Deadline       time.Time `json:"deadline"`
	// PollAfterMS is when to ask again, in milliseconds. Retry-After says it in seconds.
	PollAfterMS int64 `json:"poll_after_ms"`
	Addresses
}

// Status says where a job without a result is.
type Status string

// The statuses. The first two are said to whom a POST is answered.
const (
	Acknowledged Status = ingest.Acknowledged // stored just now
	Duplicate    Status = ingest.Duplicate    // stored before, with the same body
	Queued       Status = "queued"            // in the inbox of its stage
	Running      Status = "running"           // in the hands of its stage
	Delayed      Status = "delayed"           // not to be started again before a moment
	Parked       Status = "parked"            // waits for its model
	Cancelling   Status = ingest.Cancelling   // cancelled; that result is on its way
)

// Why says what a job waits for.
type Why struct {
	Code    Reason `json:"code"`
	Message string `json:"message"`
	// Cause is why the job was delayed or parked.
	Cause fate.Code `json:"cause,omitempty"`
	// Model is the one that is waited for, Until how long at least.
	Model string    `json:"model,omitempty"`
	Until time.Time `json:"until,omitzero"`
	// Messages wait in the inbox, the oldest for OldestMS milliseconds, and Pulls requests for more are open. Only of
	// inboxes, where all three are said.
	Messages *uint64 `json:"messages,omitempty"`
	OldestMS *int64  `json:"oldest_ms,omitempty"`
	Pulls    *int    `json:"pulls,omitempty"`
}

// Reason is what a job waits for.
type Reason string

// The reasons.
const (
	WaitsInQueue     Reason = "queue"        // others are before it
	WaitsForProcess  Reason = "no_process"   // no process of the stage pulls from its inbox
	WaitsForRoom     Reason = "admission"    // too many admitted jobs are unfinished
	WaitsForBreaker  Reason = "breaker_open" // the circuit breaker of the model or its provider is open
	WaitsForLimit    Reason = "limit"        // the model's limits are used up, or the provider asked to be left alone
	WaitsForRetry    Reason = "retry"        // the last try failed, the next one is due at a moment
	WaitsForSession  Reason = "session"      // an earlier request of its session has no result yet
	WaitsForItsEnd   Reason = "cancelled"    // the cancelled result is being written
	WaitsPastTheTime Reason = "late"         // the deadline has passed, and whoever answers then does not
)

// Polling intervals: a job that runs is asked for soon, one that waits for a moment then.
const (
	pollSoon  = 500 * time.Millisecond
	pollLater = 2 * time.Second
	pollMost  = 15 * time.Second
)

// newState is of a job of which nothing more is known than that it was admitted.
func newState(m *job.Marker, status Status) *State {
	return &State{
		ID: m.ID, Task: m.Task, Session: m.Session, Run: m.Run, Status: status, Stage: broker.Ingest, Since: m.AcknowledgedAt,
		AcknowledgedAt: m.AcknowledgedAt, Deadline: m.Deadline, PollAfterMS: pollSoon.Milliseconds(),
	}
}

// accepted is said to whom a POST is answered.
func accepted(m *job.Marker) *State { return newState(m, Acknowledged) }

// repeated is said to who sends a request again: where the job is by now, as far as that can be told, and is for him.
func (d *Door) repeated(ctx context.Context, c *caller, m *job.Marker) *State {
	unknown := newState(m, Duplicate)
	unknown.Stage = ""
	if !c.mayReadJob(m.ID, m.Task, m.Tenant) {
		return unknown
	}
	switch k, p := d.look(ctx, c, m.ID); {
	case p != nil:
		return unknown
	case k.run() >= m.Run:
		unknown.Since = k.result.At
		return unknown
	}
	s := d.state(ctx, m)
	s.Status = Duplicate
	return s
}

// cancelled is said of a run that was cancelled.
func cancelled(m *job.Marker) *State {
	s := newState(m, Cancelling)
	s.Stage, s.Why = broker.ResultWriter, &Why{Code: WaitsForItsEnd, Message: "the run was cancelled, its result is being written"}
	return s
}

// state says where a job is and why it waits: by the last progress that was heard of it, else by what holds it, else
// by the inboxes.
func (d *Door) state(ctx context.Context, m *job.Marker) *State {
	if d.o.Conn.Cancelled(m.ID, m.Run) {
		return cancelled(m)
	}
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	s := newState(m, Queued)
	p, heard := d.hub.lastProgress(m.ID)
	switch {
	case !heard || p.Run < m.Run:
		if at, ok := d.places.locate(ctx, m); ok {
			s.Status, s.Stage, s.Since, s.Run = Running, at.Stage, at.Since, at.Run
		} else {
			d.guess(ctx, s, m)
		}
	case p.To == "":
		s.Status, s.Stage, s.Since = Running, broker.ResultWriter, p.At // its result is stored at this moment
	default:
		s.Stage, s.Since, s.Run = p.To, p.At, max(p.Run, m.Run)
		d.explain(ctx, s, m, p)
	}
	if s.Why == nil && s.Status == Queued && time.Now().After(m.Deadline) {
		s.Why = &Why{Code: WaitsPastTheTime, Message: "the deadline has passed: is fallback running?"}
	}
	return s
}
