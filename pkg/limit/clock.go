package limit

import (
	"context"
	"math"
	"time"

	"spillway/pkg/broker"
)

// stamp is a moment by the server's clock, in microseconds since 1970: what the records speak of.
type stamp int64

func (s stamp) add(d time.Duration) stamp        { return s + stamp(d.Microseconds()) }
func (s stamp) since(before stamp) time.Duration { return time.Duration(s-before) * time.Microsecond }
func (s stamp) slot(r *rhythm) int64             { return int64(s) / r.slot.Microseconds() }

// never is a moment that does not come.
const never = time.Duration(math.MaxInt64)

// clock tells the time since the process began to count, which no correction of the local clock moves, and
// knows what the server's clock showed then.
type clock struct {
	read  func() time.Time
	start time.Time
	// zero is the server's time at start; 0: not measured yet.
	zero     stamp
	measured time.Duration
	tries    int
}

func newClock(read func() time.Time) clock { return clock{read: read, start: read()} }

func (c *clock) now() time.Duration                  { return c.read().Sub(c.start) }
func (c *clock) isSet() bool                         { return c.zero != 0 }
func (c *clock) stamp(t time.Duration) stamp         { return c.zero.add(t) }
func (c *clock) local(s stamp) time.Duration         { return s.since(c.zero) }
func (c *clock) isDue(now, every time.Duration) bool { return !c.isSet() || now-c.measured >= every }

// set takes a write into account that was sent and acknowledged at these moments and stored at the given one.
// Half of the time between is the error; one that is too large is only believed when there is no better.
func (c *clock) set(sent, acked time.Duration, stored time.Time, most time.Duration) {
	c.tries++
	if acked-sent > most && (c.isSet() || c.tries < 4) {
		return
	}
	c.zero = stamp(stored.UnixMicro()).add(-(sent + (acked-sent)/2))
	c.measured, c.tries = acked, 0
}

// now is the local time, for those who do not hold mu.
func (l *Limiter) now() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.now()
}

// measure reads when the server stored this replica's own write. Another replica's write may be there by
// now; then the next exchange tries again.
func (l *Limiter) measure(ctx context.Context, key string, revision uint64, sent, acked time.Duration) {
	stored, err := l.conn.Record(ctx, broker.LimitsBucket, key)
	if err != nil || stored.Revision != revision {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock.set(sent, acked, stored.At, l.rhythm.jitter/2)
}
