package bundle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"spillway/pkg/broker"
)

// What is kept though nothing names it.
const (
	// keptVersions are the last ones that were live before the live one, for a rollback.
	keptVersions = 3
	// keptFor is how long any is kept after it was left: whatever was admitted under it has ended then.
	keptFor = longestRun
	// forgottenFor is how long a bundle is kept that no record knows any more. A replay that has found its version in the
	// record has its marker by then.
	forgottenFor = 50 * time.Minute
)

// Collector removes the versions that nobody needs any more: a version is neither live nor one of the last three that
// were, was left longer ago than a run may take, and no dead letter, no unfinished job and no result names it.
//
// It does so in two steps, an hour apart: first the record forgets the version, from when on no replay may name it; then,
// if still nothing names it, the bundle goes. TestNoVersionIsCollectedWhileAJobNamesIt pins it. Several processes may
// collect at once.
type Collector struct {
	store *Store
	// forgotten is since when this collector has seen a bundle without a record.
	forgotten map[Name]time.Time
}

// NewCollector collects what a store has. Its Collect is not to be called twice at once.
func NewCollector(s *Store) *Collector { return &Collector{store: s, forgotten: map[Name]time.Time{}} }

// Collect does what is due now and returns the versions whose bundles it removed. Headers are read only if a version
// might go.
func (c *Collector) Collect(ctx context.Context, now time.Time) ([]Name, error) {
	records, err := c.store.Records(ctx)
	if err != nil {
		return nil, err // a record that cannot be read may know any version
	}
	known, old := map[Name]bool{}, []Name{}
	for _, r := range records {
		for _, v := range r.Versions {
			known[Name{r.Task, v.Version}] = true
		}
		known[Name{r.Task, r.Live}] = true
		for _, v := range r.old(now) {
			old = append(old, Name{r.Task, v})
		}
	}
	forgotten, err := c.forgottenAt(ctx, known, now)
	if err != nil || len(old)+len(forgotten) == 0 {
		return nil, err
	}
	named, err := c.store.named(ctx, append(slices.Clone(old), forgotten...))
	if err != nil {
		return nil, err
	}
	free := func(n Name) bool { return !named[n] }
	for _, n := range old {
		if free(n) {
			if err := c.forget(ctx, n, now); err != nil {
				return nil, err
			}
		}
	}
	var gone []Name
	for _, n := range forgotten {
		if !free(n) {
			continue
		}
		if err := c.remove(ctx, n); err != nil {
			return gone, err
		}
		gone = append(gone, n)
	}
	return gone, nil
}

// old are the versions that a record need not know any more.
func (r *Record) old(now time.Time) []string {
	var old []string
	before := 0
	for _, v := range r.Versions {
		if v.Version == r.Live {
			continue
		}
		if before++; before > keptVersions && !v.Until.IsZero() && now.Sub(v.Until) > keptFor {
			old = append(old, v.Version)
		}
	}
	return old
}

// forgottenAt returns the stored versions that no record has known for a while, and remembers those it has just seen so.
func (c *Collector) forgottenAt(ctx context.Context, known map[Name]bool, now time.Time) ([]Name, error) {
	objects, err := c.store.conn.Objects(ctx, broker.TasksBucket)
	if err != nil {
		return nil, fmt.Errorf("list the versions of tasks: %w", err)
	}
	seen, due := map[Name]time.Time{}, []Name{}
	for _, object := range objects {
		name, version, _ := strings.Cut(object, "/")
		n := Name{name, version}
		if known[n] {
			continue
		}
		since, before := c.forgotten[n]
		if !before {
			since = now
		}
		seen[n] = since
		if now.Sub(since) > forgottenFor {
			due = append(due, n)
		}
	}
	c.forgotten = seen
	return due, nil
}

// named tells which of the versions something names. What moves on meanwhile is seen at one place at least: a dead
// letter goes only after the marker of its replay was written, and a result comes after its marker.
func (s *Store) named(ctx context.Context, versions []Name) (map[Name]bool, error) {
	asked, named := map[Name]bool{}, map[Name]bool{}
	for _, n := range versions {
		asked[n] = true
	}
	note := func(task string, m broker.Stored) {
		if n := (Name{task, m.Header.Get(broker.VersionHeader)}); asked[n] {
			named[n] = true
		}
	}
	always, runs := time.Unix(0, 0), map[string]run{}
	err := s.conn.HeadersSince(ctx, broker.DeadStream, always, func(m broker.Stored) { note(broker.Token(m.Subject, 3), m) })
	if err == nil {
		err = s.conn.HeadersSince(ctx, broker.AdmittedStream, always, func(m broker.Stored) {
			id, n := broker.Token(m.Subject, 2), Name{m.Header.Get(broker.TaskHeader), m.Header.Get(broker.VersionHeader)}
			if delete(runs, id); asked[n] {
				runs[id] = run{n, broker.RunOf(m.Header)}
			}
		})
	}
	if err == nil {
		err = s.conn.HeadersSince(ctx, broker.ResultsStream, always, func(m broker.Stored) {
			note(broker.Token(m.Subject, 2), m)
			id := broker.Token(m.Subject, 3)
			if r, ok := runs[id]; ok && broker.RunOf(m.Header) >= r.number {
				delete(runs, id)
			}
		})
	}
	for _, r := range runs {
		named[r.Name] = true
	}
	return named, err
}

// forget takes a version out of its record, unless it was live again meanwhile.
func (c *Collector) forget(ctx context.Context, n Name, now time.Time) error {
	_, err := c.store.change(ctx, n.Task, func(r *Record, _ time.Time) (bool, error) {
		if !slices.Contains(r.old(now), n.Version) {
			return false, nil
		}
		r.forget(n.Version)
		return true, nil
	})
	return err
}

// remove takes a bundle away. One that was made live in this very moment is put back.
func (c *Collector) remove(ctx context.Context, n Name) error {
	b, unreadable := c.store.Get(ctx, n.Task, n.Version)
	if err := c.store.Forget(ctx, n.Task, n.Version); err != nil {
		return fmt.Errorf("remove version %s of task %s: %w", n.Version, n.Task, err)
	}
	delete(c.forgotten, n)
	if r, _, err := c.store.Record(ctx, n.Task); err == nil && r.Known(n.Version) != nil && unreadable == nil {
		return c.store.Put(ctx, b)
	}
	return nil
}
