package ingest

import (
	"context"
	"sync"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// admission counts the admitted but unfinished jobs of the whole pipeline and holds both lanes to their
// limits: the requests' streams are the only place where work may pile up.
//
// The count comes from JetStream, every Limits.Refresh; between two counts a process adds what it let in
// itself. Replicas do not see each other's until the next count, so the limit may be passed by what one
// refresh lets in; the inboxes' own bounds leave room for it.
type admission struct {
	mu        sync.Mutex
	env       *stage.Env
	counting  bool
	known     bool
	countedAt time.Time
	jobs      int
	bytes     int64
	granted   int // since the last count began
	trickle   int // granted to batch over its limit since the last count
}

// gate makes the stage.Gate of a lane.
func (a *admission) gate(lane string) func(*stage.Env) stage.Gate {
	return func(env *stage.Env) stage.Gate {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.env = env
		return &laneGate{a: a, batch: lane == job.Batch}
	}
}

type laneGate struct {
	a     *admission
	batch bool
}

// minBatchShare is the part of the batch limit that is let in per count though the limit is reached: a
// lane that never moves is a silence.
const minBatchShare = 100

// Open grants at most n admissions.
func (g *laneGate) Open(n int) int {
	a := g.a
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refresh()
	if !a.known {
		return 0
	}
	limits := a.env.Limits
	limit := limits.Interactive
	if g.batch {
		limit = limits.Batch
	}
	room := limit - a.jobs - a.granted
	if a.bytes >= limits.Bytes {
		room = 0
	}
	if g.batch && room <= 0 {
		room = max(1, limits.Batch/minBatchShare) - a.trickle
		n = max(0, min(n, room))
		a.trickle += n
		a.granted += n
		return n
	}
	n = max(0, min(n, room))
	a.granted += n
	return n
}

// Returned takes back grants that came to nothing.
func (g *laneGate) Returned(n int) {
	g.a.mu.Lock()
	defer g.a.mu.Unlock()
	g.a.granted = max(0, g.a.granted-n)
}

// refresh starts a new count when the last is old. The caller holds a.mu.
func (a *admission) refresh() {
	if a.counting || time.Since(a.countedAt) < a.env.Limits.Refresh {
		return
	}
	a.counting = true
	before := a.granted
	go func() {
		jobs, bytes, err := count(a.env)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.counting = false
		a.countedAt = time.Now()
		if err != nil {
			return // the broker is away; what was known still holds
		}
		a.known, a.jobs, a.bytes, a.trickle = true, jobs, bytes, 0
		a.granted = max(0, a.granted-before)
	}()
}

// count sums what the inboxes hold.
func count(env *stage.Env) (jobs int, bytes int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, name := range env.Inboxes {
		s, err := env.Conn.JS.Stream(ctx, name)
		if err != nil {
			return 0, 0, err
		}
		state := s.CachedInfo().State
		jobs += int(state.Msgs)
		bytes += int64(state.Bytes)
	}
	return jobs, bytes, nil
}
