package main

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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/bundle"
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
	l := &living{rig: serve(t), t: t, dir: t.TempDir(), here: startGated(t), there: startGated(t), env: map[string]string{}}
	l.save("models.yaml", l.models("here", "small", 0))
	l.task("toy", "one")
	l.task("other", "one")
	l.start(l.rig, roleFlags{ownServer: true})
	return l
}

func (l *living) start(r *rig, f roleFlags) {
	l.t.Helper()
	tasks, err := loadTasks(l.dir, l.getenv)
	if err != nil {
		l.t.Fatal(err)
	}
	f.Schemas, f.Grace, f.AdmitInteractive, f.AdmitBatch, f.tell = l.dir, 20*time.Second, 1000, 1000, l.told
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

func TestASaveIsLiveForNewRequestsAndJobsInFlightEndUnderTheirs(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	l.here.shut()
	early := l.publish("toy")
	brokertest.Eventually(t, 20*time.Second, "the call is under way", func() bool { return l.here.holds(1) })
	l.task("toy", "two")
	if e := l.awaits(filesLive, "toy"); e.Version != l.version("toy") || e.How != bundle.HowSave || e.Record.Versions[1].Version != one {
		t.Errorf("%+v", e)
	}
	late := l.publish("toy")
	brokertest.Eventually(t, 20*time.Second, "both calls are under way", func() bool { return l.here.holds(2) })
	l.here.open()
	l.isAnswered(early(), one)
	l.isAnswered(late(), l.version("toy"))
	var systems []string
	for _, r := range l.here.Requests("small-1") {
		var body struct{ Messages []job.Message }
		if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
			t.Fatal(err)
		}
		systems = append(systems, body.Messages[0].Content)
	}
	slices.Sort(systems) // they end as they like
	if got := strings.Join(systems, ","); got != "one,two" {
		t.Errorf("the model was told %s", got)
	}
}

func TestAFaultySaveChangesNothingAndEveryFaultIsToldOnce(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	l.save("tasks/toy/task.yaml", "model: smal\nnonsense: 1\n")
	e := l.awaits(filesFaulty, "")
	text := strings.Join(e.Faults, "\n")
	for _, want := range []string{"tasks/toy/task.yaml:1:", "did you mean small?", "tasks/toy/task.yaml:2:", `unknown key "nonsense"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not told: %s", want, text)
		}
	}
	if n := l.metric("spillway_task_files_faults", nil); n != float64(len(e.Faults)) || n == 0 {
		t.Errorf("the metric says %v", n)
	}
	l.isAnswered(l.publish("toy")(), one)
	l.task("toy", "one")
	l.awaits(filesMended, "")
	if n := l.metric("spillway_task_files_faults", nil); n != 0 {
		t.Errorf("the metric says %v", n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) != 0 {
		t.Errorf("told besides: %+v", l.events)
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

func TestATaskWhoseFolderIsRemovedIsTakenOut(t *testing.T) {
	t.Parallel()
	l := live(t)
	l.here.shut()
	early := l.publish("other")
	version := l.version("other")
	brokertest.Eventually(t, 20*time.Second, "the call is under way", func() bool { return l.here.holds(1) })
	if err := os.RemoveAll(filepath.Join(l.dir, "tasks", "other")); err != nil {
		t.Fatal(err)
	}
	l.awaits(filesOut, "other")
	brokertest.Eventually(t, 20*time.Second, "the task is not live", func() bool { return l.process.env.Versions.Live().Tasks["other"] == nil })
	if r := l.publish("other")(); r.Status != job.Rejected || r.Error.Code != "unknown_task" {
		t.Errorf("%s, %+v", r.Status, r.Error)
	}
	l.here.open()
	l.isAnswered(early(), version)
	l.task("other", "one")
	l.awaits(filesLive, "other")
	l.isAnswered(l.publish("other")(), version)
}

// A provider is no part of a version: where calls go is this process's own.
func TestChangedModelsAreTakenWhileCallsAreUnderWay(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	inference := prometheus.Labels{"stage": "inference"}
	l.here.shut()
	early := l.publish("toy")
	brokertest.Eventually(t, 20*time.Second, "the call is under way", func() bool {
		return l.here.holds(1) && l.metric("spillway_in_flight", inference) == 1
	})
	l.taskOn("toy", "one", "tiny")
	l.taskOn("other", "one", "tiny")
	l.save("models.yaml", l.models("there", "tiny", 0))
	l.awaits(filesLive, "toy")
	brokertest.Eventually(t, 20*time.Second, "the gauges are those of who took over", func() bool { return l.metric("spillway_in_flight", inference) == 0 })
	if n := l.process.inHand(); n != 1 {
		t.Errorf("%d jobs in hand", n)
	}
	l.there.shut()
	late := l.publish("toy")
	brokertest.Eventually(t, 20*time.Second, "the call is at the other provider", func() bool {
		return l.there.holds(1) && l.metric("spillway_in_flight", inference) == 1
	})
	l.there.open()
	r := late()
	l.isAnswered(r, l.version("toy"))
	if r.Model != "tiny" || r.AnsweredBy != "tiny-1" {
		t.Errorf("answered by %s, %s", r.Model, r.AnsweredBy)
	}
	l.here.open()
	l.isAnswered(early(), one)
	if n := l.metric("spillway_settled_total", prometheus.Labels{"stage": "inference", "fate": "on"}); n != 2 {
		t.Errorf("%v jobs are counted, not both", n)
	}
	brokertest.Eventually(t, 30*time.Second, "the one before has left", func() bool { return len(l.process.replacedNow()) == 0 })
}

func (p *process) replacedNow() []*working {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replaced
}

func TestManySavesOfModelsKeepFewStagesAtWork(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	l.here.shut()
	var early []func() *job.Result
	most := 0
	for i := range 5 {
		early = append(early, l.publish("toy"))
		l.save("models.yaml", l.models("here", "small", 10+i))
		l.awaits(filesLive, "toy")
		most = max(most, len(l.process.replacedNow()))
	}
	if most > 2 {
		t.Errorf("%d stages finished what they held at once", most)
	}
	brokertest.Eventually(t, 20*time.Second, "all calls are under way", func() bool { return l.here.holds(len(early)) })
	l.here.open()
	for i, wait := range early {
		if r := wait(); r.Status != job.Succeeded || i == 0 && r.TaskVersion != one {
			t.Errorf("job %d: %s, %+v", i, r.Status, r.Error)
		}
	}
	brokertest.Eventually(t, 30*time.Second, "the last save counts", func() bool {
		at := l.process.working()
		for _, w := range at {
			if w.def.MadeOf != nil && !strings.Contains(w.madeOf, `"Concurrency":14`) {
				return false
			}
		}
		return len(l.process.replacedNow()) == 0
	})
	l.isAnswered(l.publish("toy")(), l.version("toy"))
}

func TestASaveThatNeedsAKeyWhichIsMissingIsRefused(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	l.save("models.yaml", strings.Replace(l.models("there", "small", 0), "api_key: none", "api_key_env: THEIR_KEY", 1))
	e := l.awaits(filesRefused, "")
	if text := strings.Join(e.Faults, "\n"); !strings.Contains(text, "THEIR_KEY") || !strings.Contains(text, "provider there") {
		t.Errorf("%q", text)
	}
	l.isAnswered(l.publish("toy")(), one)
	if calls := l.there.Counts().Calls; calls != 0 {
		t.Errorf("%d calls at the other provider", calls)
	}
}

func TestAnotherProcessFollowsASaveOfThisOne(t *testing.T) {
	t.Parallel()
	l := live(t)
	other := &living{rig: l.rig, t: t, dir: t.TempDir(), here: l.here, there: l.there, env: map[string]string{}}
	other.save("models.yaml", other.models("here", "small", 0))
	other.task("toy", "zero")
	other.task("other", "one")
	zero := other.version("toy")
	other.start(l.rig, roleFlags{}) // with files that were never live: they are now
	l.task("toy", "two")
	two := l.version("toy")
	l.awaits(filesLive, "toy")
	brokertest.Eventually(t, 20*time.Second, "the other one has it", func() bool { return other.process.env.Versions.Live().Tasks["toy"].Version == two })
	again := &living{rig: l.rig, t: t, dir: other.dir, here: l.here, there: l.there, env: map[string]string{}}
	again.start(l.rig, roleFlags{}) // an old replica that starts again
	if e := again.awaits(filesLeft, "toy"); e.Version != zero || e.Record.Live != two {
		t.Errorf("%+v", e)
	}
	for range 6 {
		l.isAnswered(l.publish("toy")(), two)
	}
	// What others may have still is not taken out by a folder that is gone here.
	if err := os.RemoveAll(filepath.Join(other.dir, "tasks", "other")); err != nil {
		t.Fatal(err)
	}
	other.awaits(filesGone, "other")
	if other.process.env.Versions.Live().Tasks["other"] == nil {
		t.Error("the task is not live any more")
	}
}
