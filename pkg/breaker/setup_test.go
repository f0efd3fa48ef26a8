package breaker

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const halfOpenAfter = 200 * time.Millisecond

var (
	small = Circuit{Kind: KindModel, Name: "small"}
	whole = Circuit{Kind: KindProvider, Name: "here"}
)

// clock stands still unless a test moves it.
type clock struct{ past atomic.Int64 }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func (c *clock) now() time.Time             { return noon.Add(time.Duration(c.past.Load())) }
func (c *clock) forward(d time.Duration)    { c.past.Add(int64(d)) }
func (c *clock) skewed(d time.Duration) now { return func() time.Time { return c.now().Add(d) } }

type now = func() time.Time

type bundle struct {
	t     testing.TB
	url   string
	nodes []string // of a cluster
	conn  *broker.Conn
	clock *clock
	model Model
}

func setup(t testing.TB) *bundle {
	t.Helper()
	return setupAt(t, brokertest.Server(t).URL())
}

func setupAt(t testing.TB, url string) *bundle {
	t.Helper()
	return setupWith(t, url, broker.DefaultSizing())
}

// setupCluster keeps the records on three nodes.
func setupCluster(t testing.TB) *bundle {
	t.Helper()
	var nodes []string
	for _, n := range brokertest.Cluster(t) {
		nodes = append(nodes, n.URL())
	}
	sizing := broker.DefaultSizing()
	sizing.Replicas = 3
	s := setupWith(t, nodes[0], sizing)
	s.nodes = nodes
	return s
}

func setupWith(t testing.TB, url string, sizing broker.Sizing) *bundle {
	t.Helper()
	s := &bundle{t: t, url: url, conn: brokertest.Connect(t, url), clock: &clock{}}
	brokertest.Ensure(t, s.conn, broker.Topology{Buckets: broker.NewTopology(nil, nil, sizing).Buckets})
	s.model = Model{
		Name: "small", Provider: "here", CallTimeout: time.Second,
		Settings: task.Breaker{ConsecutiveFailures: 5, FailureShare: 0.5, MinCalls: 10, Window: time.Minute, HalfOpenAfter: halfOpenAfter, Probes: 1},
	}
	return s
}

// replica is a process of its own, as far as the broker can tell.
type replica struct {
	*Breakers
	t        testing.TB
	stop     func()
	logs     *logs
	registry *prometheus.Registry
}

type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.text.Bytes(), []byte(`"message":"`+message+`"`))
}

// idle is a replica that does not run yet.
func (s *bundle) idle(name, url string) *replica {
	s.t.Helper()
	other := s.model
	other.Name = "large"
	r := &replica{t: s.t, logs: &logs{}, registry: prometheus.NewRegistry()}
	b, err := New(Options{
		Conn: brokertest.Connect(s.t, url), Replica: name, Models: []Model{s.model, other},
		Log: zerolog.New(r.logs), Metrics: r.registry,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	b.now = s.clock.now
	r.Breakers = b
	return r
}

func (r *replica) run() *replica {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(r.stop)
	return r
}

func (s *bundle) replicaAt(name, url string) *replica {
	s.t.Helper()
	r := s.idle(name, url).run()
	r.synced()
	return r
}

func (s *bundle) replica(name string) *replica {
	s.t.Helper()
	return s.replicaAt(name, s.url)
}

func (s *bundle) three() []*replica {
	s.t.Helper()
	return []*replica{s.replica("a"), s.replica("b"), s.replica("c")}
}

func (r *replica) synced() {
	r.t.Helper()
	brokertest.Eventually(r.t, 10*time.Second, "the replica knows the records", func() bool {
		for _, c := range r.circuits {
			if c.view.Load().asked != r.link.generation.Load() || !r.link.up.Load() {
				return false
			}
		}
		return true
	})
}

func (r *replica) known(c Circuit) *view { return r.circuits[c.Key()].view.Load() }

func (r *replica) sees(c Circuit, s State) {
	r.t.Helper()
	brokertest.Eventually(r.t, time.Second, "the circuit of "+c.String()+" is "+string(s), func() bool { return r.known(c).state() == s })
}

// seeEpoch waits until all know the record with the epoch.
func seeEpoch(t testing.TB, all []*replica, c Circuit, epoch uint64) {
	t.Helper()
	for _, r := range all {
		brokertest.Eventually(t, time.Second, "all know the last change", func() bool { return r.known(c).Epoch == epoch && r.known(c).owed == nil })
	}
}

func (r *replica) enter(name string) *Pass {
	r.t.Helper()
	p, err := r.Enter(r.t.Context(), name)
	if err != nil {
		r.t.Fatalf("a call to %s may not begin: %v", name, err)
	}
	return p
}

func (r *replica) refused(name string) *OpenError {
	r.t.Helper()
	p, err := r.Enter(r.t.Context(), name)
	open, ok := errors.AsType[*OpenError](err)
	if !ok {
		r.t.Fatalf("a call to %s may begin (probe %v), or failed for %v", name, p.Probe(), err)
	}
	return open
}

func (r *replica) call(name string, v Verdict) { r.t.Helper(); r.enter(name).Done(v) }

// settled waits until the replica owes nothing.
func (r *replica) settled(c Circuit) {
	r.t.Helper()
	brokertest.Eventually(r.t, 5*time.Second, "what is owed is stored", func() bool { return r.known(c).owed == nil })
}

// breaks opens the circuit of small by failures.
func (r *replica) breaks() {
	r.t.Helper()
	for range 5 {
		r.call("small", Verdict{Result: Failed, Why: "it is down"})
	}
	if r.link.up.Load() {
		r.settled(small)
	}
}

func (s *bundle) stored(c Circuit) Record {
	s.t.Helper()
	stored, err := s.conn.Record(s.t.Context(), broker.BreakersBucket, c.Key())
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := decode(stored.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *bundle) storedAs(c Circuit, state State) Record {
	s.t.Helper()
	var r Record
	brokertest.Eventually(s.t, 10*time.Second, "the circuit of "+c.String()+" is stored as "+string(state), func() bool {
		r = s.stored(c)
		return r.State == state
	})
	return r
}

// value is a metric of the replica.
func (r *replica) value(name string, labels map[string]string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	next:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					continue next
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}
