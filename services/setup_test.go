package services_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/client"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/services"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	// A name server that does not answer is waited for by Go's resolver after the call has left.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net.(*Resolver).lookupIPAddr"), goleak.IgnoreAnyFunction("net.(*Resolver).goLookupIPCNAMEOrder.func3.1"))
}

// rig is a whole pipeline on a real server, with two providers that misbehave on demand and a subscriber
// that shares nothing with the pipeline.
type rig struct {
	t     *testing.T
	url   string
	conn  *broker.Conn // of the test
	files fstest.MapFS // what tasks were loaded from
	tasks *task.Set
	defs  []stage.Definition
	// first answers for model small, second for model large.
	first, second *fakellm.Server
	client        *client.Client
	heard         *heard
	limits        stage.Limits
	registries    *registries
	log           zerolog.Logger // of the stages
}

// setup makes the streams and the providers; run starts stages.
func setup(t *testing.T, url string) *rig {
	t.Helper()
	return setupReplicas(t, url, 1)
}

func setupReplicas(t *testing.T, url string, replicas int) *rig {
	t.Helper()
	return setupWith(t, url, replicas, folder)
}

// setupWith loads the tasks that files makes, given where the providers are.
func setupWith(t *testing.T, url string, replicas int, files func(first, second string) fstest.MapFS) *rig {
	t.Helper()
	r := &rig{t: t, url: url, conn: brokertest.Connect(t, url), defs: services.Pipeline(), limits: stage.DefaultLimits(), registries: &registries{of: map[string][]*prometheus.Registry{}}, log: zerolog.Nop()}
	r.limits.Refresh = 50 * time.Millisecond
	sizing := broker.DefaultSizing()
	sizing.Replicas = replicas
	brokertest.Ensure(t, r.conn, stage.Topology(r.defs, sizing))
	r.first, r.second = provider(t), provider(t)
	r.files = files(r.first.URL(), r.second.URL())
	r.tasks = load(t, r.files)
	r.client = client.New(r.conn)
	r.heard = listen(t, url)
	return r
}

func provider(t *testing.T) *fakellm.Server {
	t.Helper()
	s, err := fakellm.Start(fakellm.Options{Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func load(t *testing.T, folder fstest.MapFS) *task.Set {
	t.Helper()
	set, err := task.Load(folder, func(string) string { return "" })
	if err != nil {
		t.Fatalf("load the tasks: %v", err)
	}
	return set
}

// run runs the named stages, each on a connection of its own, until the returned function is called; all
// stages when none is named.
func (r *rig) run(names ...string) (stop func()) {
	r.t.Helper()
	if len(names) == 0 {
		for _, d := range r.defs {
			names = append(names, d.Name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, name := range names {
		conn := brokertest.Connect(r.t, r.url)
		if err := conn.WatchCancels(ctx); err != nil {
			r.t.Fatal(err)
		}
		runner, err := stage.NewRunner(r.defs, name, &stage.Env{
			Conn: conn, Tasks: r.tasks, Log: r.log, Metrics: r.registries.add(name),
			Getenv: func(string) string { return "" }, Limits: r.limits,
		}, 5*time.Second)
		if err != nil {
			r.t.Fatal(err)
		}
		all.Go(func() {
			if err := runner.Run(ctx); err != nil {
				r.t.Errorf("stage %s: %v", name, err)
			}
		})
	}
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); all.Wait() }) }
	r.t.Cleanup(stop)
	return stop
}

// runAllBut runs every stage but one.
func (r *rig) runAllBut(missing string) (stop func()) {
	r.t.Helper()
	var names []string
	for _, d := range r.defs {
		if d.Name != missing {
			names = append(names, d.Name)
		}
	}
	return r.run(names...)
}

// publish sends a request as a client would and returns its id.
func (r *rig) publish(lane, taskName, id string, body any) string {
	r.t.Helper()
	data, ok := body.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(body); err != nil {
			r.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	id, err := r.client.Publish(ctx, lane, taskName, id, data)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// ask publishes {"input":{"text":…}} and returns the id.
func (r *rig) ask(lane, taskName, text string) string {
	r.t.Helper()
	return r.publish(lane, taskName, "", map[string]any{"input": map[string]string{"text": text}})
}

// result waits for the result of a run.
func (r *rig) result(id string, run int) *job.Result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	result, err := r.client.Wait(ctx, "", id, run)
	if err != nil {
		r.t.Fatalf("no result of %s: %v", id, err)
	}
	return result
}

// heard is what an independent core subscriber saw on llm.result.>.
type heard struct {
	mu       sync.Mutex
	results  map[string][]job.Result
	progress map[string][]stage.Progress
}

func listen(t *testing.T, url string) *heard {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	h := &heard{results: map[string][]job.Result{}, progress: map[string][]stage.Progress{}}
	if _, err := nc.Subscribe("llm.result.>", func(m *nats.Msg) {
		var r job.Result
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Errorf("a result that is no JSON: %v", err)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.results[r.ID] = append(h.results[r.ID], r)
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Subscribe("llm.progress.>", func(m *nats.Msg) {
		var p stage.Progress
		if err := json.Unmarshal(m.Data, &p); err != nil {
			t.Errorf("progress that is no JSON: %v", err)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.progress[p.ID] = append(h.progress[p.ID], p)
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *heard) of(id string) []job.Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.results[id])
}

func (h *heard) events(id, event string) []stage.Progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []stage.Progress
	for _, p := range h.progress[id] {
		if p.Event == event {
			found = append(found, p)
		}
	}
	return found
}

func (h *heard) distinct() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.results)
}

// emptied waits until no inbox holds a job.
func (r *rig) emptied(within time.Duration) {
	r.t.Helper()
	brokertest.Eventually(r.t, within, "the inboxes are empty", func() bool { return r.unfinished() == 0 })
}

func (r *rig) unfinished() int {
	streams := []string{broker.RequestsStream, broker.BatchStream, broker.ParkedStream}
	for _, d := range r.defs {
		if d.Name != broker.Ingest {
			streams = append(streams, broker.StageStream(d.Name))
		}
	}
	n := 0
	for _, name := range streams {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		s, err := r.conn.JS.Stream(ctx, name)
		cancel()
		if err != nil {
			return -1
		}
		n += int(s.CachedInfo().State.Msgs)
	}
	return n
}

// answersTo reports whether a result's output carries the nonce of the text that was asked.
func answersTo(r *job.Result, text string) bool {
	return strings.Contains(string(r.Output), fakellm.Nonce(text))
}
