package limit

import (
	"maps"
	"math"
	"time"
)

// demand is what this replica could use of an entity now.
type demand struct {
	calls, tokens int
	unit          int // the tokens of the next one
	waiting       [lanes]int
}

// demand counts who waits here, as far as the other limits that they wait for let them through in a block's
// time: what cannot be used would be missing elsewhere.
func (e *entity) demand(now time.Duration) demand {
	var d demand
	if e.closing {
		return d
	}
	wanted := e.isWanted()
	for lane := range lanes {
		for _, q := range e.l.active[lane] {
			if e.queued[lane] == 0 {
				break
			}
			most := e.passable(q, now)
			for w := q.head; w != nil && most > 0; w = w.next {
				if !w.permit.needs.has(e) {
					continue
				}
				most--
				d.calls++
				if e.tokens != nil {
					d.tokens += e.tokens.cost(w.permit.ask.Tokens)
				}
				if wanted {
					d.waiting[lane]++
				}
			}
		}
	}
	if e.missed {
		e.missed = false
		d.calls++
		if e.tokens != nil {
			d.tokens += e.tokens.cost(e.missing)
		}
	}
	if wanted && e.tokens != nil {
		d.unit = e.tokens.cost(e.first)
		d.tokens = max(d.tokens, d.unit)
	}
	return d
}

// passable is how many of a queue the other limits let through that its first one waits for.
func (e *entity) passable(q *queue, now time.Duration) int {
	most := math.MaxInt
	for _, other := range q.head.permit.needs.all() {
		if other != e && other.isWanted() {
			most = min(most, other.worth(q.head.permit.ask.Tokens, now))
		}
	}
	return most
}

// draw exchanges one meter: it mends the log, heeds the provider, and takes the next block.
func (e *entity) draw(m *meter, rec *record, a *attempt, d demand, right map[string]float64, now stamp) {
	l, r := e.l, &e.l.rhythm
	g := rec.ledger(m.kind)
	g.tidy(now, r)
	left := m.left(a.at)
	g.mend(m.mends, m.bound(a.at), now, r)
	a.mends[m.kind] = maps.Clone(m.mends)
	m.heed(g, left, now, r)
	e.lower(m, g)
	if m.kind == tokens {
		m.learn(g)
	}
	limit := m.bound(a.at)
	w := want{n: d.calls, unit: 1, limit: limit}
	if m.kind == tokens {
		w.n, w.unit = d.tokens, d.unit
	}
	w.unit = max(w.unit-left, 1)
	w.n += m.expect(a.at-m.drawn, limit, r) - left
	m.drawn = a.at

	w.kept = keep(m.kind, asking{me: l.replica, need: m.need, unit: w.unit, limit: limit}, rec.Replicas, right, now, r)
	e.floor(m, g, rec, limit, now)
	if part, ok := right[l.replica]; e.closing || now < rec.Hold || ok && part == 0 {
		w.n = 0
	}
	n, soonest := 0, now
	if w.n > 0 {
		n, soonest = g.grant(w, now, r)
	}
	a.grants[m.kind] = grant{
		n: n, slot: now.add(r.block).slot(r), soonest: l.clock.local(soonest),
		limited: n < w.n || d.waiting != [lanes]int{} && w.n <= 0,
	}
	switch {
	case n > 0 || d.waiting == [lanes]int{} || w.n <= 0:
		m.need = need{}
	case m.need.N == 0:
		m.need = need{N: w.unit, Since: now}
	default:
		m.need.N = w.unit
	}
}

// floor keeps unused pace for a block's time while somebody is busy here, and for the calls that wait for
// more than that; who comes after a pause finds a block's worth.
func (e *entity) floor(m *meter, g *ledger, rec *record, limit int, now stamp) {
	r := &e.l.rhythm
	needed, slack := 0, time.Duration(0)
	for name, c := range rec.Replicas {
		if now.since(c.At) > 2*r.block {
			continue
		}
		needed += min(c.Needs[m.kind].N, limit)
		if name != e.l.replica || e.registered {
			slack = r.block
		}
	}
	g.floor(now, slack, needed, limit, r)
}

// lower takes over the limit that the record has from a provider.
func (e *entity) lower(m *meter, g *ledger) {
	was := m.low
	m.low, m.lowUntil = g.Low, e.l.clock.local(g.LowUntil)
	if m.low == was {
		return
	}
	name := "requests_per_minute"
	if m.kind == tokens {
		name = "tokens_per_minute"
	}
	if m.low == 0 {
		e.l.metrics.lowered.DeleteLabelValues(e.key, name)
		return
	}
	e.l.metrics.lowered.WithLabelValues(e.key, name).Set(float64(m.low))
	e.l.log.Warn().Str("entity", e.key).Int(name, m.low).Int("configured", m.limit).Msg("the provider says that a limit is lower than configured, it is obeyed")
}

// claim exchanges the slots: it grows to what is needed and free and this replica's by right, and shrinks to
// what was used lately. What it gives up is given up before it is written.
func (e *entity) claim(rec *record, a *attempt, d demand, right map[string]float64, now stamp) {
	l, s := e.l, e.slots
	wants, others := map[string]int{}, 0
	for name, c := range rec.Replicas {
		if name != l.replica {
			others += c.N
			wants[name] = c.N + c.Interactive + c.Batch
		}
	}
	desired := s.inUse
	if !e.closing {
		desired = max(s.peak, s.inUse+d.calls)
	}
	s.peak = s.inUse
	wants[l.replica] = desired
	total := 0
	for _, n := range wants {
		total += min(n, s.limit)
	}
	a.target = math.MaxInt
	allowed := s.limit
	if total > s.limit {
		turn := int(int64(now) / l.rhythm.lease.Microseconds())
		allowed = split(s.limit, wants, right, turn)[l.replica]
		a.target = allowed
	}
	free := s.limit - others
	a.n = max(s.inUse, min(desired, free, allowed))
	a.limited = a.n < desired
	a.entitled = a.n < min(allowed, desired)
	s.n = min(s.n, a.n)
	s.target = min(s.target, a.target)
}
