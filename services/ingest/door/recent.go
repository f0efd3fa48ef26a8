package door

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
)

// Bounds of what is known of sessions.
const (
	// recentFor is how long a session is known after the last that was heard of it.
	recentFor = 15 * time.Minute
	// maxSessionJobs are the jobs that are known of a session, the newest.
	maxSessionJobs = 64
	// maxRecentJobs are those of all sessions together; the session of which was heard longest ago goes first.
	maxRecentJobs = 50_000
	// fillFor bounds the reading of what was admitted before this process began.
	fillFor   = 20 * time.Second
	fillPause = time.Second
)

// session names a conversation: two tenants may have one of the same name.
type session struct{ tenant, name string }

// sessionOf reads it from a message's headers; without a name there is none.
func sessionOf(h map[string][]string) session {
	return session{tenant: nats.Header(h).Get(broker.TenantHeader), name: nats.Header(h).Get(broker.SessionHeader)}
}

// recent knows which jobs a session had of late.
type recent struct {
	now func() time.Time

	mu       sync.Mutex
	sessions map[session]*list.Element // of order
	order    *list.List                // *talk, the one heard of last in front
	jobs     int
}

// talk is what is known of one session.
type talk struct {
	of   session
	jobs []recentJob // the oldest first
	last time.Time
}

// recentJob is a job and when it was admitted, or first heard of.
type recentJob struct {
	id string
	at time.Time
}

func newRecent() *recent {
	return &recent{now: time.Now, sessions: map[session]*list.Element{}, order: list.New()}
}

// note says that something was heard of a session's job at a time.
func (r *recent) note(of session, id string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.sessions[of]
	if e == nil {
		e = r.order.PushFront(&talk{of: of})
		r.sessions[of] = e
	}
	t := e.Value.(*talk)
	if at.After(t.last) {
		t.last = at
		r.order.MoveToFront(e)
	}
	if !slices.ContainsFunc(t.jobs, func(j recentJob) bool { return j.id == id }) {
		r.insert(t, recentJob{id, at})
	}
	r.prune()
}

func (r *recent) insert(t *talk, j recentJob) {
	at := len(t.jobs)
	for at > 0 && t.jobs[at-1].at.After(j.at) {
		at--
	}
	t.jobs = slices.Insert(t.jobs, at, j)
	r.jobs++
	if len(t.jobs) > maxSessionJobs {
		t.jobs = slices.Delete(t.jobs, 0, 1)
		r.jobs--
	}
}

// prune forgets what is too old or too much.
func (r *recent) prune() {
	old := r.now().Add(-recentFor)
	for e := r.order.Back(); e != nil; e = r.order.Back() {
		t := e.Value.(*talk)
		if t.last.After(old) && r.jobs <= maxRecentJobs {
			return
		}
		r.order.Remove(e)
		delete(r.sessions, t.of)
		r.jobs -= len(t.jobs)
	}
}

// of returns the jobs of a session, the oldest first.
func (r *recent) of(s session) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune()
	e := r.sessions[s]
	if e == nil {
		return nil
	}
	var ids []string
	for _, j := range e.Value.(*talk).jobs {
		ids = append(ids, j.id)
	}
	return ids
}

// fill reads which jobs were admitted lately: this process has not heard of those. Sessions show it at worst by
// a job that is missing from what a client is told first.
func (h *hub) fill(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, fillFor)
	defer cancel()
	since := time.Now().Add(-recentFor)
	for {
		err := h.conn.HeadersSince(ctx, broker.AdmittedStream, since, func(m broker.Stored) {
			if of := sessionOf(m.Header); of.name != "" {
				h.recent.note(of, broker.Token(m.Subject, 2), m.At)
			}
		})
		if err == nil {
			return
		}
		h.log.Debug().Err(err).Msg("the sessions of before cannot be read yet")
		pause := time.NewTimer(fillPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}
