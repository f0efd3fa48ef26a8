package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/task"
)

// ErrNoTask says that no version of a task was ever live.
var ErrNoTask = errors.New("no version of this task was ever live")

// Store has the bundles and the records. It is safe for concurrent use, also by other processes.
type Store struct{ conn *broker.Conn }

// NewStore uses the buckets of a broker.
func NewStore(conn *broker.Conn) *Store { return &Store{conn: conn} }

// Put stores a bundle, unless it is stored.
func (s *Store) Put(ctx context.Context, b *Bundle) error {
	data, err := b.encode()
	if err != nil {
		return err
	}
	known, err := s.Get(ctx, b.Task, b.Version)
	if err == nil && known.isSame(b) {
		return nil
	}
	if errors.Is(err, broker.ErrUnreadable) { // what is known of it says that all is there
		if err := s.Forget(ctx, b.Task, b.Version); err != nil {
			return fmt.Errorf("remove what is left of version %s of task %s: %w", b.Version, b.Task, err)
		}
	}
	if err := s.conn.PutObject(ctx, broker.TasksBucket, b.name(), data); err != nil {
		if errors.Is(err, broker.ErrFull) {
			err = fmt.Errorf("%w: let versions that nothing names be collected, or raise --task-bytes of `spillway broker init`", err)
		}
		return fmt.Errorf("store version %s of task %s: %w", b.Version, b.Task, err)
	}
	return nil
}

// Get reads a bundle. task.ErrNoVersion: it is not stored; task.ErrUnfit: what is stored is none.
func (s *Store) Get(ctx context.Context, name, version string) (*Bundle, error) {
	data, err := s.conn.Object(ctx, broker.TasksBucket, objectName(name, version), maxBytes)
	if errors.Is(err, broker.ErrNotFound) {
		return nil, fmt.Errorf("version %s of task %s: %w", version, name, task.ErrNoVersion)
	}
	if errors.Is(err, broker.ErrUnreadable) {
		return nil, fmt.Errorf("version %s of task %s %w: %w", version, name, task.ErrUnfit, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read version %s of task %s: %w", version, name, err)
	}
	return decode(name, version, data)
}

// Forget removes a bundle.
func (s *Store) Forget(ctx context.Context, name, version string) error {
	return s.conn.RemoveObject(ctx, broker.TasksBucket, objectName(name, version))
}

// Record reads a task's record from the leader, and its revision. ErrNoTask: there is none.
func (s *Store) Record(ctx context.Context, name string) (*Record, uint64, error) {
	stored, err := s.conn.Record(ctx, broker.VersionsBucket, name)
	if err != nil {
		return nil, 0, fmt.Errorf("read the record of task %s: %w", name, err)
	}
	if stored.Data == nil {
		return nil, stored.Revision, ErrNoTask
	}
	r, err := readRecord(stored)
	return r, stored.Revision, err
}

// Records reads all records from the leader, by task. One that cannot be read is left out, and named in the error
// beside the others.
func (s *Store) Records(ctx context.Context) ([]*Record, error) {
	stored, err := s.conn.RecordsNow(ctx, broker.VersionsBucket)
	if err != nil {
		return nil, err
	}
	var all []*Record
	var faults []error
	for _, one := range stored {
		if one.Data == nil {
			continue
		}
		r, err := readRecord(one)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, r)
	}
	return all, errors.Join(faults...)
}

// change changes a task's record and returns it as it is then. do is called with what is stored, and again after another
// one changed that; it says whether there is something to write.
func (s *Store) change(ctx context.Context, name string, do func(r *Record, now time.Time) (write bool, err error)) (*Record, error) {
	for ctx.Err() == nil {
		r, revision, err := s.Record(ctx, name)
		if errors.Is(err, ErrNoTask) {
			r, err = &Record{Task: name}, nil
		}
		if err != nil {
			return nil, err
		}
		r.V = recordFormat
		if write, err := do(r, time.Now().UTC()); err != nil || !write {
			return r, err
		}
		data, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		_, err = s.conn.Swap(ctx, broker.VersionsBucket, name, data, revision)
		if errors.Is(err, broker.ErrConflict) && !s.isMine(ctx, name, data) {
			continue
		}
		if err != nil && !errors.Is(err, broker.ErrConflict) {
			return nil, fmt.Errorf("write the record of task %s: %w", name, err)
		}
		return r, nil
	}
	return nil, fmt.Errorf("write the record of task %s: %w", name, context.Cause(ctx))
}

// isMine reports whether what is stored is what was to be stored: its acknowledgement was lost.
func (s *Store) isMine(ctx context.Context, name string, data []byte) bool {
	stored, err := s.conn.Record(ctx, broker.VersionsBucket, name)
	return err == nil && bytes.Equal(stored.Data, data)
}
