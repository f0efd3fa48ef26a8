package limit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"spillway/pkg/broker"
)

// exchanger is what only the goroutine of an entity touches.
type exchanger struct {
	beat int64
	// tried are the writes of which nobody knows whether they were stored.
	tried []*attempt
	// seen is when each other replica's beat changed last.
	seen map[string]sighting
	// known is the last record that was read or written, for when it is lost.
	known []byte
	// warned: that it was lost or unreadable is said already.
	warned bool
}

type sighting struct {
	beat int64
	at   time.Duration
}

// attempt is one write: what it brings when it was stored.
type attempt struct {
	beat     int64
	revision uint64 // that it replaces
	at       time.Duration
	empty    bool // the claim is taken away
	grants   [2]grant
	mends    [2]map[int64]int
	n        int // of slots
	target   int
	limited  bool
	entitled bool
	hold     time.Duration
	heard    time.Duration
}

// grant is what a write brings of a meter.
type grant struct {
	n       int
	slot    int64
	limited bool
	soonest time.Duration
}

var errAway = errors.New("the connection to NATS is lost")

// leaveTime bounds giving everything back at the end.
const leaveTime = time.Second

// run exchanges whenever it is due, until ctx ends; then it gives back everything.
func (e *entity) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait := e.untilDue()
		if wait <= 0 {
			e.exchange(ctx)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-e.wake:
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	e.close(ctx)
}

func (e *entity) untilDue() time.Duration {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	now := e.l.clock.now()
	e.at = e.due(now)
	if e.at == never {
		return time.Hour
	}
	return e.at - now
}

// close gives out nothing more and gives back what is not in use.
func (e *entity) close(ctx context.Context) {
	e.l.mu.Lock()
	e.closing = true
	for _, m := range e.meters {
		for i := range m.blocks {
			m.blocks[i].until = 0
		}
	}
	told := e.registered || e.hasNews(e.l.clock.now())
	e.l.mu.Unlock()
	if told {
		e.exchange(ctx)
	}
}

// exchange reads the record, takes what this replica needs and tells what it knows, and writes it back, again
// until nobody else wrote in between.
func (e *entity) exchange(ctx context.Context) {
	l := e.l
	ctx, cancel := context.WithTimeout(ctx, l.rhythm.answer)
	defer cancel()
	l.mu.Lock()
	e.at, e.last, e.prompt = 0, l.clock.now(), false // at 0: nobody needs to wake it
	l.mu.Unlock()
	for {
		err := e.exchangeOnce(ctx)
		if errors.Is(err, broker.ErrConflict) {
			l.metrics.exchanges.WithLabelValues(exchangeConflict).Inc()
			continue
		}
		e.note(err)
		return
	}
}

// note keeps how an exchange ended, and says it once when NATS does not answer.
func (e *entity) note(err error) {
	l := e.l
	l.mu.Lock()
	failing := e.failing
	e.failing = err != nil
	l.mu.Unlock()
	if err == nil {
		l.metrics.exchanges.WithLabelValues(exchangeOK).Inc()
		if failing {
			l.log.Info().Str("limit", e.key).Msg("limits are shared with the other replicas again")
		}
		return
	}
	l.metrics.exchanges.WithLabelValues(exchangeFailed).Inc()
	if !failing {
		l.log.Warn().Err(err).Str("limit", e.key).Msg("limits cannot be shared with the other replicas, nothing more is granted")
	}
}

func (e *entity) exchangeOnce(ctx context.Context) error {
	l, x := e.l, &e.exchanger
	if !l.conn.NC.IsConnected() {
		return errAway // at once, and not said for each entity all the time that it lasts
	}
	stored, err := l.conn.Record(ctx, broker.LimitsBucket, e.key)
	if err != nil {
		return fmt.Errorf("read the limits of %s: %w", e.key, err)
	}
	rec := e.decode(stored)
	l.mu.Lock()
	e.resolve(rec.Replicas[l.replica], stored.Revision)
	x.beat++
	a := &attempt{beat: x.beat, revision: stored.Revision, at: l.clock.now(), hold: -time.Hour}
	set, measure := l.clock.isSet(), l.clock.isDue(a.at, l.rhythm.measure)
	if set {
		e.prepare(rec, a)
	} else {
		e.introduce(rec, a)
	}
	l.mu.Unlock()

	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode the limits of %s: %w", e.key, err)
	}
	x.tried = append(x.tried, a)
	sent := l.now()
	revision, err := l.conn.Swap(ctx, broker.LimitsBucket, e.key, data, stored.Revision)
	if err != nil {
		return fmt.Errorf("write the limits of %s: %w", e.key, err)
	}
	x.known = data
	l.mu.Lock()
	acked := l.clock.now()
	e.apply(a)
	l.dispatch(acked)
	l.mu.Unlock()
	if measure {
		l.measure(ctx, e.key, revision, sent, acked)
	}
	if !set {
		e.hurry()
	}
	return nil
}

// hurry makes the next exchange due at once when the clock is known now: it is the first that counts.
func (e *entity) hurry() {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	if e.l.clock.isSet() {
		e.last = -time.Hour
	}
}

// decode reads the record. When it is lost or unreadable it starts anew from what this replica knows of it.
func (e *entity) decode(stored broker.Record) *record {
	x := &e.exchanger
	rec, err := decode(stored.Data)
	if err == nil && (stored.Data != nil || x.known == nil) {
		if stored.Data != nil {
			x.known, x.warned = stored.Data, false
		}
		return rec
	}
	if !x.warned {
		x.warned = true
		e.l.log.Error().Err(err).Str("limit", e.key).Msg("the shared record of a limit is lost, it starts anew from what this replica knows")
	}
	if rec, err = decode(x.known); err != nil {
		rec, _ = decode(nil)
	}
	return rec
}

// resolve finds out what became of the writes whose acknowledgement did not come.
func (e *entity) resolve(mine *claim, revision uint64) {
	x := &e.exchanger
	open := x.tried[:0]
	for _, a := range x.tried {
		if mine != nil && mine.Beat == a.beat {
			e.apply(a)
			return
		}
		if a.revision == revision {
			open = append(open, a) // it may still be stored
		}
	}
	x.tried = open
}

// apply takes over what a write brought that was stored.
func (e *entity) apply(a *attempt) {
	e.exchanger.tried = nil
	e.registered = !a.empty
	for i, m := range [2]*meter{e.requests, e.tokens} {
		if m == nil {
			continue
		}
		g := a.grants[i]
		m.limited, m.soonest = g.limited, g.soonest
		if g.n > 0 {
			m.blocks = append(m.blocks, block{left: g.n, until: a.at + e.l.rhythm.block, slot: g.slot})
		}
		for slot, n := range a.mends[i] {
			m.correct(slot, -n)
		}
	}
	if s := e.slots; s != nil {
		s.n, s.target, s.limited, s.entitled = a.n, a.target, a.limited, a.entitled
		s.until = a.at + e.l.rhythm.lease - e.l.rhythm.renew
	}
	e.hold = max(e.hold, a.hold)
	if e.heard <= a.heard {
		e.heard = 0
	}
}

// introduce writes nothing but a sign of life: its time tells what the server's clock shows.
func (e *entity) introduce(rec *record, a *attempt) {
	mine := &claim{}
	if before := rec.Replicas[e.l.replica]; before != nil {
		*mine = *before
	}
	mine.Beat = a.beat
	rec.Replicas[e.l.replica] = mine
	a.target = math.MaxInt
	if e.slots != nil {
		a.n, a.target = e.slots.n, e.slots.target
	}
}

// prepare changes the record by one exchange.
func (e *entity) prepare(rec *record, a *attempt) {
	l := e.l
	now := l.clock.stamp(a.at)
	d := e.demand(a.at)
	e.bury(rec, a.at)
	mine := &claim{Beat: a.beat, At: now, Interactive: d.waiting[interactive], Batch: d.waiting[batch]}
	if e.kind == kindTask {
		mine.Interactive, mine.Batch = mine.Interactive+mine.Batch, 0 // it has no lanes
	}
	if before := rec.Replicas[l.replica]; before != nil {
		mine.N = before.N
	}
	rec.Replicas[l.replica] = mine
	for _, m := range e.meters {
		mine.Needs[m.kind] = m.need
	}
	right := rights(rec.Replicas, e.batchShare)
	e.alone = len(right) == 0 || len(right) == 1 && mine.isWaiting()
	e.right = 1
	if part, ok := right[l.replica]; ok {
		e.right = part
	}
	e.part = ownShare(l.replica, rec.Replicas, e.batchShare)
	for _, m := range e.meters {
		e.draw(m, rec, a, d, right, now)
		mine.Needs[m.kind] = m.need
	}
	if e.slots != nil {
		e.claim(rec, a, d, right, now)
		mine.N = a.n
	}
	rec.Hold = min(rec.Hold, now.add(l.rhythm.held))
	if e.heard != 0 {
		rec.Hold, a.heard = max(rec.Hold, l.clock.stamp(e.heard)), e.heard
	}
	if rec.Hold <= now {
		rec.Hold = 0
	} else {
		a.hold = l.clock.local(rec.Hold)
	}
	if mine.N == 0 && !mine.isWaiting() && !e.hasGrants(a) {
		a.empty = true
		delete(rec.Replicas, l.replica)
	}
}

// hasGrants reports whether something granted may still be in use by this replica after a.
func (e *entity) hasGrants(a *attempt) bool {
	for _, m := range e.meters {
		if a.grants[m.kind].n > 0 || m.left(a.at) > 0 {
			return true
		}
	}
	return false
}

// bury drops the claims of the replicas that gave no sign of life for a lease. It is told by this replica's
// own clock, from when it saw the last sign: clocks need not agree on that.
func (e *entity) bury(rec *record, now time.Duration) {
	seen, clock := e.exchanger.seen, &e.l.clock
	for name, c := range rec.Replicas {
		if name == e.l.replica {
			continue
		}
		if clock.local(c.At)-now > e.l.rhythm.jitter {
			clock.measured = -e.l.rhythm.measure // this machine slept, or that one is wrong: look again
		}
		if s, ok := seen[name]; !ok || s.beat != c.Beat {
			seen[name] = sighting{c.Beat, now}
		} else if now-s.at >= e.l.rhythm.lease {
			e.l.log.Warn().Str("limit", e.key).Str("replica", name).Int("in_flight", c.N).Msg("a replica gave no sign of life, its part of a limit is free")
			delete(rec.Replicas, name)
		}
	}
	maps.DeleteFunc(seen, func(name string, _ sighting) bool { return rec.Replicas[name] == nil })
}
