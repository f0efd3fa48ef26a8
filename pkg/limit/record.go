package limit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"spillway/pkg/broker"
)

// record is what all replicas know together about one entity.
type record struct {
	Requests *ledger `json:"requests,omitempty"`
	Tokens   *ledger `json:"tokens,omitempty"`
	// Hold is until when the provider asked to be left alone.
	Hold     stamp             `json:"hold,omitempty"`
	Replicas map[string]*claim `json:"replicas,omitempty"`
}

// claim is one replica's part of a record.
type claim struct {
	// Beat changes with everything that the replica writes: its sign of life, and how it knows its own writes.
	Beat int64 `json:"beat"`
	At   stamp `json:"at,omitempty"`
	// N is how many calls it may have in flight.
	N           int `json:"n,omitempty"`
	Interactive int `json:"interactive,omitempty"`
	Batch       int `json:"batch,omitempty"`
	// Needs are the calls that waited for more than could be granted.
	Needs [2]need `json:"needs,omitzero"`
}

// need is a call that is larger than what one exchange brings.
type need struct {
	N     int   `json:"n"`
	Since stamp `json:"since"`
}

func (c *claim) isWaiting() bool { return c.Interactive+c.Batch > 0 }

// ledger is the log of requests (0) or of tokens (1).
func (r *record) ledger(kind int) *ledger {
	at := &r.Requests
	if kind == tokens {
		at = &r.Tokens
	}
	if *at == nil {
		*at = &ledger{}
	}
	return *at
}

// longestLog is more slots than any window has.
const longestLog = 1 << 12

var errUnsound = errors.New("a log of impossible length, or a replica without a claim")

// decode reads a record. One that never was is empty.
func decode(data []byte) (*record, error) {
	r := &record{}
	if data != nil {
		if err := json.Unmarshal(data, r); err != nil {
			return nil, fmt.Errorf("decode a record of limits: %w", err)
		}
	}
	for _, g := range []*ledger{r.Requests, r.Tokens} {
		if g != nil && len(g.Log) > longestLog {
			return nil, errUnsound
		}
	}
	for _, c := range r.Replicas {
		if c == nil {
			return nil, errUnsound
		}
		c.N, c.Interactive, c.Batch = bounded(c.N), bounded(c.Interactive), bounded(c.Batch)
		c.Needs[requests].N, c.Needs[tokens].N = bounded(c.Needs[requests].N), bounded(c.Needs[tokens].N)
	}
	if r.Replicas == nil {
		r.Replicas = map[string]*claim{}
	}
	return r, nil
}

// bounded is a count as it can be true.
func bounded(n int) int { return min(max(n, 0), 1<<40) }

// HeldUntil is until when a provider asked to be left alone, as a whole or with a model; zero: it did not. It is for
// tools: who calls goes by a Limiter.
func HeldUntil(ctx context.Context, conn *broker.Conn, model, provider string) (time.Time, error) {
	var until stamp
	for _, key := range []string{kindModel + "." + model, kindProvider + "." + provider} {
		stored, err := conn.Record(ctx, broker.LimitsBucket, key)
		if err != nil {
			return time.Time{}, fmt.Errorf("read the limits of %s: %w", key, err)
		}
		r, err := decode(stored.Data)
		if err != nil {
			return time.Time{}, err
		}
		until = max(until, r.Hold)
	}
	if until == 0 {
		return time.Time{}, nil
	}
	return time.UnixMicro(int64(until)).UTC(), nil
}
