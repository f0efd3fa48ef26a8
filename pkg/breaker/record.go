package breaker

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"spillway/pkg/broker"
)

// The kinds of circuits.
const (
	KindModel    = "model"
	KindProvider = "provider"
)

// Circuit names what is broken or well: a model, or all models of a provider.
type Circuit struct {
	Kind, Name string
}

// Key is where the bucket keeps the circuit's record: model.small.
func (c Circuit) Key() string { return c.Kind + "." + c.Name }

func (c Circuit) String() string { return c.Kind + " " + c.Name }

// ParseKey is the reverse of Key.
func ParseKey(key string) (Circuit, error) {
	kind, name, _ := strings.Cut(key, ".")
	c := Circuit{Kind: kind, Name: name}
	return c, c.check()
}

// check keeps names out that would be a wildcard, or several tokens, of a subject.
func (c Circuit) check() error {
	if c.Kind != KindModel && c.Kind != KindProvider {
		return fmt.Errorf("a breaker is of a %s or a %s, not of a %q", KindModel, KindProvider, c.Kind)
	}
	if ok, err := regexp.MatchString(`^[A-Za-z0-9_-]+$`, c.Name); err != nil || !ok {
		return fmt.Errorf("%q is no name of a %s", c.Name, c.Kind)
	}
	return nil
}

// subject is where an event tells of a change.
func (c Circuit) subject() string {
	if c.Kind == KindProvider {
		return broker.ProviderBreakerSubject(c.Name)
	}
	return broker.ModelBreakerSubject(c.Name)
}

// State of a circuit.
type State string

// The states.
const (
	Closed   State = "closed"
	Open     State = "open"
	HalfOpen State = "half_open"
)

// version of the records that this package writes.
const version = 1

// Record is what all replicas share of a circuit. No record: it is closed.
type Record struct {
	V     int   `json:"v"`
	State State `json:"state"`
	// Until is the end of open, by the clock of whoever wrote it; only its distance from At is trusted.
	Until time.Time `json:"until,omitzero"`
	// Epoch grows by one with each change; it starts anew when the record is removed.
	Epoch uint64 `json:"epoch"`
	// Prober holds the probe until Lease. "" while half open: the last probe passed, the next may begin.
	Prober string    `json:"prober,omitempty"`
	Lease  time.Time `json:"lease,omitzero"`
	// At is when it was written; Since is when the circuit left closed, whatever its probes said since.
	At    time.Time `json:"at"`
	Since time.Time `json:"since,omitzero"`
	// Why is safe to show, By is a replica, or the operator who did it by hand.
	Why    string `json:"why,omitempty"`
	By     string `json:"by,omitempty"`
	ByHand bool   `json:"by_hand,omitempty"`
	// Passed counts the probes that passed since it opened.
	Passed int `json:"passed,omitempty"`
}

// decode reads a record as it is stored; none, and one that cannot be read, is closed.
func decode(data []byte) (Record, error) {
	if data == nil {
		return Record{State: Closed}, nil
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{State: Closed}, fmt.Errorf("decode the record of a breaker: %w", err)
	}
	switch r.State {
	case Closed, Open, HalfOpen:
		return r, nil
	}
	return Record{State: Closed}, fmt.Errorf("decode the record of a breaker: unknown state %q", r.State)
}

// next is the successor that each change begins with.
func (r Record) next(s State, now time.Time, by string) Record {
	n := Record{V: version, State: s, Epoch: r.Epoch + 1, At: now.UTC(), By: by}
	if s != Closed {
		n.Since, n.Why = r.Since, r.Why
		if r.State == Closed {
			n.Since = now.UTC()
		}
	}
	return n
}

// opened is r after it opened because of why.
func (r Record) opened(now, until time.Time, why, by string) Record {
	n := r.next(Open, now, by)
	n.Until, n.Why = until.UTC(), why
	return n
}

// probed is r with a probe under way.
func (r Record) probed(now, lease time.Time, prober, by string) Record {
	n := r.next(HalfOpen, now, by)
	n.Prober, n.Lease, n.Passed = prober, lease.UTC(), r.Passed
	return n
}

// passed is r after a probe passed that was the last of probes, or not yet.
func (r Record) passed(now time.Time, probes int, by string) Record {
	if r.Passed+1 >= probes {
		return r.next(Closed, now, by)
	}
	n := r.next(HalfOpen, now, by)
	n.Passed = r.Passed + 1
	return n
}

// givenBack is r after a probe that says nothing: the probes that passed before still count.
func (r Record) givenBack(now, until time.Time, by string) Record {
	n := r.next(Open, now, by)
	n.Until, n.Passed = until.UTC(), r.Passed
	return n
}
