package services_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// parrot is a provider that answers with the mark of the prompt and the text of the request, after a while. Until it is
// lenient it refuses requests that are marked as unfit.
type parrot struct {
	url      string
	latency  atomic.Int64
	inFlight atomic.Int64
	lenient  atomic.Bool
	// released lets the answers go on that were asked to be slow.
	released chan struct{}
}

// What a request's text asks the provider for.
const (
	markedUnfit = "[unfit]"
	markedSlow  = "[slow]"
)

func newParrot(t *testing.T) *parrot {
	t.Helper()
	p := &parrot{released: make(chan struct{})}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	p.url = s.URL + "/v1"
	return p
}

var markInPrompt = regexp.MustCompile(`\[mark:([a-z]+)\]`)

// ServeHTTP answers one call.
func (p *parrot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var call struct {
		Messages []job.Message `json:"messages"`
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil || len(call.Messages) < 2 {
		http.Error(w, "no call", http.StatusTeapot)
		return
	}
	p.inFlight.Add(1)
	defer p.inFlight.Add(-1)
	text := call.Messages[len(call.Messages)-1].Content
	found := markInPrompt.FindStringSubmatch(call.Messages[0].Content)
	if len(found) < 2 || strings.Contains(text, markedUnfit) && !p.lenient.Load() {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"message":"unfit","type":"invalid_request_error"}}`)
		return
	}
	latency := time.NewTimer(time.Duration(p.latency.Load()))
	defer latency.Stop()
	select {
	case <-latency.C:
	case <-r.Context().Done():
		return
	}
	if strings.Contains(text, markedSlow) {
		select {
		case <-p.released:
		case <-r.Context().Done():
			return
		}
	}
	said, _ := json.Marshal(map[string]string{"mark": found[1], "says": text}) // strings: no error
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // who left needs no answer
		"id": "x", "object": "chat.completion", "model": "small-1",
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]string{"role": "assistant", "content": string(said)}}},
		"usage":   map[string]int{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
	})
}

// markedFiles is a folder whose task parrot has a mark in its prompt, and takes only answers with that mark.
func markedFiles(url, mark string) fstest.MapFS {
	fs := fstest.MapFS{"models.yaml": {Data: []byte(modelsYAML("timeouts: {connect: 5s, first_token: 2m, silence: 2m, call: 2m}",
		model{"small", "one", url, `id: small-1, context_window: 16000, stream: false, prices: {as_of: "2026-11-01", input: 1, output: 2}`}))}}
	addTask(fs, "parrot", strings.Replace(taskYAML, "default: 20s", "default: 3m", 1)+ladderNone)
	fs["tasks/parrot/prompt.tmpl"] = &fstest.MapFile{Data: []byte(`{{define "system"}}Answer in JSON. [mark:` + mark + `]{{end}}{{define "user"}}{{.Input.text}}{{end}}`)}
	fs["tasks/parrot/output.schema.json"] = &fstest.MapFile{Data: []byte(
		`{"type":"object","properties":{"mark":{"const":"` + mark + `"},"says":{"type":"string"}},"required":["mark","says"],"additionalProperties":false}`)}
	return fs
}

// deployment is a pipeline of six processes whose task changes while jobs flow.
type deployment struct {
	*processes
	parrot  *parrot
	witness *witness
	running map[string]*child
	// folders are where the versions lie, by mark.
	folders map[string]string

	mu   sync.Mutex
	sent map[string]string // the text of each request
}

func newDeployment(t *testing.T, marks ...string) *deployment {
	t.Helper()
	url := startServer(t).url()
	p := newParrot(t)
	d := &deployment{parrot: p, running: map[string]*child{}, folders: map[string]string{}, sent: map[string]string{}}
	r := setupWith(t, url, 1, func(string, string) fstest.MapFS { return markedFiles(p.url, marks[0]) })
	d.processes, d.witness = newProcesses(r), watch(t, url)
	for _, mark := range marks {
		d.folders[mark] = filepath.Join(t.TempDir(), "schemas")
		if err := os.CopyFS(d.folders[mark], markedFiles(p.url, mark)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// roll replaces the process of a stage by one with the files of a folder.
func (d *deployment) roll(stage, folder string) {
	d.r.t.Helper()
	if before := d.running[stage]; before != nil {
		before.end(d.r.t, syscall.SIGTERM)
		if code := before.exitCode(); code != 0 {
			d.r.t.Errorf("%s exited with %d after SIGTERM", stage, code)
		}
	}
	d.schemas = folder
	d.running[stage] = d.mustStart(stage)
}

// save puts the task of one folder in the place of another one's, at once, as a mounted folder is changed.
func (d *deployment) save(folder, from string) {
	d.r.t.Helper()
	place, next := filepath.Join(folder, "tasks", "parrot"), filepath.Join(folder, ".next")
	if info, err := os.Lstat(place); err == nil && info.IsDir() {
		if err := os.Rename(place, filepath.Join(folder, ".first")); err != nil {
			d.r.t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(from, "tasks", "parrot"), next); err != nil {
		d.r.t.Fatal(err)
	}
	if err := os.Rename(next, place); err != nil {
		d.r.t.Fatal(err)
	}
}

// spillway runs a command against the deployment's server.
func (d *deployment) spillway(args ...string) string {
	d.r.t.Helper()
	cmd := exec.CommandContext(d.r.t.Context(), d.path, append(args, "--nats", d.r.url)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	said, err := cmd.CombinedOutput()
	if err != nil {
		d.r.t.Fatalf("spillway %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	return string(said)
}

// request publishes a request and returns its id.
func (d *deployment) request(id, text string) string {
	d.r.t.Helper()
	d.mu.Lock()
	d.sent[id] = text
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.r.t.Context()), startTimeout)
	defer cancel()
	if _, err := d.r.client.Publish(ctx, job.Interactive, "parrot", id, bodyOf(id, text)); err != nil {
		d.r.t.Errorf("publish %s: %v", id, err) // not Fatal: the flow is a goroutine of its own
	}
	return id
}

// flow keeps so many jobs unfinished until stop is called, and sends so many at least.
func (d *deployment) flow(unfinished, atLeast int) (stop func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ; {
			select {
			case <-pace.C:
			case <-d.r.t.Context().Done():
				return
			}
			select {
			case <-stopped:
				if n >= atLeast {
					return
				}
			default:
			}
			for n-d.flowed() < unfinished {
				d.request(fmt.Sprintf("flow-%d", n), fmt.Sprintf("question %d", n))
				n++
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(stopped); <-done }) }
	d.r.t.Cleanup(stop)
	return stop
}

// flowed counts the requests of the flow that were answered.
func (d *deployment) flowed() int {
	d.r.heard.mu.Lock()
	defer d.r.heard.mu.Unlock()
	n := 0
	for id := range d.r.heard.results {
		if strings.HasPrefix(id, "flow-") {
			n++
		}
	}
	return n
}

// crowd waits until the provider has so many calls in its hands, and returns when that was.
func (d *deployment) crowd(calls int64) time.Time {
	d.r.t.Helper()
	brokertest.Eventually(d.r.t, startTimeout, fmt.Sprintf("%d calls are under way", calls), func() bool { return d.parrot.inFlight.Load() >= calls })
	return time.Now()
}

// markOf is the mark in a result's output.
func markOf(r *job.Result) string {
	var output struct {
		Mark string `json:"mark"`
	}
	_ = json.Unmarshal(r.Output, &output) // a result without an output has no mark
	return output.Mark
}

// becomes waits until new requests are answered with a mark.
func (d *deployment) becomes(mark string) {
	d.r.t.Helper()
	n := 0
	brokertest.Eventually(d.r.t, startTimeout, "new requests are answered as "+mark, func() bool {
		n++
		id := d.request(fmt.Sprintf("probe-%s-%d", mark, n), fmt.Sprintf("are you %s, %d", mark, n))
		return markOf(d.r.result(id, 1)) == mark
	})
}

func TestEachOfFiveHundredJobsEndsUnderItsOwnVersionAcrossThreeChanges(t *testing.T) {
	const crossing = 50
	d := newDeployment(t, "one", "two", "three")
	faulty := filepath.Join(t.TempDir(), "schemas")
	if err := os.CopyFS(faulty, markedFiles(d.parrot.url, "faulty")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(faulty, "tasks", "parrot", "output.schema.json"), []byte(`{"type": "objekt"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	names := d.r.stageNames()
	if len(names) != 6 {
		t.Fatalf("the pipeline has %d stages: %v", len(names), names)
	}
	for _, name := range names {
		d.roll(name, d.folders["one"])
	}
	dead := []string{"dead-1", "dead-2", "dead-3"}
	for _, id := range dead {
		d.request(id, markedUnfit+" "+id)
		if result := d.r.result(id, 1); result.Status != job.Failed {
			t.Fatalf("%s ended as %s", id, result.Status)
		}
	}
	d.parrot.latency.Store(int64(2 * time.Second))
	stop := d.flow(2*crossing, 500)

	changes := map[string]time.Time{}
	changes["one"] = d.crowd(crossing)
	for _, name := range names { // one after another; the files are live with the first one
		d.roll(name, d.folders["two"])
	}
	d.becomes("two")

	d.save(d.folders["two"], faulty)
	brokertest.Eventually(t, startTimeout, "every process says what is wrong with the faulty save", func() bool {
		for _, name := range names {
			if said := d.log(name).text(); !strings.Contains(said, "output.schema.json") || !strings.Contains(said, "objekt") {
				return false
			}
		}
		return true
	})
	d.becomes("two")
	changes["two"] = d.crowd(crossing)
	d.save(d.folders["two"], d.folders["three"])
	d.becomes("three")

	changes["three"] = d.crowd(crossing)
	d.spillway("task", "rollback", "parrot")
	d.becomes("two")
	stop()
	d.r.emptied(time.Minute)

	versions := d.audit(t, dead)
	for mark, at := range changes {
		if n := d.across(mark, at); n < crossing {
			t.Errorf("%d jobs of %s were under way when it was left, the test wants %d", n, mark, crossing)
		}
	}
	d.parrot.latency.Store(0)
	d.parrot.lenient.Store(true)
	d.replays(t, dead, versions)
}

// audit holds every result against the request and the marker, and returns the version of each mark.
func (d *deployment) audit(t *testing.T, dead []string) map[string]string {
	t.Helper()
	if len(d.sent) < 500 {
		t.Errorf("%d requests were sent", len(d.sent))
	}
	versions, jobs := map[string]string{}, map[string]int{}
	for id, text := range d.sent {
		heard := d.r.heard.of(id)
		d.r.once(d.witness, id, 1)
		if len(heard) != 1 {
			t.Errorf("%s has %d results", id, len(heard))
			continue
		}
		r := &heard[0]
		marker, _, err := d.r.conn.Marker(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		stored := d.r.stored("parrot", id)
		if r.TaskVersion == "" || marker.TaskVersion != r.TaskVersion || stored.Header.Get("Spillway-Task-Version") != r.TaskVersion {
			t.Errorf("%s was admitted under %s and ended under %s, its header says %s", id, marker.TaskVersion, r.TaskVersion, stored.Header.Get("Spillway-Task-Version"))
		}
		if strings.Contains(text, markedUnfit) {
			continue
		}
		mark := markOf(r)
		if r.Status != job.Succeeded || !strings.Contains(string(r.Output), `"`+text+`"`) {
			t.Errorf("%s, %q: %s with %s, %+v", id, text, r.Status, r.Output, r.Error)
		}
		if known := versions[mark]; known != "" && known != r.TaskVersion {
			t.Errorf("%s: mark %s of version %s, and of %s", id, mark, r.TaskVersion, known)
		}
		versions[mark] = r.TaskVersion
		jobs[mark]++
	}
	if len(versions) != 3 || versions["one"] == versions["two"] || versions["two"] == versions["three"] || versions["one"] == versions["three"] {
		t.Errorf("the versions are %v", versions)
	}
	t.Logf("%d jobs: %v", len(d.sent)-len(dead), jobs)
	return versions
}

// across counts the jobs of a version that were admitted before a moment and ended after it.
func (d *deployment) across(mark string, at time.Time) int {
	n := 0
	for id := range d.sent {
		for _, r := range d.r.heard.of(id) {
			if markOf(&r) == mark && r.AcknowledgedAt.Before(at) && r.FinishedAt.After(at) {
				n++
			}
		}
	}
	return n
}

// replays gives the dead jobs of the first version new runs: under the live version, and under their own.
func (d *deployment) replays(t *testing.T, dead []string, versions map[string]string) {
	t.Helper()
	for _, id := range dead {
		letter, stored, err := d.r.conn.Dead(t.Context(), id)
		if err != nil || letter.Job.TaskVersion != versions["one"] || stored.Header.Get("Spillway-Task-Version") != versions["one"] {
			t.Fatalf("the dead letter of %s: %+v, %v", id, letter, err)
		}
	}
	d.r.replay(t, dead[0], "")
	d.r.replay(t, dead[1], `{"task_version":"`+versions["one"]+`"}`)
	for n, mark := range []string{"two", "one"} {
		if result := d.r.result(dead[n], 2); result.TaskVersion != versions[mark] || markOf(result) != mark {
			t.Errorf("the replay of %s ended under %s with %s, want %s of %s", dead[n], result.TaskVersion, result.Output, mark, versions[mark])
		}
	}
	d.r.replay(t, dead[2], `{"task_version":"00000000"}`)
	if p := d.r.refused(t, dead[2], 1); !strings.Contains(p.Message, versions["one"]) || !strings.Contains(p.Message, versions["three"]) {
		t.Errorf("refused with %q, which does not name those that are stored", p.Message)
	}
}
