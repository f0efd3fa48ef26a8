package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Record is a value of a key-value bucket, small and shared by all replicas: who changes it names the
// revision that he changes.
type Record struct {
	Key string
	// Data is nil when there is no value: none yet, or it was removed.
	Data []byte
	// Revision is the stream sequence of the value, or of its removal; 0: nothing was ever stored.
	Revision uint64
	// At is when the server stored it.
	At time.Time
}

// kvOperation tells a removal from a value, in the stream of a bucket.
const kvOperation = "KV-Operation"

// Record reads a value from the leader of the bucket. One that is not there is no error.
func (c *Conn) Record(ctx context.Context, bucket, key string) (Record, error) {
	stored, err := c.Last(ctx, RecordStream(bucket), recordSubject(bucket, key))
	if errors.Is(err, ErrNotFound) {
		return Record{Key: key}, nil
	}
	if err != nil {
		return Record{}, err
	}
	r := Record{Key: key, Revision: stored.Sequence, At: stored.At}
	if stored.Header.Get(kvOperation) == "" { // what marks a value that expired is empty
		r.Data = stored.Data
	}
	return r, nil
}

// Swap stores data in the place of the value with the given revision and returns the new one. ErrConflict:
// another value is there, which may be an earlier try of this very call; read it and compare.
func (c *Conn) Swap(ctx context.Context, bucket, key string, data []byte, revision uint64) (uint64, error) {
	return c.PublishExpecting(ctx, &nats.Msg{Subject: recordSubject(bucket, key), Data: data}, revision)
}

// SwapFor does what Swap does; the value is dropped after d, unless it is replaced before. The bucket must allow that.
func (c *Conn) SwapFor(ctx context.Context, bucket, key string, data []byte, revision uint64, d time.Duration) (uint64, error) {
	return c.PublishExpecting(ctx, &nats.Msg{Subject: recordSubject(bucket, key), Data: data, Header: ExpiresAfter(d)}, revision)
}

// Remove takes the value with the given revision away. ErrConflict as for Swap.
func (c *Conn) Remove(ctx context.Context, bucket, key string, revision uint64) error {
	m := &nats.Msg{Subject: recordSubject(bucket, key), Header: nats.Header{kvOperation: {"DEL"}}}
	_, err := c.PublishExpecting(ctx, m, revision)
	return err
}

// FollowRecords calls f, one at a time, with every value of the bucket and then with each change, in order,
// until stop is called. After a lost connection it goes on by itself; f may then see a value again.
func (c *Conn) FollowRecords(ctx context.Context, bucket string, f func(Record)) (stop func(), err error) {
	kv, err := c.JS.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the client's watcher lives until it ends
	watch, err := kv.WatchAll(own)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("follow bucket %s: %w", bucket, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for entry := range watch.Updates() {
			if entry != nil {
				f(recordOf(entry))
			}
		}
	}()
	return func() {
		_ = watch.Stop() // the server forgets the watcher by itself
		cancel()
		<-done
	}, nil
}

// Records reads all values of a bucket, for tools: they may be a moment old.
func (c *Conn) Records(ctx context.Context, bucket string) ([]Record, error) {
	kv, err := c.JS.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	watch, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read bucket %s: %w", bucket, err)
	}
	defer func() { _ = watch.Stop() }() // the server forgets the watcher by itself
	var all []Record
	for {
		select {
		case entry, ok := <-watch.Updates():
			if entry == nil || !ok {
				return all, nil
			}
			all = append(all, recordOf(entry))
		case <-ctx.Done():
			return nil, fmt.Errorf("read bucket %s: %w", bucket, context.Cause(ctx))
		}
	}
}

// RecordsNow reads all values of a bucket from its leader, and the places of removed ones, one by one: it is for what
// decides, and for few records. Where Records may miss what was stored a moment ago, this does not.
func (c *Conn) RecordsNow(ctx context.Context, bucket string) ([]Record, error) {
	start := recordSubject(bucket, "")
	subjects, err := c.SubjectsOf(ctx, RecordStream(bucket), start+">")
	if err != nil {
		return nil, err
	}
	var all []Record
	for _, subject := range subjects {
		r, err := c.Record(ctx, bucket, strings.TrimPrefix(subject, start))
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// WrittenBetween returns what was stored last in a bucket between two moments, without the data: a value that was
// replaced later is not among it.
func (c *Conn) WrittenBetween(ctx context.Context, bucket string, since, until time.Time) ([]Record, error) {
	var all []Record
	err := c.HeadersSince(ctx, RecordStream(bucket), since, func(m Stored) {
		if m.At.Before(until) {
			all = append(all, Record{Key: strings.TrimPrefix(m.Subject, recordSubject(bucket, "")), Revision: m.Sequence, At: m.At})
		}
	})
	return all, err
}

func recordOf(entry jetstream.KeyValueEntry) Record {
	r := Record{Key: entry.Key(), Revision: entry.Revision(), At: entry.Created()}
	if entry.Operation() == jetstream.KeyValuePut {
		r.Data = entry.Value()
	}
	return r
}
