package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// cancels mirrors the bucket of cancelled runs. It is a help that saves calls, not the decision: that is
// the first write of the result.
type cancels struct {
	stop func()

	mu      sync.Mutex
	runs    map[string]time.Time // by key, when it was cancelled
	pruned  time.Time
	waiting map[string]map[*func()]struct{}
}

// cancelKey names a run in the bucket: a later run of the same job is another matter.
func cancelKey(id string, run int) string { return id + "." + strconv.Itoa(run) }

// WatchCancels starts to mirror the bucket; Cancelled and OnCancel know nothing before it.
func (c *Conn) WatchCancels(ctx context.Context) error {
	bucket, err := c.JS.KeyValue(ctx, CancelsBucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", CancelsBucket, err)
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the client's watcher lives until it ends
	watch, err := bucket.WatchAll(own, jetstream.MetaOnly())
	if err != nil {
		cancel()
		return fmt.Errorf("watch bucket %s: %w", CancelsBucket, err)
	}
	m := &cancels{runs: map[string]time.Time{}, pruned: time.Now(), waiting: map[string]map[*func()]struct{}{}}
	done := make(chan struct{})
	m.stop = func() {
		_ = watch.Stop() // the connection is closing; the server forgets the watcher by itself
		cancel()
		<-done
	}
	go func() {
		defer close(done)
		for entry := range watch.Updates() {
			if entry != nil {
				m.note(entry)
			}
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancels = m
	return nil
}

func (m *cancels) note(entry jetstream.KeyValueEntry) {
	m.mu.Lock()
	if entry.Operation() != jetstream.KeyValuePut {
		delete(m.runs, entry.Key())
		m.mu.Unlock()
		return
	}
	m.runs[entry.Key()] = entry.Created()
	m.prune(time.Now())
	calls := m.waiting[entry.Key()]
	delete(m.waiting, entry.Key())
	m.mu.Unlock()
	for f := range calls {
		(*f)()
	}
}

// pruneEvery is how often runs are forgotten that the bucket has dropped; it does not say so.
const pruneEvery = time.Hour

func (m *cancels) prune(now time.Time) {
	if now.Sub(m.pruned) < pruneEvery {
		return
	}
	m.pruned = now
	for key, at := range m.runs {
		if now.Sub(at) > cancelAge {
			delete(m.runs, key)
		}
	}
}

// Cancel marks a run as cancelled for all processes.
func (c *Conn) Cancel(ctx context.Context, id string, run int) error {
	bucket, err := c.JS.KeyValue(ctx, CancelsBucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", CancelsBucket, err)
	}
	if _, err := bucket.Create(ctx, cancelKey(id, run), nil); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("mark %s as cancelled: %w", id, err)
	}
	return nil
}

// Cancelled reports whether a run was cancelled, as far as this process has heard.
func (c *Conn) Cancelled(id string, run int) bool {
	m := c.watched()
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, cancelled := m.runs[cancelKey(id, run)]
	return cancelled
}

// OnCancel calls f once when a run is cancelled, until stop is called. It calls f at once if it already is.
func (c *Conn) OnCancel(id string, run int, f func()) (stop func()) {
	m := c.watched()
	if m == nil {
		return func() {}
	}
	key := cancelKey(id, run)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, cancelled := m.runs[key]; cancelled {
		go f()
		return func() {}
	}
	if m.waiting[key] == nil {
		m.waiting[key] = map[*func()]struct{}{}
	}
	m.waiting[key][&f] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.waiting[key], &f)
		if len(m.waiting[key]) == 0 {
			delete(m.waiting, key)
		}
	}
}

func (c *Conn) watched() *cancels {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cancels
}
