package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/stage"
)

// bareStream takes the bare publishes.
const (
	bareStream  = "BENCH_BARE"
	bareSubject = "bench.bare"
	// bareBytes is what it keeps: nobody takes from it.
	bareBytes = 64 << 20
)

const (
	// bareRate is how many bare publishes a second run beside the posts: enough for a percentile, too few to be a load.
	bareRate = 50
	// quietPublishes run before the posts, so many a second.
	quietPublishes = 500
	quietRate      = 100
)

// makeBareStream makes a stream like the one that doors publish to, but that it drops the oldest: nobody takes from it.
func makeBareStream(ctx context.Context, conn *broker.Conn, stages []stage.Definition) error {
	streams := stage.Topology(stages, broker.DefaultSizing()).Streams
	config := streams[slices.IndexFunc(streams, func(s jetstream.StreamConfig) bool { return s.Name == broker.RequestsStream })]
	config.Name, config.Subjects = bareStream, []string{bareSubject}
	config.Retention, config.Discard, config.MaxBytes = jetstream.LimitsPolicy, jetstream.DiscardOld, bareBytes
	if _, err := conn.JS.CreateStream(ctx, config); err != nil {
		return fmt.Errorf("make a stream for bare publishes: %w", err)
	}
	return nil
}

// bareCount is how many bare publishes run while the posts do.
func (s *doorSpec) bareCount() int { return max(1, int(bareRate*float64(s.Jobs)/s.Rate)) }

// barePublisher publishes what is posted with the client library alone, over a connection of its own.
type barePublisher struct {
	conn *broker.Conn
	w    *workload
}

func newBarePublisher(spec *doorSpec, w *workload) (*barePublisher, error) {
	conn, err := broker.Connect(broker.ConnectOptions{URL: spec.NATS, Name: "spillway/bench-publisher", Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	return &barePublisher{conn: conn, w: w}, nil
}

func (p *barePublisher) close() { p.conn.Close() }

// run publishes so many bodies at a steady rate, whatever becomes of the earlier ones, and returns how long each took.
func (p *barePublisher) run(ctx context.Context, rate float64, count int) ([]time.Duration, error) {
	took, failed := make([]time.Duration, count), make([]error, count)
	var all sync.WaitGroup
	began := time.Now()
	for n := range count {
		if err := sleepUntil(ctx, began.Add(time.Duration(float64(n)/rate*float64(time.Second)))); err != nil {
			failed[n] = err
			break
		}
		body := p.w.body(n)
		all.Go(func() {
			began := time.Now()
			_, failed[n] = p.conn.JS.Publish(ctx, bareSubject, body)
			took[n] = time.Since(began)
		})
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, fmt.Errorf("publish the same body: %w", err)
		}
	}
	return took, nil
}
