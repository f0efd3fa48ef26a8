package contextbuilder

import (
	"context"
	"strings"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// The bounds of a wait for another request of the session, a quarter of what was waited so far.
const (
	waitLeast = 50 * time.Millisecond
	waitMost  = time.Second
	// lookAnew is every how many waits the whole record is looked at: the one that is awaited may be forgotten, or given up.
	lookAnew = 8

	waitsFor, ofSession = "waits for ", " of its session"
)

// waitFor is the fate of a job that waits for another one. What it says is what it is known by when it comes back.
func waitFor(j *job.Job, id string) error { return fate.WaitFor(again(j), waitsFor+id+ofSession) }

// stillWaits looks whether the one that the job waited for has ended: a crowd that waits must not read and write the record
// all the time.
func (h *Handler) stillWaits(ctx context.Context, j *job.Job) error {
	id, waited := awaited(j)
	if !waited || waitOf(j).N%lookAnew == lookAnew-1 {
		return nil
	}
	run, err := h.conn.ResultRun(ctx, j.Task, id)
	if err != nil || run > 0 {
		return err
	}
	return waitFor(j, id)
}

// awaited is the request that the job waited for. If it did so, all that was accepted before it has joined.
func awaited(j *job.Job) (id string, waited bool) {
	e := waitOf(j)
	if e == nil {
		return "", false
	}
	id, waited = strings.CutPrefix(e.Detail, waitsFor)
	return strings.TrimSuffix(id, ofSession), waited
}

// again is when a job that waits looks again.
func again(j *job.Job) time.Duration {
	waited := time.Duration(0)
	if e := waitOf(j); e != nil {
		waited = time.Duration(e.QueuedMS) * time.Millisecond
	}
	return min(max(waited/4, waitLeast), waitMost)
}

// waitOf is the event of the wait that the job comes from; nil: it comes from none.
func waitOf(j *job.Job) *job.Event {
	if len(j.History) == 0 {
		return nil
	}
	e := &j.History[len(j.History)-1]
	if e.Kind != job.KindHop || e.Stage != broker.ContextBuilder || e.Fate != fate.Retry.String() || e.Code != "" {
		return nil
	}
	return e
}
