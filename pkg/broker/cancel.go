package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// cancels mirrors the bucket of cancelled ids. It is a help that saves calls, not the decision: that is
// the first write of the result.
type cancels struct {
	stop func()

	mu      sync.Mutex
	ids     map[string]struct{}
	waiting map[string]map[*func()]struct{}
}

// WatchCancels starts to mirror the bucket; Cancelled and OnCancel know nothing before it.
func (c *Conn) WatchCancels(ctx context.Context) error {
	bucket, err := c.JS.KeyValue(ctx, CancelsBucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", CancelsBucket, err)
	}
	watch, err := bucket.WatchAll(context.WithoutCancel(ctx), jetstream.MetaOnly())
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", CancelsBucket, err)
	}
	m := &cancels{ids: map[string]struct{}{}, waiting: map[string]map[*func()]struct{}{}}
	done := make(chan struct{})
	m.stop = func() {
		_ = watch.Stop() // the connection is closing; the server forgets the watcher by itself
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
		delete(m.ids, entry.Key())
		m.mu.Unlock()
		return
	}
	m.ids[entry.Key()] = struct{}{}
	calls := m.waiting[entry.Key()]
	delete(m.waiting, entry.Key())
	m.mu.Unlock()
	for f := range calls {
		(*f)()
	}
}

// Cancel marks an id as cancelled for all processes.
func (c *Conn) Cancel(ctx context.Context, id string) error {
	bucket, err := c.JS.KeyValue(ctx, CancelsBucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", CancelsBucket, err)
	}
	if _, err := bucket.Create(ctx, id, nil); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("mark %s as cancelled: %w", id, err)
	}
	return nil
}

// Cancelled reports whether id was cancelled, as far as this process has heard.
func (c *Conn) Cancelled(id string) bool {
	m := c.watched()
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, cancelled := m.ids[id]
	return cancelled
}

// OnCancel calls f once when id is cancelled, until stop is called. It calls f at once if it already is.
func (c *Conn) OnCancel(id string, f func()) (stop func()) {
	m := c.watched()
	if m == nil {
		return func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, cancelled := m.ids[id]; cancelled {
		go f()
		return func() {}
	}
	if m.waiting[id] == nil {
		m.waiting[id] = map[*func()]struct{}{}
	}
	m.waiting[id][&f] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.waiting[id], &f)
		if len(m.waiting[id]) == 0 {
			delete(m.waiting, id)
		}
	}
}

func (c *Conn) watched() *cancels {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cancels
}
