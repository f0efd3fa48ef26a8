package services_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/client"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/services"
)

// pressed is a pipeline with more to do than its first model bears. What came of it is told by the provider
// and by a subscriber that shares nothing with the pipeline.
type pressed struct {
	*rig
	folder fstest.MapFS
	ear    *ear

	mu   sync.Mutex
	sent []sent // whose PubAck came, in order
}

// sent is a request and when it was acknowledged.
type sent struct {
	id, lane, task, text string
	at                   time.Time
}

// press makes the streams, the providers and the tasks. small is added to the first model's settings; the
// tasks are task.yaml by name, and have canned answers where they name that rung.
func press(t *testing.T, small string, tasks map[string]string) *pressed {
	t.Helper()
	url := brokertest.Server(t).URL()
	r := &rig{t: t, url: url, conn: brokertest.Connect(t, url), defs: services.Pipeline(), limits: stage.DefaultLimits()}
	brokertest.Ensure(t, r.conn, stage.Topology(r.defs, broker.DefaultSizing()))
	r.first, r.second = provider(t), provider(t)
	r.client = client.New(r.conn)
	p := &pressed{rig: r, ear: overhear(t, url)}
	p.deploy(small, tasks)
	return p
}

// deploy sets what replicas load that start from now on.
func (p *pressed) deploy(small string, tasks map[string]string) {
	p.t.Helper()
	models := strings.Replace(modelsYAML(p.first.URL(), p.second.URL()), "small: {", "small: {"+small, 1)
	p.folder = fstest.MapFS{"models.yaml": {Data: []byte(models)}}
	for name, yaml := range tasks {
		addTask(p.folder, name, yaml)
		if strings.Contains(yaml, "rung: canned") {
			p.folder["tasks/"+name+"/canned.yaml"] = &fstest.MapFile{Data: []byte(cannedYAML)}
		}
	}
	p.tasks = load(p.t, p.folder)
}

// processes runs stages as processes, with the tasks as they are now.
func (p *pressed) processes() *processes {
	p.t.Helper()
	path, err := program()
	if err != nil {
		p.t.Fatal(err)
	}
	dir := filepath.Join(p.t.TempDir(), "schemas")
	if err := os.CopyFS(dir, p.folder); err != nil {
		p.t.Fatalf("write the tasks: %v", err)
	}
	return &processes{r: p.rig, path: path, schemas: dir, logs: map[string]*childLog{}}
}

// through is the pipeline as seen by those who reach the server over a link.
func (p *pressed) through(link *brokertest.Link) *rig {
	own := *p.rig
	own.url = link.URL()
	return &own
}

// send publishes a request and keeps it when it was acknowledged. It may be called from any goroutine.
func (p *pressed) send(lane, task, text string) {
	body, err := json.Marshal(map[string]any{"deadline": "10m", "input": map[string]string{"text": text}})
	if err != nil {
		p.t.Errorf("encode a request: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	id, err := p.client.Publish(ctx, lane, task, "", body)
	if err != nil {
		p.t.Errorf("publish a request: %v", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, sent{id: id, lane: lane, task: task, text: text, at: time.Now()})
}

// all are the requests that were acknowledged, in the order in which they were published.
func (p *pressed) all() []sent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sent)
}

// at a steady pace, load calls send with 0, 1, … until the returned function is called, which waits.
func (p *pressed) load(perSecond int, send func(n int)) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		pace := time.NewTicker(time.Second / time.Duration(perSecond))
		defer pace.Stop()
		for n := 0; ; n++ {
			select {
			case <-pace.C:
				send(n)
			case <-stopped:
				return
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(stopped); <-done }) }
	p.t.Cleanup(stop)
	return stop
}

// stored counts the messages of a stream.
func (p *pressed) stored(stream string) int {
	s, err := p.conn.JS.Stream(p.t.Context(), stream)
	if err != nil {
		p.t.Errorf("look at stream %s: %v", stream, err)
		return -1
	}
	return int(s.CachedInfo().State.Msgs)
}

// answered waits until every request has a result and nothing is left that could make another one, and
// returns the results by id: exactly one each, none of them late.
func (p *pressed) answered(within time.Duration) map[string]told {
	p.t.Helper()
	all := p.all()
	limit := time.Now().Add(within)
	brokertest.Eventually(p.t, within, "all requests are answered", func() bool { return p.ear.count() >= len(all) || time.Now().After(limit.Add(-time.Second)) })
	p.emptied(30 * time.Second)
	results := map[string]told{}
	for _, s := range all {
		heard := p.ear.of(s.id)
		if len(heard) != 1 {
			p.t.Errorf("%s (%s, %q) has %d results", s.id, s.lane, s.text, len(heard))
		}
		for _, r := range heard {
			results[s.id] = r
			if r.Late {
				p.t.Errorf("%s (%s, %q) is late: %s", s.id, s.lane, s.text, r.Status)
			}
		}
	}
	if n := p.ear.count(); n != len(all) {
		p.t.Errorf("%d ids have results, %d were published", n, len(all))
	}
	return results
}

// calls are the provider's records of the calls, by what was asked. There must be no more than it keeps.
func (p *pressed) calls() map[string][]fakellm.Request {
	p.t.Helper()
	records := p.first.Requests("")
	if n := p.first.Counts().Calls; n != len(records) {
		p.t.Fatalf("the provider has the records of %d calls of %d", len(records), n)
	}
	byNonce := map[string][]fakellm.Request{}
	for _, c := range records {
		byNonce[c.Nonce] = append(byNonce[c.Nonce], c)
	}
	return byNonce
}

// told is a result and when it was heard.
type told struct {
	job.Result
	at time.Time
}

// by says how a result was come by: its status, and the rung that it took.
func (r told) by() string {
	switch {
	case r.Degraded != nil && r.Degraded.Rung == "model":
		return fmt.Sprintf("%s by model %s", r.Status, r.Model)
	case r.Degraded != nil:
		return fmt.Sprintf("%s by %s", r.Status, r.Degraded.Rung)
	}
	return string(r.Status)
}

// isLive reports whether the task's own model answered.
func (r told) isLive() bool { return r.Status == job.Succeeded && r.Model == "small" }

// ear is an independent core subscriber of results.
type ear struct {
	mu      sync.Mutex
	results map[string][]told
}

func overhear(t *testing.T, url string) *ear {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	e := &ear{results: map[string][]told{}}
	if _, err := nc.Subscribe("llm.result.>", func(m *nats.Msg) {
		r := told{at: time.Now()}
		if err := json.Unmarshal(m.Data, &r.Result); err != nil {
			t.Errorf("a result that is no JSON: %v", err)
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.results[r.ID] = append(e.results[r.ID], r)
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *ear) of(id string) []told {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.results[id])
}

func (e *ear) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.results)
}

// step is what a test does at a moment, counted from its beginning.
type step struct {
	at time.Duration
	do func()
}

// play does the steps of several trials that run side by side, each at its moment, on the test's goroutine:
// what only waits for the other half of a minute needs no place of its own among the parallel tests.
func play(t *testing.T, steps ...step) {
	t.Helper()
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.at - b.at) })
	began := time.Now()
	for _, s := range steps {
		moment := time.NewTimer(s.at - time.Since(began))
		select {
		case <-moment.C:
		case <-t.Context().Done():
			t.Fatal("the test ended")
		}
		s.do()
	}
}

// within are the moments from one to another, the latter not included.
func within(all []time.Time, from, to time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(all), func(at time.Time) bool { return at.Before(from) || !at.Before(to) })
}

// mostIn is the largest number of moments that lie in less than width of each other.
func mostIn(all []time.Time, width time.Duration) int {
	most, first := 0, 0
	for i, at := range all {
		for at.Sub(all[first]) >= width {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
