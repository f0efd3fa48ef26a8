package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
)

// stored is what the streams of a topology held, and what their consumers delivered, at one moment.
type stored map[string]streamState

type streamState struct {
	waits     bool // the stream is an inbox
	messages  uint64
	bytes     uint64
	last      uint64 // sequence: how many messages were ever stored
	delivered uint64 // by all consumers of the topology, repetitions included
}

func look(ctx context.Context, conn *broker.Conn, t broker.Topology) (stored, error) {
	s := stored{}
	for _, c := range t.Streams {
		stream, err := conn.JS.Stream(ctx, c.Name)
		if err != nil {
			return nil, fmt.Errorf("look at stream %s: %w", c.Name, err)
		}
		state := stream.CachedInfo().State
		s[c.Name] = streamState{
			waits: c.Retention == jetstream.WorkQueuePolicy, messages: state.Msgs, bytes: state.Bytes, last: state.LastSeq,
		}
	}
	for _, c := range t.Consumers {
		consumer, err := conn.JS.Consumer(ctx, c.Stream, c.Config.Durable)
		if err != nil {
			return nil, fmt.Errorf("look at consumer %s: %w", c.Config.Durable, err)
		}
		state := s[c.Stream]
		state.delivered += consumer.CachedInfo().Delivered.Consumer
		s[c.Stream] = state
	}
	return s, nil
}

// settleTime is how long the inboxes may take to be empty after the last result: its ack follows it.
const settleTime = 5 * time.Second

// settled looks until the inboxes are empty and each message that is kept was written. On a server that
// others use they may never be, so the wait is bounded.
func settled(ctx context.Context, conn *broker.Conn, t broker.Topology) (stored, error) {
	end := time.Now().Add(settleTime)
	for {
		s, err := look(ctx, conn, t)
		if err != nil || s.waiting() == 0 || time.Now().After(end) {
			return s, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s stored) waiting() uint64 {
	n := uint64(0)
	for _, state := range s {
		if state.waits {
			n += state.messages
		}
	}
	return n
}

// redeliveredSince counts what consumers delivered beyond what was stored. Delayed retries count too: their
// early delivery is one more.
func (s stored) redeliveredSince(before stored) int {
	n := 0
	for name, state := range s {
		if state.waits {
			n += int(state.delivered-before[name].delivered) - int(state.last-before[name].last)
		}
	}
	return max(n, 0)
}

// keptSince returns by how many bytes a job the streams that are no inboxes grew.
func (s stored) keptSince(before stored, jobs int) map[string]float64 {
	kept := map[string]float64{}
	for name, state := range s {
		if grown := int64(state.bytes) - int64(before[name].bytes); !state.waits && grown > 0 {
			kept[name] = float64(grown) / float64(jobs)
		}
	}
	return kept
}
