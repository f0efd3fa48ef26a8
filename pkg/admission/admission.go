// Package admission holds back what enters the pipeline while too much of it is unfinished.
//
// The requests' streams, and the orders to replay, are the only places where work may pile up: behind them
// every inbox has room for what was let in.
package admission

import (
	"context"
	"fmt"
	"sync"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// Admission counts the admitted but unfinished jobs of the whole pipeline and holds the lanes to their
// limits.
//
// The count comes from JetStream, every Limits.Refresh; between two counts a process adds what it let in
// itself. Replicas do not see each other's until the next count, so the limit may be passed by what one
// refresh lets in; the inboxes' own bounds leave room for it.
type Admission struct {
	mu        sync.Mutex
	env       *stage.Env
	counting  bool
	known     bool
	countedAt time.Time
	jobs      int
	bytes     int64
	// granted was let in, or promised to a pull request, since the last count began.
	granted int
	// trickle is what batch may still be granted above its limit.
	trickle float64
}

// Gate makes the stage.Gate of a lane.
func (a *Admission) Gate(lane string) func(*stage.Env) stage.Gate {
	return func(env *stage.Env) stage.Gate {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.env = env
		return &gate{a: a, batch: lane == job.Batch}
	}
}

type gate struct {
	a     *Admission
	batch bool
}

// While interactive jobs use up the batch limit, batch is granted batchShare of what ends, saved up to a
// hundredth of its limit: a lane that never moves is a silence. The other lane keeps the rest, so that
// batch cannot climb over it.
const (
	batchShare   = 0.1
	trickleKept  = 100
	firstTrickle = 1
)

// Open grants at most n admissions.
func (g *gate) Open(n, _ int) int {
	a := g.a
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refresh()
	if !a.known || a.bytes >= a.env.Limits.Bytes {
		return 0
	}
	used := a.jobs + a.granted
	limits := a.env.Limits
	room := limits.Interactive - used
	if g.batch {
		room = limits.Batch - used
		if room <= 0 && used < limits.Interactive+limits.Batch {
			room = int(a.trickle)
			n = max(0, min(n, room))
			a.trickle -= float64(n)
		}
	}
	n = max(0, min(n, room))
	a.granted += n
	return n
}

// Returned takes back grants that came to nothing.
func (g *gate) Returned(n int) {
	g.a.mu.Lock()
	defer g.a.mu.Unlock()
	g.a.granted = max(0, g.a.granted-n)
}

// refresh starts a new count when the last is old. The caller holds a.mu.
func (a *Admission) refresh() {
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
			a.env.Log.Warn().Err(err).Msg("unfinished jobs not counted, the last count holds")
			return
		}
		if !a.known {
			a.trickle = firstTrickle
		}
		ended := max(0, a.jobs+before-jobs)
		a.trickle = min(a.trickle+batchShare*float64(ended), max(firstTrickle, float64(a.env.Limits.Batch)/trickleKept))
		a.known, a.jobs, a.bytes = true, jobs, bytes
		a.granted = max(0, a.granted-before)
	}()
}

// countTimeout bounds one count.
const countTimeout = 5 * time.Second

// count sums what the inboxes hold. Orders to replay wait in fallback's stream and are no jobs yet.
func count(env *stage.Env) (jobs int, bytes int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	for _, name := range env.Inboxes {
		s, err := env.Conn.JS.Stream(ctx, name)
		if err != nil {
			return 0, 0, fmt.Errorf("look at %s: %w", name, err)
		}
		state := s.CachedInfo().State
		jobs += int(state.Msgs)
		bytes += int64(state.Bytes)
		if name != broker.StageStream(broker.Fallback) {
			continue
		}
		orders, err := env.Conn.JS.Consumer(ctx, name, broker.ReplayConsumer)
		if err != nil {
			return 0, 0, fmt.Errorf("look at the orders to replay: %w", err)
		}
		info := orders.CachedInfo()
		jobs -= int(info.NumPending) + info.NumAckPending
	}
	return max(jobs, 0), bytes, nil
}
