package session

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"spillway/pkg/broker"
)

// stripes bounds the sessions that one process changes at once.
const stripes = 256

// Store reads and changes the records of all sessions. It is safe for concurrent use, also by other processes.
type Store struct {
	conn *broker.Conn
	// busy keeps the goroutines of this process from refusing each other's writes.
	busy   [stripes]chan struct{}
	crowds crowds
}

// NewStore uses the bucket of sessions.
func NewStore(conn *broker.Conn) *Store {
	st := &Store{conn: conn, crowds: crowds{waiting: map[string][]*joiner{}}}
	for i := range st.busy {
		st.busy[i] = make(chan struct{}, 1)
	}
	return st
}

// Load reads a session from the leader, with the revision of its record. One that nothing is remembered of is new; its
// revision is that of the removal, or 0.
func (st *Store) Load(ctx context.Context, tenant, task, name string) (*Session, uint64, error) {
	r, err := st.conn.Record(ctx, broker.SessionsBucket, KeyOf(tenant, task, name))
	if err != nil {
		return nil, 0, fmt.Errorf("read session %s: %w", name, err)
	}
	if r.Data == nil {
		return New(tenant, task, name), r.Revision, nil
	}
	s, err := decode(r.Data)
	if err != nil {
		return nil, 0, fmt.Errorf("read session %s: %w", name, err)
	}
	return s, r.Revision, nil
}

func decode(data []byte) (*Session, error) {
	s := &Session{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%w: %w", broker.ErrUnreadable, err)
	}
	if s.V != version {
		return nil, fmt.Errorf("%w: it is of version %d, not %d", broker.ErrUnreadable, s.V, version)
	}
	return s, nil
}

// Update changes a session and returns it as it is then. change is called with what is stored, and again after
// another one changed that; it says whether there is something to write. The record is dropped after keep, at most
// broker.MaxSessionAge, unless it is written again.
func (st *Store) Update(ctx context.Context, tenant, task, name string, keep time.Duration, change func(*Session) (write bool, err error)) (*Session, error) {
	key := KeyOf(tenant, task, name)
	free, err := st.take(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("write session %s: %w", name, err)
	}
	defer free()
	for ctx.Err() == nil {
		s, revision, err := st.Load(ctx, tenant, task, name)
		if err != nil {
			return nil, err
		}
		if write, err := change(s); err != nil || !write {
			return s, err
		}
		s.V, s.At = version, time.Now().UTC()
		data, err := encode(s)
		if err == nil && len(data) > MaxBytes {
			s.Compact(MaxBytes)
			data, err = encode(s)
		}
		if err != nil {
			return nil, err
		}
		_, err = st.conn.SwapFor(ctx, broker.SessionsBucket, key, data, revision, min(keep, broker.MaxSessionAge))
		if errors.Is(err, broker.ErrConflict) && !st.isMine(ctx, key, data) {
			continue
		}
		if err != nil && !errors.Is(err, broker.ErrConflict) {
			return nil, fmt.Errorf("write session %s: %w", name, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("write session %s: %w", name, context.Cause(ctx))
}

// isMine reports whether what is stored is what was to be stored: its acknowledgement was lost.
func (st *Store) isMine(ctx context.Context, key string, data []byte) bool {
	r, err := st.conn.Record(ctx, broker.SessionsBucket, key)
	return err == nil && bytes.Equal(r.Data, data)
}

// take waits until no other goroutine of this process changes the session.
func (st *Store) take(ctx context.Context, key string) (free func(), err error) {
	var n int
	if _, err := fmt.Sscanf(key[:2], "%02x", &n); err != nil {
		return nil, err
	}
	stripe := st.busy[n%stripes]
	select {
	case stripe <- struct{}{}:
		return func() { <-stripe }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Info is a session as a list shows it.
type Info struct {
	Tenant  string    `json:"tenant"`
	Task    string    `json:"task"`
	Name    string    `json:"session"`
	Turns   int       `json:"turns"`
	Pending int       `json:"pending"`
	Summary int       `json:"summary"` // turns that it stands for
	Totals  Totals    `json:"totals"`
	Bytes   int       `json:"bytes"`
	At      time.Time `json:"at"`
}

// List reads all sessions, for tools: they may be a moment old. Records that cannot be read are left out, and named in
// err beside the others.
func (st *Store) List(ctx context.Context) ([]Info, error) {
	records, err := st.conn.Records(ctx, broker.SessionsBucket)
	if err != nil {
		return nil, fmt.Errorf("list the sessions: %w", err)
	}
	var all []Info
	var faults []error
	for _, r := range records {
		if len(r.Data) == 0 {
			continue // removed, or expired
		}
		s, err := decode(r.Data)
		if err != nil {
			faults = append(faults, fmt.Errorf("record %s: %w", r.Key, err))
			continue
		}
		info := Info{Tenant: s.Tenant, Task: s.Task, Name: s.Name, Turns: len(s.Turns), Pending: len(s.Pending), Totals: s.Totals, Bytes: len(r.Data), At: r.At}
		if s.Summary != nil {
			info.Summary = s.Summary.Turns
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b Info) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Task, b.Task), strings.Compare(a.Name, b.Name))
	})
	return all, errors.Join(faults...)
}

// Unsettled calls f with each session that was written last between two moments and has requests pending, or a summary
// under way. known are the revisions that were found settled, by key; it is brought up to date. Records that cannot be
// read are left out, and named in the error.
func (st *Store) Unsettled(ctx context.Context, since, until time.Time, known map[string]uint64, f func(*Session)) error {
	written, err := st.conn.WrittenBetween(ctx, broker.SessionsBucket, since, until)
	if err != nil {
		return fmt.Errorf("look for sessions at rest: %w", err)
	}
	settled := maps.Clone(known)
	clear(known)
	var faults []error
	for _, w := range written {
		if settled[w.Key] == w.Revision {
			known[w.Key] = w.Revision
			continue
		}
		r, err := st.conn.Record(ctx, broker.SessionsBucket, w.Key)
		if err != nil {
			return fmt.Errorf("read session record %s: %w", w.Key, err)
		}
		if len(r.Data) == 0 || r.Revision != w.Revision {
			continue // removed, expired, or no longer at rest
		}
		s, err := decode(r.Data)
		if err == nil && (len(s.Pending) > 0 || s.Fold != nil) {
			f(s)
			continue
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("record %s: %w", w.Key, err))
		}
		known[w.Key] = w.Revision
	}
	return errors.Join(faults...)
}

// Remove forgets a session, and returns what was remembered: a new session if that cannot be read. broker.ErrNotFound:
// nothing was.
func (st *Store) Remove(ctx context.Context, tenant, task, name string) (*Session, error) {
	key := KeyOf(tenant, task, name)
	for ctx.Err() == nil {
		r, err := st.conn.Record(ctx, broker.SessionsBucket, key)
		if err != nil {
			return nil, fmt.Errorf("read session %s: %w", name, err)
		}
		if r.Data == nil {
			return nil, fmt.Errorf("remove session %s: %w", name, broker.ErrNotFound)
		}
		err = st.conn.Remove(ctx, broker.SessionsBucket, key, r.Revision)
		if err == nil {
			if s, err := decode(r.Data); err == nil {
				return s, nil
			}
			return New(tenant, task, name), nil
		}
		if !errors.Is(err, broker.ErrConflict) {
			return nil, fmt.Errorf("remove session %s: %w", name, err)
		}
	}
	return nil, fmt.Errorf("remove session %s: %w", name, context.Cause(ctx))
}
