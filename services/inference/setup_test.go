package inference

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "sk-test-0123456789abcdef"

// bundle is a handler and what it was made from.
type bundle struct {
	*Handler
	task    *task.Task
	model   *task.Model
	metrics *prometheus.Registry
	log     *logBuffer
}

// logBuffer is written by many handlers at once.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// setup makes a handler for one task with one model at url. change may alter what it is made from.
func setup(t testing.TB, url string, change ...func(*stage.Env)) *bundle {
	t.Helper()
	b := &bundle{metrics: prometheus.NewRegistry(), log: &logBuffer{}}
	b.task = &task.Task{
		Name: "greet", Model: "small", OutputSchema: mustCompile(t, `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`),
		Output: task.Output{Format: task.FormatJSON, ProviderSchema: "auto"},
		Retry: task.Retry{
			Attempts: 5, MaxCalls: 6, FirstDelay: 30 * time.Millisecond, Factor: 2, MaxDelay: time.Second, Jitter: 0.2,
			RetryAfterMax: 5 * time.Second, InteractiveAttempts: 2, InteractiveFirstDelay: 10 * time.Millisecond,
		},
		Deadline: task.Deadline{Reserve: time.Second},
	}
	b.model = &task.Model{
		Name: "small", Provider: "main", ID: "model-1", StructuredOutput: "json_schema", MaxTokensField: "max_completion_tokens",
		Stream: true, StreamUsage: true, Prices: task.Prices{Input: 1, Output: 10},
		Timeouts: task.Timeouts{Connect: 2 * time.Second, FirstToken: 200 * time.Millisecond, Silence: 200 * time.Millisecond, Call: 5 * time.Second},
	}
	env := &stage.Env{
		Tasks: &task.Set{
			Tasks:  map[string]*task.Task{"greet": b.task},
			Models: map[string]*task.Model{"small": b.model},
			Providers: map[string]*task.Provider{
				"main": {Name: "main", Kind: task.KindOpenAI, BaseURL: url, APIKeyEnv: "MAIN_KEY"},
			},
		},
		Log:     zerolog.New(b.log),
		Metrics: b.metrics,
		Getenv:  func(name string) string { return map[string]string{"MAIN_KEY": secret}[name] },
	}
	for _, c := range change {
		c(env)
	}
	var err error
	if b.Handler, err = New(env); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range b.providers {
			p.transport.CloseIdleConnections()
		}
	})
	return b
}

func mustCompile(t testing.TB, doc string) *schema.Schema {
	t.Helper()
	s, err := schema.Compile([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fake starts a provider that misbehaves as it is told.
func fake(t testing.TB, o fakellm.Options) *fakellm.Server {
	t.Helper()
	s, err := fakellm.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve starts a provider that answers with f.
func serve(t testing.TB, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(func() {
		s.CloseClientConnections() // a handler that hangs ends with its connection
		s.Close()
	})
	return s.URL + "/v1"
}

// stream answers with the data lines of a stream, flushed one by one.
func stream(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range events {
			if _, err := w.Write([]byte("data: " + e + "\n\n")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
}

func delta(content string) string {
	return `{"model":"model-1-dated","choices":[{"index":0,"delta":{"content":"` + content + `"}}]}`
}

const (
	stop = `{"model":"model-1-dated","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	done = "[DONE]"
)

func newJob(lane string) *job.Job {
	return &job.Job{
		V: job.Version, ID: "job-1", Task: "greet", Lane: lane, Run: 1, Model: "small", PromptTokens: 12,
		Deadline: time.Now().Add(time.Minute),
		Prompt:   job.NewPrompt(job.Message{Role: "system", Content: "Be kind."}, job.Message{Role: "user", Content: "Greet the world."}),
		Arrival:  job.Arrival{Deliveries: 1},
	}
}

// toTheEnd handles j as often as the handler wants it retried, without the waits, and returns the last
// error after the waits.
func (b *bundle) toTheEnd(t testing.TB, j *job.Job) (waits []time.Duration, err error) {
	t.Helper()
	for range 20 {
		err = b.Handle(context.Background(), j)
		f, ok := errors.AsType[*fate.Error](err)
		if !ok || f.Fate != fate.Retry {
			return waits, err
		}
		waits = append(waits, f.After)
	}
	t.Fatal("the handler retries without end")
	return waits, err
}

// calls returns the call events of a history.
func calls(j *job.Job) []job.Event {
	var events []job.Event
	for _, e := range j.History {
		if e.Kind == job.KindCall {
			events = append(events, e)
		}
	}
	return events
}

// wantFate fails unless err carries that fate and code.
func wantFate(t testing.TB, err error, want fate.Fate, code fate.Code) *fate.Error {
	t.Helper()
	f, ok := errors.AsType[*fate.Error](err)
	if !ok {
		t.Fatalf("error %v carries no fate, want %s %s", err, want, code)
	}
	if f.Fate != want || f.Code != code {
		t.Fatalf("got %s %q (%s), want %s %q", f.Fate, f.Code, f.Message, want, code)
	}
	return f
}
