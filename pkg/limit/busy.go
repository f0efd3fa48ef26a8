package limit

import (
	"fmt"
	"time"
)

// BusyError says that a permit takes longer than the caller's patience.
type BusyError struct {
	// Limit is what is in the way: "model small: requests_per_minute 600".
	Limit string
	// Wait is about how long it takes; 0: not known.
	Wait time.Duration
	// Task: it is the task's own max_in_flight.
	Task bool
}

func (e *BusyError) Error() string {
	if e.Wait <= 0 {
		return "no permit for now: " + e.Limit
	}
	return fmt.Sprintf("no permit for about %s: %s", e.Wait.Round(100*time.Millisecond), e.Limit)
}

// busy says what w waits for and about how long; sure is the part of it that is certain.
func (l *Limiter) busy(w *waiter, now time.Duration) (busy *BusyError, sure time.Duration) {
	busy = &BusyError{}
	var ahead [2]int
	for lane := interactive; lane <= w.queue.place.lane; lane++ {
		if q := l.queues[place{w.queue.place.model, lane}]; q != nil {
			ahead[requests] += q.n
			ahead[tokens] += q.tokens
		}
	}
	for _, e := range w.permit.needs.all() {
		if !e.isWanted() && e.has(w.permit.ask.Tokens, now) {
			continue
		}
		about, least := e.wait(w.permit, ahead, now)
		if sure = max(sure, least); busy.Limit == "" || about > busy.Wait {
			busy.Limit, busy.Wait, busy.Task = e.lack(w.permit.ask.Tokens, now), about, e.kind == kindTask
		}
	}
	return busy, sure
}

// wait is about how long a call waits here with so much before it, itself included, and how long at least.
func (e *entity) wait(p *Permit, ahead [2]int, now time.Duration) (about, least time.Duration) {
	r := &e.l.rhythm
	least = max(e.hold-now, 0)
	about = least
	if s := e.slots; s != nil && !s.isFree(now) && s.lasts > 0 {
		about = max(about, s.lasts*time.Duration(ahead[requests])/time.Duration(max(s.n, 1)))
	}
	for _, m := range e.meters {
		cost := m.cost(p.ask.Tokens)
		if m.limited && m.left(now) < cost {
			least = max(least, m.soonest-now)
		}
		// At the whole limit's pace, less what is here and what may have been saved.
		missing := ahead[requests] - m.left(now)
		if m.kind == tokens {
			missing = m.cost(ahead[tokens]) - m.left(now)
		}
		all := time.Duration(float64(missing)*r.interval(m.bound(now))) * time.Microsecond
		if missing > 0 {
			about = max(about, time.Duration(float64(all)/max(e.right, 0.01)))
			least = max(least, all-2*r.block-r.period)
		}
	}
	return max(about, least), least
}
