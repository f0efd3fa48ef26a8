package bundle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"spillway/pkg/task"
)

// Push is a version that is to become live.
type Push struct {
	Bundle *Bundle
	// Replaces is the version that whoever pushes had before; "": none.
	Replaces string
	// Seen is when a save was seen: one that could not be stored for a while takes nothing back that became live since.
	// Zero: now.
	Seen time.Time
	// By says who pushes, How why: HowStart, HowSave or HowPush.
	By, How string
	// OnlyNew leaves a version as it is that was live before; Own makes it live all the same, unless a rollback left it.
	OnlyNew, Own bool
}

// Several processes watch one folder, and each pushes what it sees. Some see it late: a mounted folder is not changed
// everywhere at once.
const (
	// sameSave is how long ago a version became live that another process has just pushed.
	sameSave = time.Minute
	// lateSave is the same for the version that took the place of the very one that this push replaces, and for one that was
	// rolled back since.
	lateSave = 5 * time.Minute
)

// Push stores the bundle and then makes it live, by the rules that doc.go has. live reports whether it is live now; if
// not, rec says what is.
func (s *Store) Push(ctx context.Context, p Push) (rec *Record, live bool, err error) {
	if err := s.Put(ctx, p.Bundle); err != nil {
		return nil, false, err
	}
	version := p.Bundle.Version
	rec, err = s.change(ctx, p.Bundle.Task, func(r *Record, now time.Time) (bool, error) {
		if r.Live == version || p.leaves(r, now) {
			return false, nil
		}
		if p.OnlyNew && !p.Own && p.Bundle.Simulated && s.isReal(ctx, r) {
			return false, nil
		}
		r.goLive(version, p.By, p.How, "", now)
		return true, nil
	})
	if err != nil {
		return nil, false, err
	}
	if rec.Live == version {
		err = s.Put(ctx, p.Bundle) // it may have been collected before the record named it
	}
	return rec, rec.Live == version, err
}

// isReal reports whether the live version calls models: a process that only simulates does not take its place.
func (s *Store) isReal(ctx context.Context, r *Record) bool {
	if r.Live == "" {
		return false
	}
	b, err := s.Get(ctx, r.Task, r.Live)
	return err != nil || !b.Simulated
}

// leaves reports whether what is live stays so.
func (p Push) leaves(r *Record, now time.Time) bool {
	known := r.Known(p.Bundle.Version)
	switch {
	case !p.Seen.IsZero() && r.Since.After(p.Seen) && r.Live != p.Replaces:
		return true
	case known == nil:
		return p.OnlyNew && !p.Own && slices.Contains(r.Past, p.Bundle.Version)
	case p.Own:
		return known.Left == LeftByRollback
	case p.OnlyNew:
		return true
	case p.How == HowSave && known.By != p.By && !p.isNext(r):
		replaced, ago := r.Known(p.Replaces), now.Sub(known.Since)
		isThisSave := known.Left == LeftByRollback || replaced != nil && replaced.Until.Equal(known.Since)
		return isThisSave && ago < lateSave || ago < sameSave
	}
	return false
}

// isNext reports whether what is live is the save that this process made before this one: then this one is no late one,
// though another process may have made it, before that came to its end.
func (p Push) isNext(r *Record) bool {
	live, known := r.Known(r.Live), r.Known(p.Bundle.Version)
	return live != nil && live.Version == p.Replaces && live.By == p.By && live.How == HowSave && known.Left != LeftByRollback
}

// Rollback makes an earlier version live again: the named one, or with to "" the one before the live one that no rollback
// left.
func (s *Store) Rollback(ctx context.Context, name, to, by string) (from, now string, err error) {
	_, err = s.change(ctx, name, func(r *Record, at time.Time) (bool, error) {
		from, now = r.Live, to
		if now == "" {
			before := r.Before()
			if before == nil {
				return false, fmt.Errorf("task %s has no earlier version to go back to", name)
			}
			now = before.Version
		}
		if now == from {
			return false, fmt.Errorf("version %s of task %s is live already", now, name)
		}
		if _, err := s.Get(ctx, name, now); err != nil {
			if errors.Is(err, task.ErrNoVersion) {
				return false, fmt.Errorf("%w: name another one with --to", err)
			}
			return false, err
		}
		r.goLive(now, by, HowRollback, LeftByRollback, at)
		return true, nil
	})
	return from, now, err
}

// Pause lets the task take no requests. One that is paused already stays so, by whoever paused it.
func (s *Store) Pause(ctx context.Context, name, by, why string) error {
	return s.known(ctx, name, func(r *Record, now time.Time) bool {
		if r.Paused != nil {
			return false
		}
		r.Paused = &Paused{Since: now, By: by, Why: why}
		return true
	})
}

// Resume lets it take them again.
func (s *Store) Resume(ctx context.Context, name, _ string) error {
	return s.known(ctx, name, func(r *Record, _ time.Time) bool {
		was := r.Paused
		r.Paused = nil
		return was != nil
	})
}

// Remove takes the task out: new requests are of an unknown task, jobs in flight end under their versions.
func (s *Store) Remove(ctx context.Context, name, by string) error {
	return s.known(ctx, name, func(r *Record, now time.Time) bool {
		if r.Live == "" {
			return false
		}
		r.leave("", now)
		r.Since, r.By = now, by
		return true
	})
}

// known changes a record that there is. ErrNoTask: there is none.
func (s *Store) known(ctx context.Context, name string, do func(r *Record, now time.Time) (write bool)) error {
	_, err := s.change(ctx, name, func(r *Record, now time.Time) (bool, error) {
		if len(r.Versions) == 0 {
			return false, fmt.Errorf("task %s: %w", name, ErrNoTask)
		}
		return do(r, now), nil
	})
	return err
}
