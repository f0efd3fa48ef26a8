package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// compareEvery is how often the clocks are compared, compareFor how long that may take.
	compareEvery = time.Minute
	compareFor   = 2 * time.Second
	// compareAgain is after a comparison that failed.
	compareAgain = 5 * time.Second
	// maxOffset is by how much the clocks may differ before somebody is told.
	maxOffset = time.Second
)

// clock tells JetStream's time, from which deadlines count, by this machine's, which may be off.
type clock struct {
	now func() time.Time
	// ask is what time JetStream has.
	ask func(context.Context) (time.Time, error)
	log zerolog.Logger

	mu     sync.Mutex
	offset time.Duration // JetStream's time less this machine's
	next   time.Time     // when to compare again, by this machine's
}

// read is JetStream's time now. Now and then, and the first time, it compares the clocks: whoever comes meanwhile waits
// the round trip too.
func (c *clock) read(ctx context.Context) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.now()
	if !at.Before(c.next) {
		c.compare(ctx)
	}
	return at.Add(c.offset)
}

// compare finds the offset, to half the round trip; one that is smaller is none.
func (c *clock) compare(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, compareFor)
	defer cancel()
	before := c.now()
	theirs, err := c.ask(ctx)
	after := c.now()
	if err != nil || theirs.IsZero() {
		c.next = after.Add(compareAgain)
		c.log.Debug().Err(err).Msg("JetStream's clock cannot be read, the offset known last counts")
		return
	}
	c.next = after.Add(compareEvery)
	half := after.Sub(before) / 2
	c.offset = theirs.Sub(before.Add(half))
	if c.offset.Abs() <= half {
		c.offset = 0
	}
	if c.offset.Abs() > maxOffset {
		c.log.Warn().Dur("offset", c.offset).Msg("this machine's clock and JetStream's differ, deadlines count from JetStream's: is NTP running?")
	}
}
