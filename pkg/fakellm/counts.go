package fakellm

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"
)

// Outcomes beside the kinds of fault: what became of a call is the kind that it was answered with, unless
// it is one of these.
const (
	// OutcomeDisconnected: a good answer whose client left before its end.
	OutcomeDisconnected = "disconnected"
	// OutcomeClosed: a good answer that Close cut short.
	OutcomeClosed = "closed"
	// OutcomeRejected: not a request that could be answered (400), a key that is not one of Options.Keys
	// (401), a model that is not one of Options.Models (404). These are no calls of an input.
	OutcomeRejected = "rejected"
	// OutcomeLimited: refused with a 429 because of a Limit, not of a fault. These are no calls of an input
	// either: nothing was paid for.
	OutcomeLimited = "limited"
)

// Counts is a copy of what the server counted since its start or Reset.
type Counts struct {
	Tally
	// Models and Keys are tallies by model and by API key; "" is for calls without one.
	Models map[string]Tally `json:"models"`
	Keys   map[string]Tally `json:"keys"`
	// Nonces are calls by nonce: how often each input was paid for. Beyond 1,048,576 inputs the oldest
	// are forgotten, and counted in Forgotten.
	Nonces    map[string]int `json:"nonces"`
	Forgotten int            `json:"forgotten,omitempty"`
}

// Tally counts calls.
type Tally struct {
	// Calls were started: their request was read.
	Calls int `json:"calls"`
	// InFlight are not finished; MaxInFlight is the most that there were at once.
	InFlight    int `json:"in_flight"`
	MaxInFlight int `json:"max_in_flight"`
	// Disconnects were left by their client before the end of what they were to get.
	Disconnects int `json:"disconnects"`
	// Outcomes are finished calls by fault kind, "ok", or an Outcome constant.
	Outcomes map[string]int `json:"outcomes"`
}

// Request is the record of one call.
type Request struct {
	// N numbers the calls of a server from 1; it ends the response id too.
	N     uint64    `json:"n"`
	At    time.Time `json:"at"`
	Path  string    `json:"path"`
	Model string    `json:"model"`
	Key   string    `json:"key,omitempty"`
	// Nonce is the input's; "" for a rejected call.
	Nonce string `json:"nonce,omitempty"`
	// Kind is the fault that struck, "ok", "rejected" or "limited".
	Kind string `json:"kind"`
	// Header lacks the API key.
	Header http.Header `json:"header"`
	// Body is cut after 16 KiB; Truncated says so.
	Body      string `json:"body"`
	Truncated bool   `json:"truncated,omitempty"`
}

// Decode reads the body, which must not be truncated.
func (r Request) Decode(into any) error { return json.Unmarshal([]byte(r.Body), into) }

const (
	maxRequests     = 1000
	maxRecordedBody = 16 << 10
	maxNonces       = 1 << 20
)

// ledger counts, and lets in or refuses by what it counted. Everything in it is guarded by mu, so that
// calls have one order in limits, timeline and records.
type ledger struct {
	start         time.Time // where its clock has 0; not guarded
	mu            sync.Mutex
	last          uint64
	limits        limits
	timeline      timeline
	all           *Tally
	models, keys  map[string]*Tally
	nonces        map[uint64]inputCalls
	order         []uint64 // of nonces, a ring when full
	forgotten     int
	requests      [maxRequests]recorded // ring by number
	firstRecorded uint64
	changed       chan struct{} // nil while nobody awaits a change
}

type inputCalls struct{ calls, maxTokens int32 }

type recorded struct {
	Request
	nonce uint64
	body  []byte // kept for the next one in this place
}

// arrival is what the ledger is told of a call.
type arrival struct {
	path, model, key string
	header           http.Header
	body             []byte
	nonce            uint64
	promptTokens     int
	maxTokens        int
	rejected         bool
}

// entry is what the ledger says of a call that began.
type entry struct {
	n  uint64
	at time.Time
	// limited is why a limit refuses the call; nil: it does not. Else the call is to leave the gauges.
	limited *refusal
	gauges  []*gauge
	// number counts the input's calls; lastMaxTokens is the bound that the one before had.
	number, lastMaxTokens int
	inFlight              int
	tallies               [3]*Tally
}

func newLedger() *ledger {
	l := &ledger{start: time.Now()}
	l.clear()
	return l
}

// clear forgets everything but the numbering. Calls in flight end in tallies that nobody reads any more.
func (l *ledger) clear() {
	l.all = newTally()
	l.models, l.keys = map[string]*Tally{}, map[string]*Tally{}
	l.nonces, l.order, l.forgotten = map[uint64]inputCalls{}, nil, 0
	l.firstRecorded = l.last + 1
	l.timeline = timeline{}
}

func (l *ledger) reset(all []Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	l.limits = newLimits(all)
	l.wake()
}

func (l *ledger) begin(a arrival) entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	now := l.now()
	e := entry{n: l.last, at: l.start.Add(now), tallies: [3]*Tally{l.all, tallyOf(l.models, a.model), tallyOf(l.keys, a.key)}}
	l.timeline.add(sighting{now, e.tallies[1]})
	for _, t := range e.tallies {
		t.Calls++
		t.InFlight++
		t.MaxInFlight = max(t.MaxInFlight, t.InFlight)
	}
	e.inFlight = l.all.InFlight
	if !a.rejected {
		e.gauges, e.limited = l.limits.admit(a.model, a.promptTokens, now)
	}
	if !a.rejected && e.limited == nil {
		before := l.nonces[a.nonce]
		e.number, e.lastMaxTokens = int(before.calls)+1, int(before.maxTokens)
		l.remember(a.nonce, inputCalls{before.calls + 1, int32(a.maxTokens)})
	}
	l.record(&e, a)
	l.wake()
	return e
}

// now is the ledger's clock, which only goes forward.
func (l *ledger) now() time.Duration { return time.Since(l.start) }

func (l *ledger) remember(nonce uint64, c inputCalls) {
	if _, known := l.nonces[nonce]; !known {
		if len(l.order) < maxNonces {
			l.order = append(l.order, nonce)
		} else {
			place := &l.order[l.forgotten%maxNonces]
			delete(l.nonces, *place)
			*place = nonce
			l.forgotten++
		}
	}
	l.nonces[nonce] = c
}

func (l *ledger) record(e *entry, a arrival) {
	r := &l.requests[e.n%maxRequests]
	r.body = append(r.body[:0], a.body[:min(len(a.body), maxRecordedBody)]...)
	r.nonce = a.nonce
	r.Request = Request{
		N: e.n, At: e.at, Path: a.path, Model: a.model, Key: a.key, Kind: KindOK, Header: a.header,
		Truncated: len(a.body) > maxRecordedBody,
	}
	if a.rejected {
		r.Kind = OutcomeRejected
	} else if e.limited != nil {
		r.Kind = OutcomeLimited
	}
}

// struck notes which fault a call gets.
func (l *ledger) struck(n uint64, kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := &l.requests[n%maxRequests]; r.N == n {
		r.Kind = kind
	}
}

// settle takes a call off its limits, with the tokens of its answer. It is called before the answer's end is
// sent, so that a client that waited for it is not refused because of it. A second time does nothing.
func (l *ledger) settle(e *entry, tokens int) {
	if len(e.gauges) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, g := range e.gauges {
		g.leave(tokens, now)
	}
	e.gauges = nil
}

func (l *ledger) end(e *entry, outcome string, disconnected bool) {
	l.settle(e, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range e.tallies {
		t.InFlight--
		t.Outcomes[outcome]++
		if disconnected {
			t.Disconnects++
		}
	}
	l.wake()
}

// wake tells those who await a change.
func (l *ledger) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (l *ledger) counts() Counts {
	l.mu.Lock()
	c := Counts{
		Tally: l.all.clone(), Models: cloneTallies(l.models), Keys: cloneTallies(l.keys),
		Nonces: make(map[string]int, len(l.nonces)), Forgotten: l.forgotten,
	}
	nonces := maps.Clone(l.nonces)
	l.mu.Unlock() // before the dear part: a waiter asks at each call, and calls wait for the lock
	for nonce, calls := range nonces {
		c.Nonces[formatNonce(nonce)] = int(calls.calls)
	}
	return c
}

// tail returns the recorded calls for a model, or for all with "", oldest first.
func (l *ledger) tail(model string) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := []Request{}
	first := l.firstRecorded
	if l.last >= maxRequests {
		first = max(first, l.last-maxRequests+1)
	}
	for n := first; n <= l.last; n++ {
		r := &l.requests[n%maxRequests]
		if model != "" && r.Model != model {
			continue
		}
		one := r.Request
		one.Body, one.Header = string(r.body), r.Header.Clone()
		one.Header.Del("Authorization")
		one.Header.Del("Api-Key")
		if one.Kind != OutcomeRejected {
			one.Nonce = formatNonce(r.nonce)
		}
		all = append(all, one)
	}
	return all
}

// await returns nil once holds does, which it asks at each change.
func (l *ledger) await(ctx context.Context, holds func(Counts) bool) error {
	for {
		l.mu.Lock()
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if holds(l.counts()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *ledger) setLimits(all []Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = newLimits(all)
}

func (l *ledger) currentLimits() []Limit {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limits.list()
}

func (l *ledger) allowances(model string) (requests, tokens *allowance, concerned bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limits.allowances(model, l.now())
}

func (l *ledger) modelNames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.models))
	for name := range l.models {
		names = append(names, name)
	}
	return names
}

func newTally() *Tally { return &Tally{Outcomes: map[string]int{}} }

func tallyOf(tallies map[string]*Tally, name string) *Tally {
	t, ok := tallies[name]
	if !ok {
		t = newTally()
		tallies[name] = t
	}
	return t
}

func (t *Tally) clone() Tally {
	c := *t
	c.Outcomes = maps.Clone(t.Outcomes)
	return c
}

func cloneTallies(tallies map[string]*Tally) map[string]Tally {
	all := make(map[string]Tally, len(tallies))
	for name, t := range tallies {
		all[name] = t.clone()
	}
	return all
}
