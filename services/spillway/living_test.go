package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/client"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// living is a pipeline in a process that reads its folder again, with two real HTTP providers.
type living struct {
	*rig
	t           *testing.T
	dir         string
	process     *process
	here, there *gated
	env         map[string]string

	mu     sync.Mutex
	events []filesEvent
}

// gated is a provider that holds calls until they are let through, while it is shut.
type gated struct {
	*fakellm.Server
	mu   sync.Mutex
	gate chan struct{}
	held int
}

func startGated(t *testing.T) *gated {
	t.Helper()
	g := &gated{}
	var err error
	g.Server, err = fakellm.Start(fakellm.Options{Log: zerolog.Nop(), PromptTokens: g.pass})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.open(); _ = g.Close() })
	return g
}

func (g *gated) pass(body []byte) int {
	g.mu.Lock()
	gate := g.gate
	g.held++
	g.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return len(body) / 4
}

func (g *gated) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gate, g.held = make(chan struct{}), 0
}

func (g *gated) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gate != nil {
		close(g.gate)
	}
	g.gate = nil
}

func (g *gated) holds(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held == n
}

// live starts one on its own server; tune may change the folder before.
func live(t *testing.T) *living {
	t.Helper()
	return liveWith(t, 0)
}

// liveWith has another grace than usual.
func liveWith(t *testing.T, grace time.Duration) *living {
	t.Helper()
	l := &living{rig: serve(t), t: t, dir: t.TempDir(), here: startGated(t), there: startGated(t), env: map[string]string{}}
	l.save("models.yaml", l.models("here", "small", 0))
	l.task("toy", "one")
	l.task("other", "one")
	l.start(l.rig, roleFlags{ownServer: true, Grace: grace})
	return l
}

func (l *living) start(r *rig, f roleFlags) {
	l.t.Helper()
	tasks, err := loadTasks(l.dir, l.getenv)
	if err != nil {
		l.t.Fatal(err)
	}
	f.Schemas, f.Grace, f.AdmitInteractive, f.AdmitBatch, f.tell = l.dir, cmp.Or(f.Grace, 20*time.Second), 1000, 1000, l.told
	p, err := newProcess(brokertest.Connect(l.t, r.url), tasks, f, l.getenv, zerolog.Nop())
	if err != nil {
		l.t.Fatal(err)
	}
	l.process = p
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("the process: %v", err)
		}
		p.close()
	})
	brokertest.Eventually(l.t, 30*time.Second, "the process is ready", func() bool { return p.unready() == "" })
}

func (l *living) getenv(name string) string { return l.env[name] }

func (l *living) told(e filesEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// awaits an event, and returns it.
func (l *living) awaits(event, of string) (found filesEvent) {
	l.t.Helper()
	brokertest.Eventually(l.t, 30*time.Second, "the process tells: "+event+" "+of, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, e := range l.events {
			if e.Event == event && e.Task == of {
				found, l.events = e, l.events[i+1:]
				return true
			}
		}
		return false
	})
	return found
}

func (l *living) save(name, text string) {
	l.t.Helper()
	write(l.t, filepath.Join(l.dir, filepath.FromSlash(name)), text)
}

// models is a models.yaml with one model at a provider; limit makes it another one.
func (l *living) models(provider, model string, limit int) string {
	url := l.here.URL()
	if provider == "there" {
		url = l.there.URL()
	}
	return fmt.Sprintf(`defaults: {timeouts: {connect: 5s, first_token: 50s, silence: 50s, call: 55s}}
providers: {%s: {kind: openai, base_url: %q, api_key: none}}
models: {%s: {provider: %s, id: %s-1, context_window: 8000, structured_output: json_schema, limits: {concurrency: %d}, prices: {input: 1, output: 2}}}
`, provider, url, model, provider, model, limit)
}

// task writes a task whose prompt says a word.
func (l *living) task(name, word string) { l.taskOn(name, word, "small") }

func (l *living) taskOn(name, word, model string) {
	l.t.Helper()
	for file, text := range map[string]string{
		"task.yaml":          "model: " + model + "\ndeadline: {default: 60s, reserve: 1s}\nladder: []\nno_ladder: the test wants to see the failure\n",
		"prompt.tmpl":        `{{define "system"}}` + word + `{{end}}{{define "user"}}{{.Input.text}}{{end}}`,
		"input.schema.json":  `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`,
		"output.schema.json": `{"type":"object","properties":{"says":{"type":"string"}},"required":["says"],"additionalProperties":false}`,
	} {
		l.save("tasks/"+name+"/"+file, text)
	}
}

func (l *living) version(name string) string {
	l.t.Helper()
	set, err := loadTasks(l.dir, l.getenv)
	if err != nil {
		l.t.Fatal(err)
	}
	return set.Tasks[name].Version
}

// publish asks toy something; the returned function waits for the result.
func (l *living) publish(name string) func() *job.Result {
	l.t.Helper()
	cl := client.New(l.conn)
	id, err := cl.Publish(l.t.Context(), job.Interactive, name, "", []byte(`{"input":{"text":"hello"},"cache":"bypass"}`))
	if err != nil {
		l.t.Fatal(err)
	}
	return func() *job.Result {
		l.t.Helper()
		ctx, cancel := context.WithTimeout(l.t.Context(), 90*time.Second)
		defer cancel()
		r, err := cl.Wait(ctx, name, id, 1)
		if err != nil {
			l.t.Fatal(err)
		}
		return r
	}
}

func (l *living) isAnswered(r *job.Result, version string) {
	l.t.Helper()
	if r.Status != job.Succeeded || r.TaskVersion != version {
		l.t.Errorf("%s under version %s, not %s: %+v", r.Status, r.TaskVersion, version, r.Error)
	}
}

// metric adds up what the process shows of a name.
func (l *living) metric(name string, labels prometheus.Labels) (sum float64) {
	l.t.Helper()
	families, err := l.process.registry.Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n := 0
			for _, pair := range m.GetLabel() {
				if labels[pair.GetName()] == pair.GetValue() {
					n++
				}
			}
			if f.GetName() == name && n == len(labels) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
