package bundle

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"spillway/pkg/broker"
)

// How a version became live.
const (
	HowStart    = "start"
	HowSave     = "save"
	HowPush     = "push"
	HowRollback = "rollback"
)

// LeftByRollback says of a version that a rollback left it.
const LeftByRollback = "rolled back"

// recordFormat is the version of a Record; maxKnown is how many versions it has, maxPast how many it has had.
const (
	recordFormat = 1
	maxKnown     = 50
	maxPast      = 1000
)

// Record says which version of a task is live.
type Record struct {
	V    int    `json:"v"`
	Task string `json:"task"`
	// Live is the version that new requests take; "": the task was taken out.
	Live  string    `json:"live"`
	Since time.Time `json:"since"`
	By    string    `json:"by"`
	// Paused is nil for a task that takes requests.
	Paused *Paused `json:"paused"`
	// Versions were live, or are: the one that became so last is first.
	Versions []Version `json:"versions"`
	// Past are versions that were live and of which nothing else is known any more, the newest last: a process that starts
	// with one must not take it for a new one.
	Past []string `json:"past,omitempty"`
}

// Paused says why a task takes no requests.
type Paused struct {
	Since time.Time `json:"since"`
	By    string    `json:"by"`
	Why   string    `json:"why"`
}

// Version is what a record knows of a version.
type Version struct {
	Version string `json:"version"`
	// First is when it became live for the first time, Since for the last. Until is when it was left then; zero: it is live.
	First time.Time `json:"first"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
	By    string    `json:"by"`
	How   string    `json:"how"`
	Left  string    `json:"left,omitempty"`
}

// Known returns what the record knows of a version; nil: it was never live, or long ago.
func (r *Record) Known(version string) *Version {
	for i := range r.Versions {
		if r.Versions[i].Version == version {
			return &r.Versions[i]
		}
	}
	return nil
}

// goLive makes a version live.
func (r *Record) goLive(version, by, how, left string, now time.Time) {
	r.leave(left, now)
	next := Version{Version: version, First: now}
	if known := r.Known(version); known != nil {
		next.First = known.First
		r.Versions = slices.DeleteFunc(r.Versions, func(v Version) bool { return v.Version == version })
	}
	next.Since, next.By, next.How = now, by, how
	r.Past = slices.DeleteFunc(r.Past, func(v string) bool { return v == version })
	r.Versions = slices.Insert(r.Versions, 0, next)
	for len(r.Versions) > maxKnown {
		r.forget(r.Versions[maxKnown].Version)
	}
	r.Live, r.Since, r.By = version, now, by
}

// forget drops what is known of a version, but that it was live.
func (r *Record) forget(version string) {
	r.Versions = slices.DeleteFunc(r.Versions, func(v Version) bool { return v.Version == version })
	r.Past = append(r.Past, version)
	r.Past = r.Past[max(len(r.Past)-maxPast, 0):]
}

// leave notes that the live version is so no more.
func (r *Record) leave(how string, now time.Time) {
	if v := r.Known(r.Live); v != nil {
		v.Until, v.Left = now, how
	}
	r.Live = ""
}

// Before is the version that was live before the present one and that no rollback left; nil: there is none.
func (r *Record) Before() *Version {
	for i := range r.Versions {
		if v := &r.Versions[i]; v.Version != r.Live && v.Left != LeftByRollback {
			return v
		}
	}
	return nil
}

func readRecord(stored broker.Record) (*Record, error) {
	r := &Record{}
	if err := json.Unmarshal(stored.Data, r); err != nil {
		return nil, fmt.Errorf("the record of task %s: %w: %w", stored.Key, broker.ErrUnreadable, err)
	}
	if r.V != recordFormat || r.Task != stored.Key {
		return nil, fmt.Errorf("the record of task %s: %w: it is of task %q and of version %d, not %d", stored.Key, broker.ErrUnreadable, r.Task, r.V, recordFormat)
	}
	return r, nil
}
