package limit

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Ask is a call that wants to go.
type Ask struct {
	Model, Provider, Task string
	// Lane is job.Interactive or job.Batch.
	Lane string
	// Tokens are reserved: the prompt's and the usual answer's.
	Tokens int
}

// Permit lets one call go. Done ends it.
type Permit struct {
	l     *Limiter // nil: nothing is limited
	ask   Ask
	lane  int
	needs needs
	at    time.Duration
	slot  int64
	costs [3]int // in tokens, by entity
	done  atomic.Bool
}

// Used is how a call ended.
type Used struct {
	// Sent: the provider may have seen the call. What was not sent is given back.
	Sent bool
	// Tokens of the prompt and the answer; 0: not known, and the reservation stands.
	Tokens int
	Said   Said
}

// Said is what a provider's response says of its own limits. The zero value says nothing, and so does what
// cannot be true.
type Said struct {
	// A limit of 0 is not said, and what is left is only believed beside its limit.
	RequestsLimit, RequestsLeft int
	TokensLimit, TokensLeft     int
	// Wait is how long a 429 asked to wait.
	Wait time.Duration
}

// Take returns a permit: at once when there is one, else after its turn came, which takes patience at most
// (below 0: until ctx ends). In a model and a lane those who came first go first, except that nobody waits
// for another one's task. A *BusyError says that it takes longer than patience, at once when that is known.
func (l *Limiter) Take(ctx context.Context, a Ask, patience time.Duration) (*Permit, error) {
	s := l.needs(&a)
	if s.n == 0 {
		return l.free, nil
	}
	p := &Permit{l: l, ask: a, lane: laneOf(a.Lane), needs: s}
	w, err := l.takeOrQueue(p, patience)
	if err != nil {
		return nil, err
	}
	if w == nil {
		return p, nil
	}
	var late <-chan time.Time
	if patience > 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-w.ready:
		if ctx.Err() == nil {
			return p, nil
		}
		p.Done(Used{})
	case <-ctx.Done():
		if !l.leave(w) {
			p.Done(Used{})
		}
	case <-late:
		if err := l.giveUp(w); err != nil {
			return nil, err
		}
		return p, nil
	}
	return nil, fmt.Errorf("wait for a permit to call %s: %w", a.Model, context.Cause(ctx))
}

// takeOrQueue fills p, or returns who waits for it, or why nobody should.
func (l *Limiter) takeOrQueue(p *Permit, patience time.Duration) (*waiter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.now()
	q := l.queue(place{p.ask.Model, p.lane})
	q.needs, q.asked = p.needs, p.ask.Tokens
	for _, e := range p.needs.all() {
		for _, m := range e.meters {
			m.asked += m.cost(p.ask.Tokens)
		}
	}
	if q.n == 0 && l.isOpen(p, now) {
		p.take(now, l.clock.stamp(now).slot(&l.rhythm))
		q.granted.Inc()
		return nil, nil
	}
	w := &waiter{permit: p, ready: make(chan struct{})}
	l.enqueue(q, w)
	l.dispatch(now)
	if !w.queued {
		return nil, nil
	}
	if busy, sure := l.busy(w, now); patience >= 0 && sure > patience || patience == 0 {
		for _, e := range p.needs.all() {
			e.missed, e.missing = true, p.ask.Tokens
		}
		l.dequeue(w)
		l.dispatch(now)
		return nil, busy
	}
	return w, nil
}

// isOpen reports whether p may go without looking at who waits: it has all that it needs, and nobody waits
// for any of it.
func (l *Limiter) isOpen(p *Permit, now time.Duration) bool {
	for _, e := range p.needs.all() {
		if e.isWanted() || !e.has(p.ask.Tokens, now) {
			return false
		}
	}
	return true
}

// leave takes w out of its queue; false: it has its permit already.
func (l *Limiter) leave(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !w.queued {
		return false
	}
	l.dequeue(w)
	l.dispatch(l.clock.now())
	return true
}

// giveUp takes w out of its queue and says what it waited for; nil: it has its permit.
func (l *Limiter) giveUp(w *waiter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !w.queued {
		return nil
	}
	now := l.clock.now()
	busy, _ := l.busy(w, now)
	l.dequeue(w)
	l.dispatch(now)
	return busy
}

// take takes from all limits, which have it.
func (p *Permit) take(now time.Duration, slot int64) {
	p.at, p.slot = now, slot
	for i, e := range p.needs.all() {
		if e.slots != nil {
			e.slots.take(p.lane)
		}
		if e.requests != nil {
			e.requests.take(1, slot)
		}
		if e.tokens != nil {
			p.costs[i] = e.tokens.cost(p.ask.Tokens)
			e.tokens.take(p.costs[i], slot)
		}
	}
}

// Done ends the call. A second Done is none.
func (p *Permit) Done(u Used) {
	if p.l == nil || !p.done.CompareAndSwap(false, true) {
		return
	}
	l := p.l
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.now()
	slot := l.clock.stamp(now).slot(&l.rhythm)
	for i, e := range p.needs.all() {
		if e.slots != nil {
			e.slots.release(p.lane, now-p.at)
		}
		if u.Sent {
			e.settle(p, i, u.Tokens, now, slot)
		} else {
			e.giveBack(p, i, now)
		}
	}
	l.hear(p, u.Said, now)
	l.dispatch(now)
	for _, e := range p.needs.all() {
		e.nudge(now)
	}
}

// isInWindow reports whether the log still has what p took.
func (p *Permit) isInWindow(now time.Duration) bool { return now-p.at < p.l.rhythm.window }

// giveBack returns what a call took that was not sent.
func (e *entity) giveBack(p *Permit, i int, now time.Duration) {
	if !p.isInWindow(now) {
		return
	}
	if e.requests != nil {
		e.requests.undo(1, p.slot, now)
	}
	if e.tokens != nil {
		e.tokens.undo(p.costs[i], p.slot, now)
	}
}

// settle corrects the reservation of tokens to what was used. More is a debt of this moment, when the
// provider counted the answer. A call that took longer than a window left the log; it comes back whole.
func (e *entity) settle(p *Permit, i, used int, now time.Duration, slot int64) {
	m := e.tokens
	if m == nil || used <= 0 {
		return
	}
	used = min(used, mostSaid)
	m.usage.asked += p.ask.Tokens
	if p.ask.Tokens > 0 {
		m.usage.used += used
	}
	cost := p.costs[i]
	switch {
	case !p.isInWindow(now):
		m.take(used, slot)
	case used > cost:
		m.left(now)
		m.take(used-cost, slot)
	case used < cost:
		m.undo(cost-used, p.slot, now)
	}
	// A debt of a tenth of a second's worth is told at once: the other replicas grant what is not there.
	if owed := m.debt(); owed > 0 && owed*10 > e.l.rhythm.worth(m.bound(now)) {
		e.prompt = true
	}
}
