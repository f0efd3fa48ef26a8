package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
)

// round is one measured burst of jobs.
type round struct {
	Throughput
	checks Checks
	kept   map[string]float64
}

// burst publishes jobs as fast as the window of unacknowledged publishes allows, and waits for all results.
func burst(ctx context.Context, url string, w *way, first, jobs int, o *Options, phase string) (*round, error) {
	e, err := listen(url, w, first, jobs, o)
	if err != nil {
		return nil, err
	}
	defer e.close()
	conn, err := broker.Connect(broker.ConnectOptions{URL: url, As: o.As, Name: "spillway/bench-publisher", Log: o.Log})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	before, err := look(ctx, conn, w.topology)
	if err != nil {
		return nil, err
	}
	end := o.around(phase)
	began, cpu := time.Now(), cpuTime()
	note := func(done int) { o.progress(phase, done, jobs) }
	told := e.tell(note)
	refused, err := publishAll(ctx, conn, w, first, jobs, o.window())
	if err == nil {
		err = e.wait(ctx)
	}
	told()
	took, used := time.Since(began), cpuTime()-cpu
	end()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", phase, err)
	}
	o.progress(phase, jobs, jobs)
	after, err := settled(ctx, conn, w.topology)
	if err != nil {
		return nil, err
	}
	r := &round{checks: e.checks(), kept: after.keptSince(before, jobs)}
	r.Throughput = Throughput{
		Seconds: took.Seconds(), JobsPerSecond: float64(jobs) / took.Seconds(), CPUPer1000: used.Seconds() * 1000 / float64(jobs),
		Redeliveries: after.redeliveredSince(before), Refused: refused,
	}
	return r, nil
}

// publishAll returns once each request is acknowledged, and how many publishes had to be repeated because
// the stream was full: that is the pipeline's way to hold its clients back.
func publishAll(ctx context.Context, conn *broker.Conn, w *way, first, jobs, window int) (refused int, err error) {
	type pending struct {
		m      *nats.Msg
		future jetstream.PubAckFuture
	}
	ring := make([]pending, min(window, jobs))
	settle := func(p pending) error {
		select {
		case <-p.future.Ok():
			return nil
		case <-p.future.Err():
			refused++
			return publish(ctx, conn, p.m)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for n := range jobs + len(ring) {
		slot := &ring[n%len(ring)]
		if n >= len(ring) {
			if err := settle(*slot); err != nil {
				return refused, err
			}
		}
		if n >= jobs {
			continue
		}
		m := w.request(first + n)
		future, err := conn.JS.PublishMsgAsync(m)
		if err != nil {
			return refused, fmt.Errorf("publish a request: %w", err)
		}
		*slot = pending{m, future}
	}
	return refused, nil
}

// fullPause is how long a full stream is left alone.
const fullPause = 20 * time.Millisecond

// publish repeats until the request is stored.
func publish(ctx context.Context, conn *broker.Conn, m *nats.Msg) error {
	for {
		_, err := conn.Publish(ctx, m)
		if !errors.Is(err, broker.ErrFull) {
			return err
		}
		select {
		case <-time.After(fullPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
