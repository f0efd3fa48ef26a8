package breaker

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"spillway/pkg/broker"
)

// refresh makes sure that the circuits of m are known as the leader has them, since the connection was
// last lost. When the broker does not answer, what is known has to do.
func (b *Breakers) refresh(ctx context.Context, m *member) error {
	for _, c := range m.circuits {
		for {
			if c.view.Load().asked == b.link.generation.Load() {
				break
			}
			if !b.link.up.Load() && (c.view.Load().asked != 0 || !b.link.awaitUp(ctx, patience)) {
				break
			}
			if again := b.readShared(ctx, c); !again {
				break
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// readShared reads the record of c, or waits for whoever is reading it; then it is worth another look.
func (b *Breakers) readShared(ctx context.Context, c *circuit) (again bool) {
	c.mu.Lock()
	if b.now().Before(c.unread) {
		c.mu.Unlock()
		return false
	}
	if under := c.reading; under != nil {
		c.mu.Unlock()
		select {
		case <-under:
			return true
		case <-ctx.Done():
			return false
		}
	}
	done := make(chan struct{})
	c.reading = done
	c.mu.Unlock()

	_, err := b.read(ctx, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = nil
	close(done)
	if err != nil && ctx.Err() == nil {
		c.unread = b.now().Add(lookAgain)
	}
	return err == nil
}

// read asks the leader for the record of c and reports whether it was news.
func (b *Breakers) read(ctx context.Context, c *circuit) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	generation, base := b.link.generation.Load(), c.view.Load()
	stored, err := b.conn.Record(ctx, broker.BreakersBucket, c.Key())
	if err != nil {
		return false, err
	}
	return c.learn(b.news(c, stored, generation, base)), nil
}

// news reads a stored record. It is fresh if this process knew the one before it a moment ago.
func (b *Breakers) news(c *circuit, stored broker.Record, asked uint64, base *view) news {
	r, err := decode(stored.Data)
	if err != nil {
		b.log.Error().Err(err).Str("kind", c.Kind).Str("name", c.Name).Msg("the record of a breaker cannot be read, it counts as closed")
	}
	known := c.view.Load()
	return news{
		Record: r, revision: stored.Revision, at: b.now(), asked: asked, base: base,
		fresh: known.asked == b.link.generation.Load(),
	}
}

// write puts next in the place of the record that v has. won is false, without an error, when another
// change was stored first; it is known then.
func (b *Breakers) write(ctx context.Context, c *circuit, v *view, next Record, now time.Time) (won bool, err error) {
	data, err := json.Marshal(next)
	if err != nil {
		return false, err
	}
	generation := b.link.generation.Load()
	revision, err := b.conn.Swap(ctx, broker.BreakersBucket, c.Key(), data, v.revision)
	if errors.Is(err, broker.ErrConflict) {
		return b.outrun(ctx, c, v, next)
	}
	if err != nil {
		return false, err
	}
	c.learn(news{Record: next, revision: revision, at: now, asked: generation, base: v, fresh: true})
	b.announce(c, next)
	return true, nil
}

// outrun reads what was stored in the place of v instead of next. It may be next: an earlier try whose
// acknowledgement was lost.
func (b *Breakers) outrun(ctx context.Context, c *circuit, v *view, next Record) (won bool, err error) {
	generation := b.link.generation.Load()
	stored, err := b.conn.Record(ctx, broker.BreakersBucket, c.Key())
	if err != nil {
		return false, err
	}
	n := b.news(c, stored, generation, v)
	c.learn(n)
	if stored.Revision == v.revision {
		// A write that is still on its way between the servers: it decides.
		pause(ctx, inFlight)
		return false, nil
	}
	won = n.By == b.replica && n.Epoch == next.Epoch && n.State == next.State && n.Prober == next.Prober
	if won {
		b.announce(c, n.Record)
	}
	return won, nil
}

// inFlight is longer than a write takes between the servers of a cluster.
const inFlight = 20 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// conclude stores a change now, or leaves it to Run when the broker does not answer.
func (b *Breakers) conclude(ctx context.Context, c *circuit, ch *change) {
	if !c.owe(ch, b.now()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if !b.pay(ctx, c) {
		b.kick()
	}
}

// pay stores what c owes and reports whether nothing is left to store.
func (b *Breakers) pay(ctx context.Context, c *circuit) bool {
	if c.view.Load().owed == nil {
		return true
	}
	if !b.link.up.Load() || !c.storing.TryLock() {
		return false
	}
	paid := b.payNow(ctx, c)
	c.storing.Unlock()
	return paid
}

// payNow needs storing.
func (b *Breakers) payNow(ctx context.Context, c *circuit) bool {
	for ctx.Err() == nil {
		v, now := c.view.Load(), b.now()
		if v.owed == nil {
			return true
		}
		next, applies := v.owed.next(v.Record, v.revision, now)
		if !applies {
			c.forget(v.owed)
			return true
		}
		if _, err := b.write(ctx, c, v, next, now); err != nil {
			if ctx.Err() == nil && !v.owed.warned {
				v.owed.warned = true
				b.log.Warn().Err(err).Str("kind", c.Kind).Str("name", c.Name).Msg("the change of a breaker could not be stored, repeating")
			}
			return false
		}
	}
	return false
}
