package limit

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/job"
)

// The lanes, as indices.
const (
	interactive = iota
	batch
	lanes
)

func laneOf(name string) int {
	if name == job.Batch {
		return batch
	}
	return interactive
}

// place is a queue's name.
type place struct {
	model string
	lane  int
}

// queue is who waits for a model in a lane, in the order in which they came.
type queue struct {
	place      place
	head, tail *waiter
	n          int
	tokens     int // of all asks in it
	// needs and asked are what the newest call of this model needed, and its tokens.
	needs   needs
	asked   int
	waiting prometheus.Gauge
	granted prometheus.Counter
}

// waiter is a Take that waits.
type waiter struct {
	queue      *queue
	prev, next *waiter
	turn       uint64 // grows with each that comes
	permit     *Permit
	ready      chan struct{} // closed with the permit granted
	queued     bool
}

func (q *queue) push(w *waiter) {
	w.queue, w.prev, w.queued = q, q.tail, true
	if q.tail == nil {
		q.head = w
	} else {
		q.tail.next = w
	}
	q.tail = w
	q.n++
	q.tokens += w.permit.ask.Tokens
	q.waiting.Inc()
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.n--
	q.tokens -= w.permit.ask.Tokens
	q.waiting.Dec()
}

// queue finds or makes the queue of a place.
func (l *Limiter) queue(p place) *queue {
	if q := l.queues[p]; q != nil {
		return q
	}
	lane := job.Interactive
	if p.lane == batch {
		lane = job.Batch
	}
	q := &queue{place: p, waiting: l.metrics.waiting.WithLabelValues(p.model, lane), granted: l.metrics.granted.WithLabelValues(p.model, lane)}
	l.queues[p] = q
	return q
}

// enqueue lets w wait at the end of its queue.
func (l *Limiter) enqueue(q *queue, w *waiter) {
	l.turn++
	w.turn = l.turn
	if q.n == 0 {
		l.active[q.place.lane] = append(l.active[q.place.lane], q)
	}
	q.push(w)
	l.waiting++
	for _, e := range w.permit.needs.all() {
		e.queued[q.place.lane]++
	}
}

// dequeue takes w out of its queue.
func (l *Limiter) dequeue(w *waiter) {
	q := w.queue
	q.remove(w)
	l.waiting--
	lane := q.place.lane
	if q.n == 0 {
		l.active[lane] = slices.DeleteFunc(l.active[lane], func(other *queue) bool { return other == q })
	}
	for _, e := range w.permit.needs.all() {
		if e.queued[lane]--; lane == batch && e.queued[batch] == 0 {
			e.balance = [2]float64{}
		}
	}
}

// inOrder is a lane's queues with waiters, those first whose first one waits longest.
func (l *Limiter) inOrder(lane int) []*queue {
	all := l.active[lane]
	if len(all) > 1 {
		slices.SortFunc(all, func(a, b *queue) int { return cmp.Compare(a.head.turn, b.head.turn) })
	}
	return all
}
