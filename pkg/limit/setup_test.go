package limit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// short is the arithmetic of a minute in a window of 5 s. Its jitter is large for that: it must hold the
// pauses of a machine that does other things too.
func short() rhythm {
	r := perMinute()
	r.window, r.jitter, r.slot = 5*time.Second, 100*time.Millisecond, 10*time.Millisecond
	r.block, r.period, r.gap = 50*time.Millisecond, 45*time.Millisecond, 5*time.Millisecond
	r.lease, r.renew = 2*time.Second, 500*time.Millisecond
	r.measure = 5 * time.Second
	return r
}

// bundle is a server with the bucket, and the replicas that share it.
type bundle struct {
	t   *testing.T
	url string
	ctx context.Context
}

func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	url := brokertest.Server(t).URL()
	brokertest.Ensure(t, brokertest.Connect(t, url), broker.NewTopology(nil, nil, broker.DefaultSizing()))
	return &bundle{t: t, url: url, ctx: t.Context()}
}

// replica is a limiter that runs until the test ends, or is stopped, or killed.
type replica struct {
	*Limiter
	stop func() // gives everything back
	kill func() // gives nothing back
}

// start runs a replica; change may alter what it is made of.
func (b *bundle) start(name string, o Options, change ...func(*rhythm, *Options, *func() time.Time)) *replica {
	b.t.Helper()
	conn, err := broker.Connect(broker.ConnectOptions{URL: b.url, Name: name, Log: zerolog.Nop()})
	if err != nil {
		b.t.Fatal(err)
	}
	o.Conn, o.Replica = conn, name
	r, read := short(), time.Now
	for _, f := range change {
		f(&r, &o, &read)
	}
	l, err := newLimiter(o, r, read)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.ctx))
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	var once sync.Once
	end := func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("%s ended with %v", name, err)
		}
		o.Conn.Close()
	}
	p := &replica{Limiter: l, stop: func() { once.Do(end) }}
	p.kill = func() {
		once.Do(func() {
			o.Conn.Close()
			end()
		})
	}
	b.t.Cleanup(p.stop)
	return p
}

// record reads the record of an entity.
func (b *bundle) record(key string) *record {
	b.t.Helper()
	conn := brokertest.Connect(b.t, b.url)
	defer conn.Close()
	stored, err := conn.Record(context.WithoutCancel(b.ctx), broker.LimitsBucket, key)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := decode(stored.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bundle) take(l *replica, a Ask, patience time.Duration) *Permit {
	b.t.Helper()
	p, err := l.Take(b.ctx, a, patience)
	if err != nil {
		b.t.Fatalf("take: %v", err)
	}
	return p
}

// isBusy takes and wants to hear that it takes too long.
func (b *bundle) isBusy(l *replica, a Ask, patience time.Duration) *BusyError {
	b.t.Helper()
	_, err := l.Take(b.ctx, a, patience)
	busy, ok := errors.AsType[*BusyError](err)
	if !ok {
		b.t.Fatalf("take: %v, want it to be busy", err)
	}
	return busy
}

// flood makes calls with so many workers until the returned function is called. call is told each permit.
func (b *bundle) flood(l *replica, a Ask, workers int, call func(*Permit)) (end func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for ctx.Err() == nil {
				if p, err := l.Take(ctx, a, -1); err == nil {
					call(p)
				}
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// provider counts what arrives, as a provider with a sliding window does: it knows nothing of the limiter.
type provider struct {
	mu       sync.Mutex
	arrivals []arrival
}

type arrival struct {
	at time.Time
	n  int
}

func (p *provider) arrive(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrivals = append(p.arrivals, arrival{time.Now(), n})
}

// most is the largest sum of any window.
func (p *provider) most(window time.Duration) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum, most, first := 0, 0, 0
	for _, a := range p.arrivals {
		sum += a.n
		for ; a.at.Sub(p.arrivals[first].at) >= window; first++ {
			sum -= p.arrivals[first].n
		}
		most = max(most, sum)
	}
	return most
}

// between is the sum of what arrived in a span of time.
func (p *provider) between(from, to time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := 0
	for _, a := range p.arrivals {
		if !a.at.Before(from) && a.at.Before(to) {
			sum += a.n
		}
	}
	return sum
}

// after waits for a time to pass, on the provider's clock, or for the test to end.
func (b *bundle) after(d time.Duration) time.Time {
	select {
	case <-time.After(d):
	case <-b.ctx.Done():
	}
	return time.Now()
}

func models(bounds Bounds) Options {
	return Options{Models: map[string]Bounds{"small": bounds}, Log: zerolog.Nop()}
}

var small = Ask{Model: "small", Lane: job.Interactive}

// dump shows a record in a failure.
func (b *bundle) dump(key string) string {
	r := b.record(key)
	text, _ := json.Marshal(r)
	names := []string{}
	for name := range r.Replicas {
		names = append(names, name)
	}
	slices.Sort(names)
	return fmt.Sprintf("%v %s", names, text)
}

// value is a metric's with a label of the given value.
func value(t *testing.T, r *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return 0
}
