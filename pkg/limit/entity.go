package limit

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// The kinds of entities, as they stand in keys and in what is said to people.
const (
	kindModel    = "model"
	kindProvider = "provider"
	kindTask     = "task"
)

// entity is something that has limits: this replica's side of its record. Limiter.mu guards what is not
// constant, but for what only the entity's own goroutine touches (exchanger).
type entity struct {
	l          *Limiter
	key        string // of the record
	kind, name string
	batchShare float64

	slots    *slots
	requests *meter
	tokens   *meter
	meters   []*meter      // those of the two that there are
	hold     time.Duration // the provider asked to be left alone until then
	heard    time.Duration // a hold that the record does not have yet

	// part is batch's of what this replica gets, and right is this replica's of what there is.
	part, right float64
	balance     [2]float64
	largest     [2]float64
	queued      [lanes]int
	// kept is the round in which somebody waited here for what there is, and first the tokens of who waited first.
	kept  uint64
	first int
	// missed: a call that could not wait came since the last exchange; missing is its tokens.
	missed  bool
	missing int

	// at is when the next exchange is due, last when the last one began.
	at, last   time.Duration
	wake       chan struct{}
	prompt     bool // do not wait for the period
	registered bool // the record has this replica's claim
	alone      bool // nobody else waits
	failing    bool
	closing    bool

	exchanger exchanger
}

// needs are the limited entities of an Ask: model, provider, task.
type needs struct {
	entities [3]*entity
	n        int
}

func (s *needs) all() []*entity { return s.entities[:s.n] }

func (s *needs) add(e *entity) {
	if e != nil {
		s.entities[s.n] = e
		s.n++
	}
}

func (s *needs) has(e *entity) bool { return slices.Contains(s.all(), e) }

// mostShare is the most that batch may get while interactive waits, whatever is configured: the rest keeps
// interactive from starving.
const mostShare = 0.9

// newEntity returns nil for one without limits.
func newEntity(l *Limiter, kind, name string, b Bounds) *entity {
	share := min(max(b.BatchShare, 0), mostShare)
	e := &entity{
		l: l, key: kind + "." + name, kind: kind, name: name, batchShare: share, part: share, right: 1, alone: true,
		slots: newSlots(b.Concurrency), requests: newMeter(requests, b.RequestsPerMinute), tokens: newMeter(tokens, b.TokensPerMinute),
		last: -time.Hour, at: never, hold: -time.Hour, wake: make(chan struct{}, 1),
	}
	if e.slots == nil && e.requests == nil && e.tokens == nil {
		return nil
	}
	for _, m := range []*meter{e.requests, e.tokens} {
		if m != nil {
			e.meters = append(e.meters, m)
		}
	}
	e.exchanger.seen = map[string]sighting{}
	return e
}

// has reports whether a call may go as far as this entity is concerned.
func (e *entity) has(asked int, now time.Duration) bool {
	switch {
	case e.closing || now < e.hold,
		e.slots != nil && !e.slots.isFree(now),
		e.requests != nil && e.requests.left(now) < 1,
		e.tokens != nil && e.tokens.left(now) < e.tokens.cost(asked):
		return false
	}
	return true
}

// amount is what a call takes, in calls and in tokens.
func (e *entity) amount(p *Permit) [2]float64 {
	if e.tokens == nil {
		return [2]float64{1, 0}
	}
	return [2]float64{1, float64(e.tokens.cost(p.ask.Tokens))}
}

// keep marks that p waits here, and sees to it that more is fetched.
func (e *entity) keep(p *Permit, now time.Duration) {
	e.kept, e.first = e.l.round, p.ask.Tokens
	if e.at > now {
		e.nudge(now)
	}
}

// isWanted reports whether somebody waits here for what there is.
func (e *entity) isWanted() bool { return e.l.waiting > 0 && e.kept == e.l.round }

// nudge wakes the entity's goroutine when its next exchange is due earlier than it knows.
func (e *entity) nudge(now time.Duration) {
	if due := e.due(now); due < e.at {
		e.at = due
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// due is when the next exchange is.
func (e *entity) due(now time.Duration) time.Duration {
	r := &e.l.rhythm
	if e.failing {
		return e.last + r.retry
	}
	at := never
	if e.prompt || e.slots != nil && e.registered && e.slots.isSurplus() {
		at = e.last + r.gap
	}
	if e.isWanted() || e.missed {
		at = min(at, e.dueWanted(now))
	}
	switch {
	case e.hasNews(now):
		at = min(at, e.last+r.period)
	case e.slots != nil && e.slots.n > 0:
		at = min(at, e.last+r.renew)
	case e.registered && !e.isWanted():
		at = min(at, e.last+r.period) // takes the claim away
	}
	return at
}

// dueWanted is when to ask again for what somebody waits for: at once if the last exchange brought all that
// was wanted then, else when it is of use.
func (e *entity) dueWanted(now time.Duration) time.Duration {
	r := &e.l.rhythm
	at := e.last + r.gap
	if e.slots != nil && e.slots.limited && !e.slots.isFree(now) {
		wait := r.period
		if e.slots.entitled {
			wait /= 3
		}
		at = e.last + wait
	}
	for _, m := range e.meters {
		if !m.limited {
			continue
		}
		at = max(at, e.last+r.period)
		if e.alone {
			at = max(at, m.soonest)
		}
	}
	return max(at, e.hold)
}

// hasNews reports whether there is something to tell, or to give back, at the next regular exchange.
func (e *entity) hasNews(now time.Duration) bool {
	for _, m := range e.meters {
		if m.left(now) > 0 || len(m.mends) > 0 || m.asked > 0 || m.recent >= 1 || m.said != (said{}) {
			return true
		}
	}
	return e.heard != 0 || e.slots != nil && e.slots.n > e.slots.inUse
}

// worth is about how many calls of a size a block's time brings.
func (e *entity) worth(asked int, now time.Duration) int {
	most, r := math.MaxInt, &e.l.rhythm
	if e.slots != nil {
		most = e.slots.limit
	}
	if e.requests != nil {
		most = min(most, r.worth(e.requests.bound(now)))
	}
	if e.tokens != nil {
		most = min(most, r.worth(e.tokens.bound(now))/max(e.tokens.cost(asked), 1))
	}
	return max(most, 1)
}

// lack says which limit a call waits for here, as the configuration names it.
func (e *entity) lack(asked int, now time.Duration) string {
	name := e.kind + " " + e.name + ": "
	switch {
	case now < e.hold:
		return name + "the provider asked to wait"
	case e.kind == kindTask:
		return fmt.Sprintf("%smax_in_flight %d", name, e.slots.limit)
	case e.slots != nil && !e.slots.isFree(now):
		return fmt.Sprintf("%sconcurrency %d", name, e.slots.limit)
	case e.tokens != nil && e.tokens.left(now) < e.tokens.cost(asked):
		return fmt.Sprintf("%stokens_per_minute %d", name, e.tokens.bound(now))
	case e.requests != nil:
		return fmt.Sprintf("%srequests_per_minute %d", name, e.requests.bound(now))
	case e.tokens != nil:
		return fmt.Sprintf("%stokens_per_minute %d", name, e.tokens.bound(now))
	}
	return fmt.Sprintf("%sconcurrency %d", name, e.slots.limit)
}
