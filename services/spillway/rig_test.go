package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/fakellm"
	"spillway/pkg/stage"
	"spillway/schemas"
	"spillway/services"
)

// rig is a server, with or without a simulated pipeline, and a connection that shares nothing with the
// commands under test.
type rig struct {
	url    string
	server *embedded.Server
	conn   *broker.Conn
	// provider answers the pipeline's calls.
	provider *fakellm.Server
}

// bareTask has no ladder: what fails there is failed.
const bareTask = `model: small
deadline: {default: 20s, max: 10m, reserve: 1s}
retry: {attempts: 2, first_delay: 10ms, factor: 1.5, max_delay: 50ms, interactive: {attempts: 1, first_delay: 10ms}}
ladder: []
no_ladder: the test wants to see the failure
`

// serve runs a server with the pipeline's streams and no pipeline.
func serve(t *testing.T) *rig {
	t.Helper()
	s := brokertest.Server(t)
	r := &rig{url: s.URL(), server: s}
	r.conn = brokertest.Connect(t, r.url)
	brokertest.Ensure(t, r.conn, stage.Topology(services.Pipeline(), broker.DefaultSizing()))
	return r
}

// pipeline runs the whole pipeline, simulated, until the test ends.
func pipeline(t *testing.T) *rig {
	t.Helper()
	return pipelineOf(t, folder(t))
}

// pipelineOf does with the task files of a folder.
func pipelineOf(t *testing.T, dir string) *rig {
	t.Helper()
	r := serve(t)
	r.runPipeline(t, dir)
	return r
}

func (r *rig) runPipeline(t *testing.T, dir string) {
	t.Helper()
	tasks, err := loadTasks(dir, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	conn := brokertest.Connect(t, r.url)
	p, err := newProcess(conn, tasks, roleFlags{Simulate: true, Grace: time.Second, AdmitInteractive: 1000, AdmitBatch: 1000}, noEnv, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	p.simulator.SetLatency(fakellm.Latency{})
	r.provider = p.simulator
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the pipeline: %v", err)
		}
		p.close()
	})
	brokertest.Eventually(t, 20*time.Second, "ingest answers", func() bool {
		_, err := r.conn.NC.Request(broker.CancelSubject("ready"), nil, time.Second)
		return err == nil
	})
}

func noEnv(string) string { return "" }

// folder is the built-in schemas and the task bare.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, schemas.FS()); err != nil {
		t.Fatal(err)
	}
	prompt := `{{define "user"}}{{.Input.text}}{{end}}`
	output := `{"type":"object","properties":{"says":{"type":"string"}},"required":["says"],"additionalProperties":false}`
	// These tests make many calls fail on purpose, and are not about what the breaker makes of that.
	models := filepath.Join(dir, "models.yaml")
	text, err := os.ReadFile(models)
	if err != nil {
		t.Fatal(err)
	}
	patient := strings.NewReplacer("consecutive_failures: 5 ", "consecutive_failures: 100000 ", "min_calls: 5\n", "min_calls: 100000\n", "half_open_after: 60s", "half_open_after: 1ms").Replace(string(text))
	if patient == string(text) {
		t.Fatal("models.yaml sets no breaker: the tests would open it")
	}
	write(t, models, patient)
	for name, text := range map[string]string{"task.yaml": bareTask, "prompt.tmpl": prompt, "output.schema.json": output} {
		write(t, filepath.Join(dir, "tasks", "bare", name), text)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// said is what a command said.
type said struct {
	t        *testing.T
	args     []string
	code     int
	out, err string
}

// spillway runs the program with a command line of its own.
func spillway(t *testing.T, args ...string) said {
	t.Helper()
	return start(t, args...).wait()
}

// spillway runs a command against the rig's server.
func (r *rig) spillway(t *testing.T, args ...string) said {
	t.Helper()
	return r.start(t, args...).wait()
}

func (r *rig) start(t *testing.T, args ...string) *running {
	t.Helper()
	return start(t, append(args, "--nats="+r.url)...)
}

// running is a command under way.
type running struct {
	t        *testing.T
	args     []string
	cancel   context.CancelFunc
	code     chan int
	out, err *buffer
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c := &running{t: t, args: args, cancel: cancel, code: make(chan int, 1), out: &buffer{}, err: &buffer{}}
	go func() { c.code <- run(ctx, args, noEnv, c.out, c.err) }()
	return c
}

// wait returns what was said once the command has ended.
func (c *running) wait() said {
	c.t.Helper()
	select {
	case code := <-c.code:
		return said{c.t, c.args, code, c.out.String(), c.err.String()}
	case <-time.After(90 * time.Second):
		c.t.Fatalf("spillway %s does not end\nout: %s\nerr: %s", strings.Join(c.args, " "), c.out, c.err)
		return said{}
	}
}

// says waits until the command has written text.
func (c *running) says(text string) {
	c.t.Helper()
	brokertest.Eventually(c.t, 20*time.Second, "the command says "+text, func() bool {
		return strings.Contains(c.out.String()+c.err.String(), text)
	})
}

// buffer is written by a command while a test reads it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// with fails the test unless the command ended with the code and said all the texts.
func (s said) with(code int, texts ...string) said {
	s.t.Helper()
	if s.code != code {
		s.t.Fatalf("spillway %s: exit code %d, not %d\nout: %s\nerr: %s", strings.Join(s.args, " "), s.code, code, s.out, s.err)
	}
	for _, text := range texts {
		if !strings.Contains(s.out+s.err, text) {
			s.t.Errorf("spillway %s does not say %q\nout: %s\nerr: %s", strings.Join(s.args, " "), text, s.out, s.err)
		}
	}
	return s
}

// without fails the test if the command said one of the texts.
func (s said) without(texts ...string) said {
	s.t.Helper()
	for _, text := range texts {
		if strings.Contains(s.out+s.err, text) {
			s.t.Errorf("spillway %s says %q\nout: %s\nerr: %s", strings.Join(s.args, " "), text, s.out, s.err)
		}
	}
	return s
}

// lines decodes standard output: one JSON object a line, without the one that --json adds for an error.
func (s said) lines() []map[string]any {
	s.t.Helper()
	list := []map[string]any{}
	for text := range strings.Lines(s.out) {
		var object map[string]any
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			s.t.Fatalf("spillway %s: a line is no JSON object: %v\n%s", strings.Join(s.args, " "), err, text)
		}
		if _, isError := object["exit_code"]; !isError {
			list = append(list, object)
		}
	}
	return list
}

// one is the only line.
func (s said) one() map[string]any {
	s.t.Helper()
	list := s.lines()
	if len(list) != 1 {
		s.t.Fatalf("spillway %s: %d lines, not 1\n%s", strings.Join(s.args, " "), len(list), s.out)
	}
	return list[0]
}

// typed gives a text to commands that read standard input, until the test ends.
func typed(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stdin")
	write(t, path, text)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = f
	t.Cleanup(func() {
		os.Stdin = before
		f.Close()
	})
}
