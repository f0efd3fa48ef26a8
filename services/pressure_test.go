package services_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// pressed is a pipeline with more to do than its first model bears. What came of it is told by the provider
// and by the subscriber.
type pressed struct {
	*rig
	mu   sync.Mutex
	sent []sent // in order
}

// sent is a request that was acknowledged.
type sent struct {
	id, lane, text string
	at             time.Time
}

// press makes the streams, the providers and the tasks: task.yaml by name, with canned answers where a rung
// of them is named. settings are the first model's, beside the usual ones.
func press(t *testing.T, settings string, tasks map[string]string) *pressed {
	t.Helper()
	return &pressed{rig: setupWith(t, brokertest.Server(t).URL(), 1, pressing(settings, tasks))}
}

func pressing(settings string, tasks map[string]string) func(first, second string) fstest.MapFS {
	return func(first, second string) fstest.MapFS {
		one := small("small", "one", first)
		one.rest += settings
		fs := fstest.MapFS{"models.yaml": {Data: []byte(modelsYAML(defaultLimits, one, large("large", "two", second)))}}
		for name, yaml := range tasks {
			add := addTask
			if strings.Contains(yaml, "rung: canned") {
				add = addCanned
			}
			add(fs, name, yaml)
		}
		return fs
	}
}

// on is the pipeline for a subtest that publishes nothing more.
func (p *pressed) on(t *testing.T) *pressed {
	t.Helper()
	return &pressed{rig: p.rig.on(t), sent: p.all()}
}

// redeploy sets what stages load that start from now on.
func (p *pressed) redeploy(settings string, tasks map[string]string) {
	p.t.Helper()
	p.files = pressing(settings, tasks)(p.first.URL(), p.second.URL())
	p.tasks = load(p.t, p.files)
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
	p.sent = append(p.sent, sent{id: id, lane: lane, text: text, at: time.Now()})
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

// settled waits until every request has a result and nothing is left that could make another one, and
// returns the results by id: exactly one each, none of them late.
func (p *pressed) settled(within time.Duration) map[string]job.Result {
	p.t.Helper()
	all := p.all()
	limit := time.Now().Add(within)
	brokertest.Eventually(p.t, 2*within, "all requests are answered", func() bool { return p.heard.distinct() >= len(all) || time.Now().After(limit) })
	p.emptied(30 * time.Second)
	results, f := map[string]job.Result{}, findings{}
	for _, s := range all {
		heard := p.heard.of(s.id)
		if len(heard) != 1 {
			f.add("not one result", "%s (%s, %q): %d", s.id, s.lane, s.text, len(heard))
		}
		for _, r := range heard {
			results[s.id] = r
			if r.Late {
				f.add("late", "%s (%s, %q): %s", s.id, s.lane, s.text, by(r))
			}
		}
	}
	f.report(p.t)
	if n := p.heard.distinct(); n != len(all) {
		p.t.Errorf("%d ids have results, %d were published", n, len(all))
	}
	return results
}

// allLive wants a live answer for each request.
func (p *pressed) allLive() {
	p.t.Helper()
	f := findings{}
	for _, r := range p.settled(time.Minute) {
		if !isLive(r) {
			f.add(by(r), "%s: %+v", r.ID, r.Error)
		}
	}
	f.report(p.t)
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

// by says how a result was come by: its status, and the rung that it took.
func by(r job.Result) string {
	switch {
	case r.Degraded != nil && r.Degraded.Rung == "model":
		return fmt.Sprintf("%s by model %s", r.Status, r.Model)
	case r.Degraded != nil:
		return fmt.Sprintf("%s by %s", r.Status, r.Degraded.Rung)
	}
	return string(r.Status)
}

// isLive reports whether the task's own model answered.
func isLive(r job.Result) bool { return r.Status == job.Succeeded && r.Model == "small" }

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
