package limit

import "time"

// dispatch gives out what there is to those whose turn it is, one at a time, until nobody's turn has what it
// needs.
func (l *Limiter) dispatch(now time.Duration) {
	for l.waiting > 0 && l.pass(now) {
	}
}

// pass grants one waiter. Batch comes first where it has its share to come, then interactive, then batch
// with what interactive does not wait for. A waiter that lacks something keeps it from all that come after
// it in this order, so that nobody passes him where he waits, and everybody elsewhere.
func (l *Limiter) pass(now time.Duration) bool {
	l.round++
	slot := l.clock.stamp(now).slot(&l.rhythm)
	return l.grantTo(batch, true, now, slot) || l.grantTo(interactive, false, now, slot) || l.grantTo(batch, false, now, slot)
}

func (l *Limiter) grantTo(lane int, byShare bool, now time.Duration, slot int64) bool {
	for _, q := range l.inOrder(lane) {
		for w := q.head; w != nil; w = w.next {
			if byShare && !w.hasShare() {
				break
			}
			at, lacking := l.lacking(w, now)
			if lacking && at.kind == kindTask {
				continue // the others of the model need not wait for this task
			}
			if lacking {
				break
			}
			l.grant(w, byShare, now, slot)
			return true
		}
	}
	return false
}

// lacking reports whether w cannot go now and where it waits; what it lacks is kept for it.
func (l *Limiter) lacking(w *waiter, now time.Duration) (at *entity, is bool) {
	p := w.permit
	for i := len(p.needs.all()) - 1; i >= 0; i-- { // the task is the last: who waits for it keeps nothing else
		e := p.needs.all()[i]
		kept := e.kept == l.round
		if !kept && !e.has(p.ask.Tokens, now) {
			e.keep(p, now)
			kept = true
		}
		if !kept {
			continue
		}
		at, is = e, true
		if e.kind == kindTask {
			break
		}
	}
	return at, is
}

// grant hands w its permit.
func (l *Limiter) grant(w *waiter, byShare bool, now time.Duration, slot int64) {
	l.balance(w, byShare)
	l.dequeue(w)
	w.permit.take(now, slot)
	w.queue.granted.Inc()
	close(w.ready)
}

// hasShare reports whether batch has its share to come in everything that w needs.
func (w *waiter) hasShare() bool {
	for _, e := range w.permit.needs.all() {
		if e.kind == kindTask || e.queued[interactive] == 0 {
			continue
		}
		e.largest = e.amount(w.permit)
		for i, amount := range e.largest {
			if e.part == 0 || e.balance[i] < (1-e.part)*amount {
				return false
			}
		}
		if e.slots != nil && !e.slots.hasRoomForBatch(e.part) {
			return false
		}
	}
	return true
}

// balance counts what interactive got while batch waited, by which batch has its share to come.
func (l *Limiter) balance(w *waiter, byShare bool) {
	for _, e := range w.permit.needs.all() {
		amount := e.amount(w.permit)
		switch {
		case w.queue.place.lane == interactive && e.queued[batch] > 0:
			for i := range amount {
				// Two calls' worth is saved and no more: a share is of what is granted now.
				e.balance[i] = min(e.balance[i]+e.part*amount[i], 2*max(amount[i], e.largest[i]))
			}
		case byShare && e.queued[interactive] > 0:
			for i := range amount {
				e.balance[i] -= (1 - e.part) * amount[i]
			}
		}
	}
}
