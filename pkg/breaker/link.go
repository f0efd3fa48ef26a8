package breaker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// link is the connection's state as it was last told, for those who must not ask the connection: while it
// dials, it answers nobody.
type link struct {
	// generation grows with each loss of the connection: what was read in an earlier one is stale.
	generation atomic.Uint64
	up         atomic.Bool
	// waited: somebody has waited for this outage to end already, in vain.
	waited atomic.Bool

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
}

func newLink(connected bool) *link {
	l := &link{changed: make(chan struct{})}
	l.generation.Store(1)
	l.up.Store(connected)
	return l
}

// follow keeps l up to date until ctx ends. connected is called each time that the connection is back.
func (l *link) follow(ctx context.Context, nc *nats.Conn, connected func()) {
	statuses := nc.StatusChanged()
	defer nc.RemoveStatusListener(statuses)
	l.set(nc.IsConnected())
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-statuses:
			if !ok {
				l.set(false)
				return
			}
			if l.set(s == nats.CONNECTED) && s == nats.CONNECTED {
				connected()
			}
		}
	}
}

// set reports whether that is a change.
func (l *link) set(up bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up.Load() == up {
		return false
	}
	if !up {
		l.generation.Add(1)
	}
	l.waited.Store(false)
	l.up.Store(up)
	close(l.changed)
	l.changed = make(chan struct{})
	return true
}

// awaitUp waits for the connection, but only once an outage.
func (l *link) awaitUp(ctx context.Context, atMost time.Duration) bool {
	timeout := time.NewTimer(atMost)
	defer timeout.Stop()
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if l.up.Load() || l.waited.Load() {
			return l.up.Load()
		}
		select {
		case <-changed:
		case <-timeout.C:
			l.waited.Store(true)
			return l.up.Load()
		case <-ctx.Done():
			return false
		}
	}
}
