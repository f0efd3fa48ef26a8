package breaker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/task"
)

// OpenError says that no call may be made now, and when to ask again.
type OpenError struct {
	Circuit Circuit
	State   State
	// Until is when to look again: the end of open, or of the lease of the probe under way.
	Until time.Time
	Why   string
	Since time.Time
}

func (e *OpenError) Error() string {
	what := "open"
	if e.State == HalfOpen {
		what = "half open, a probe is under way"
	}
	text := fmt.Sprintf("the breaker of %s is %s", e.Circuit, what)
	if !e.Since.IsZero() {
		text += " since " + e.Since.UTC().Format(time.RFC3339)
	}
	if e.State == Open && !e.Until.IsZero() {
		text += " until " + e.Until.UTC().Format(time.RFC3339)
	}
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text
}

// circuit is what this process knows of a circuit.
type circuit struct {
	Circuit
	gauge prometheus.Gauge
	view  atomic.Pointer[view]

	// storing is held by whoever writes what is owed, taking by the one call of this process that tries to
	// become the probe.
	storing sync.Mutex
	taking  atomic.Bool

	// mu is held by whoever changes the view, the votes or what follows.
	mu       sync.Mutex
	settings *task.Breaker // of a model; nil: calls have no vote here
	votes    *votes
	reading  chan struct{} // closed when the read under way ends
	unread   time.Time     // until then, a read that failed is not repeated
}

// view is one state of that knowledge. It is never changed, only replaced.
type view struct {
	Record
	revision uint64
	// until and lease are those of the record by this process's clock.
	until, lease time.Time
	// asked is the generation of the connection in which the leader was last asked; 0: never.
	asked uint64
	// owed is a change by this replica that is not stored yet.
	owed *change
}

// change is what this replica has to say about a circuit. It is owed until it is stored, or until the
// record has moved to where it says nothing any more.
type change struct {
	// next makes the record that follows; false: the change does not apply to this one.
	next func(from Record, revision uint64, now time.Time) (Record, bool)
	// opens says that calls must not pass before it is stored; until and why are what to say meanwhile.
	opens bool
	at    time.Time
	until time.Time
	why   string
	// warned is for whoever stores it: a failure is said once.
	warned bool
}

func newCircuit(c Circuit, s *task.Breaker, gauge prometheus.Gauge) *circuit {
	k := &circuit{Circuit: c, settings: s, gauge: gauge}
	if s != nil {
		k.votes = newVotes(*s)
	}
	k.replace(&view{Record: Record{State: Closed}})
	return k
}

// replace needs mu, or a circuit that nobody else has yet.
func (c *circuit) replace(v *view) {
	c.view.Store(v)
	switch v.state() {
	case Closed:
		c.gauge.Set(0)
	case HalfOpen:
		c.gauge.Set(1)
	case Open:
		c.gauge.Set(2)
	}
}

// state is the record's, or open where this replica knows more than the record says.
func (v *view) state() State {
	if v.State == Closed && v.owed != nil && v.owed.opens {
		return Open
	}
	return v.State
}

// lookAgain is the pause where only the broker's return, or another replica, can change anything.
const lookAgain = time.Second

// gate says what a call may do: pass (false, nil), try to become the probe (true, nil), or nothing.
func (c *circuit) gate(v *view, now time.Time, connected bool) (due bool, refused *OpenError) {
	if v.state() == Closed {
		return false, nil
	}
	e := &OpenError{Circuit: c.Circuit, State: v.state(), Why: v.Why, Since: v.Since}
	switch {
	case v.State == Closed: // open only here so far
		e.Until, e.Why, e.Since = v.owed.until, v.owed.why, v.owed.at
		if !e.Until.After(now) {
			e.Until = now.Add(lookAgain) // nobody may probe what is not stored
		}
		return false, e
	case v.State == Open:
		e.Until = v.until
	default:
		e.Until = v.lease // zero after a probe that passed
	}
	if e.Until.After(now) {
		return false, e
	}
	if !connected {
		e.Until = now.Add(lookAgain)
		return false, e
	}
	return true, nil
}

// news is a record as it came in.
type news struct {
	Record
	revision uint64
	at       time.Time
	// asked is the generation in which the leader was asked, base what was known then. A watch says 0, nil.
	asked uint64
	base  *view
	// fresh: it was written just now, as far as this process can tell.
	fresh bool
}

// learn takes news in and reports whether they were any.
func (c *circuit) learn(n news) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.view.Load()
	// The first answer after a lost connection holds even if it is older than what is known, for the store
	// may have been replaced by an earlier one; unless the watch was faster than the answer.
	replaced := n.base == known && n.asked > known.asked
	moved := n.revision > known.revision || replaced && n.revision < known.revision
	if !moved {
		if n.asked > known.asked {
			same := *known
			same.asked = n.asked
			c.view.Store(&same)
		}
		return false
	}
	v := &view{Record: n.Record, revision: n.revision, asked: max(known.asked, n.asked)}
	v.until = here(n.Until, n)
	v.lease = here(n.Lease, n)
	if known.owed != nil {
		if _, applies := known.owed.next(v.Record, v.revision, n.at); applies {
			v.owed = known.owed
		}
	}
	if c.settings != nil {
		c.votes = newVotes(*c.settings)
	}
	c.replace(v)
	return true
}

// here turns a time of the record's writer into one of this process, whose clock may differ: what was
// written just now is as far ahead here as it was there. Of an older record nobody knows how much is over;
// the clocks are believed, for no longer than that.
func here(t time.Time, n news) time.Time {
	if t.IsZero() {
		return t
	}
	ahead := t.Sub(n.At)
	if !n.fresh {
		ahead = min(ahead, t.Sub(n.at))
	}
	return n.at.Add(ahead)
}

// owe notes a change that is to be stored. false: it does not apply any more.
func (c *circuit) owe(ch *change, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := *c.view.Load()
	if _, applies := ch.next(v.Record, v.revision, now); !applies {
		return false
	}
	v.owed = ch
	c.replace(&v)
	return true
}

// forget takes back what is owed no more.
func (c *circuit) forget(ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := *c.view.Load(); v.owed == ch {
		v.owed = nil
		c.replace(&v)
	}
}
