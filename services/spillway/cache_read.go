package main

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// entry is what a list shows of a cached answer: not the answer.
type entry struct {
	ID          string    `json:"id"`
	Task        string    `json:"task"`
	TaskVersion string    `json:"task_version"`
	Tenant      string    `json:"tenant"`
	Model       string    `json:"model"`
	AnsweredBy  string    `json:"answered_by"`
	At          time.Time `json:"at"`

	key      string
	sequence uint64
	bytes    int
	expires  time.Time // zero: never
	broken   bool
}

func (e *entry) model() string {
	if e.broken {
		return "(not a cached answer)"
	}
	return dash(e.Model)
}

// row is an entry as --json lists it.
func (e *entry) row() map[string]any {
	row := map[string]any{
		"key": e.key, "task": e.Task, "task_version": e.TaskVersion, "tenant": e.Tenant, "model": e.Model, "answered_by": e.AnsweredBy,
		"id": e.ID, "at": e.At.UTC(), "expires_at": nil, "bytes": e.bytes, "sequence": e.sequence,
	}
	if !e.expires.IsZero() {
		row["expires_at"] = e.expires.UTC()
	}
	return row
}

// entryOf reads what is stored under a key.
func entryOf(subject string, data []byte, header map[string][]string, sequence uint64, stored time.Time) *entry {
	e := &entry{}
	if err := json.Unmarshal(data, e); err != nil {
		e = &entry{broken: true} // listed all the same, so that it can be removed
	}
	if e.At.IsZero() {
		e.At = stored
	}
	e.key, e.sequence, e.bytes = broker.Token(subject, 2), sequence, len(data)
	if ttl, ok := broker.TTLOf(header); ok {
		e.expires = stored.Add(ttl)
	}
	return e
}

// cacheFilter picks cached answers. The zero value picks all.
type cacheFilter struct {
	Task      []string      `env:"-" help:"Only those of these tasks."`
	Tenant    []string      `env:"-" help:"Only those of these tenants; -: those of none."`
	OlderThan time.Duration `env:"-" help:"Only answers older than this." placeholder:"1h"`
}

func (f cacheFilter) isEmpty() bool { return len(f.Task)+len(f.Tenant) == 0 && f.OlderThan == 0 }

// check refuses what would silently pick nothing.
func (f cacheFilter) check() error {
	for _, t := range f.Task {
		if err := checkToken("task", t); err != nil {
			return err
		}
	}
	if f.OlderThan < 0 {
		return exit(exitUsage, "--older-than is a duration above zero")
	}
	return nil
}

func (f cacheFilter) picks(e *entry) bool {
	switch {
	case len(f.Task) > 0 && !slices.Contains(f.Task, e.Task):
		return false
	case len(f.Tenant) > 0 && !slices.Contains(f.Tenant, dash(e.Tenant)):
		return false
	}
	return f.OlderThan == 0 || time.Since(e.At) >= f.OlderThan
}

// entries calls each for every picked answer, in the order in which they were stored. The subject holds the
// key alone, so that all are read.
func (f cacheFilter) entries(ctx context.Context, conn *broker.Conn, each func(*entry) error) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{broker.AllCached}}
	return browse(ctx, conn, broker.CacheStream, cfg, func(m jetstream.Msg, md *jetstream.MsgMetadata) error {
		e := entryOf(m.Subject(), m.Data(), m.Headers(), md.Sequence.Stream, md.Timestamp)
		if !f.picks(e) {
			return nil
		}
		return each(e)
	})
}

// checkKey refuses what can be no key, before it becomes part of a subject.
func checkKey(key string) error {
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(key) {
		return exit(exitUsage, "%q is not a key: keys have 32 hexadecimal digits, as `spillway cache ls` prints them", job.Cut(key, 80))
	}
	return nil
}

// lastEntry reads what is kept under a key from the leader; an isNotFound error when nothing is.
func lastEntry(ctx context.Context, conn *broker.Conn, key string) (*entry, []byte, error) {
	stored, err := last(ctx, conn, broker.CacheStream, broker.CacheSubject(key))
	if err != nil {
		return nil, nil, err
	}
	return entryOf(stored.Subject, stored.Data, stored.Header, stored.Sequence, stored.At), stored.Data, nil
}
