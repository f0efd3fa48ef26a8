package breaker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"spillway/pkg/broker"
)

// Listed is a circuit with its record.
type Listed struct {
	Circuit  Circuit
	Record   Record
	Revision uint64
}

// List reads all circuits that have a record, sorted by kind and name.
func List(ctx context.Context, conn *broker.Conn) ([]Listed, error) {
	stored, err := conn.Records(ctx, broker.BreakersBucket)
	if err != nil {
		return nil, err
	}
	var all []Listed
	for _, s := range stored {
		c, err := ParseKey(s.Key)
		if err != nil || s.Data == nil {
			continue // none of ours, or removed
		}
		r, err := decode(s.Data)
		if err != nil {
			r.Why = err.Error() // it counts as closed until the next change
		}
		all = append(all, Listed{Circuit: c, Record: r, Revision: s.Revision})
	}
	slices.SortFunc(all, func(a, b Listed) int {
		return cmp.Or(cmp.Compare(a.Circuit.Kind, b.Circuit.Kind), cmp.Compare(a.Circuit.Name, b.Circuit.Name))
	})
	return all, nil
}

// Read reads the record of a circuit; without one it is closed.
func Read(ctx context.Context, conn *broker.Conn, c Circuit) (Record, error) {
	if err := c.check(); err != nil {
		return Record{}, err
	}
	stored, err := conn.Record(ctx, broker.BreakersBucket, c.Key())
	if err != nil {
		return Record{}, fmt.Errorf("read the breaker of %s: %w", c, err)
	}
	return decode(stored.Data)
}

// OpenByHand opens a circuit for d, whatever it is now; then it is probed like any other. by is who did it.
func OpenByHand(ctx context.Context, conn *broker.Conn, c Circuit, d time.Duration, why, by string) error {
	if d <= 0 {
		return fmt.Errorf("open the breaker of %s: for %s is not at all", c, d)
	}
	return byHand(ctx, conn, c, "open", func(from Record, now time.Time) (Record, bool) {
		return from.opened(now, now.Add(d), why, by), true
	})
}

// CloseByHand closes a circuit. One that is closed is left alone.
func CloseByHand(ctx context.Context, conn *broker.Conn, c Circuit, by string) error {
	return byHand(ctx, conn, c, "close", func(from Record, now time.Time) (Record, bool) {
		return from.next(Closed, now, by), from.State != Closed
	})
}

// byHand changes a record, again if somebody else was faster.
func byHand(ctx context.Context, conn *broker.Conn, c Circuit, doing string, change func(from Record, now time.Time) (Record, bool)) error {
	if err := c.check(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		stored, err := conn.Record(ctx, broker.BreakersBucket, c.Key())
		if err != nil {
			return fmt.Errorf("%s the breaker of %s: %w", doing, c, err)
		}
		from, _ := decode(stored.Data) // what cannot be read is closed, and is overwritten
		next, needed := change(from, time.Now())
		if !needed {
			return nil
		}
		next.ByHand = true
		data, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("%s the breaker of %s: %w", doing, c, err)
		}
		_, err = conn.Swap(ctx, broker.BreakersBucket, c.Key(), data, stored.Revision)
		if err == nil {
			publish(conn, c, next)
			return nil
		}
		if !errors.Is(err, broker.ErrConflict) {
			return fmt.Errorf("%s the breaker of %s: %w", doing, c, err)
		}
	}
	return fmt.Errorf("%s the breaker of %s: %w", doing, c, context.Cause(ctx))
}

// Reset removes the record of a circuit: it is as if it had never opened. None is no error.
func Reset(ctx context.Context, conn *broker.Conn, c Circuit) error {
	if err := c.check(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		stored, err := conn.Record(ctx, broker.BreakersBucket, c.Key())
		if err != nil {
			return fmt.Errorf("reset the breaker of %s: %w", c, err)
		}
		if stored.Data == nil {
			return nil
		}
		err = conn.Remove(ctx, broker.BreakersBucket, c.Key(), stored.Revision)
		if err == nil {
			publish(conn, c, Record{V: version, State: Closed, At: time.Now().UTC(), ByHand: true})
			return nil
		}
		if !errors.Is(err, broker.ErrConflict) {
			return fmt.Errorf("reset the breaker of %s: %w", c, err)
		}
	}
	return fmt.Errorf("reset the breaker of %s: %w", c, context.Cause(ctx))
}

// event is what is published of a change.
type event struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Record
}

// publish tells whoever listens. Nobody depends on it: the record is the truth.
func publish(conn *broker.Conn, c Circuit, r Record) {
	data, err := json.Marshal(event{Kind: c.Kind, Name: c.Name, Record: r})
	if err == nil {
		_ = conn.NC.Publish(c.subject(), data) // a listener that missed it reads the record
	}
}
