package drill_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/drill"
	"spillway/pkg/fakellm"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/services"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// speed makes a night of 3 s.
const speed = 360

const taskYAML = "model: only\ndeadline: {default: 1s, reserve: 100ms}\n"

// load reads a task toy with the files changed; "" removes one.
func load(t *testing.T, changed map[string]string) *task.Set {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range map[string]string{
		"models.yaml": `providers: {here: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}}
models: {only: {provider: here, id: only-1, context_window: 8000, breaker: {half_open_after: 100ms}, prices: {input: 1, output: 2}}}
`,
		"tasks/toy/task.yaml":          taskYAML,
		"tasks/toy/prompt.tmpl":        `{{define "user"}}{{json .Input}}{{end}}`,
		"tasks/toy/input.schema.json":  `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`,
		"tasks/toy/output.schema.json": `{"type":"object","properties":{"says":{"type":"string"}},"required":["says"]}`,
	} {
		if other, ok := changed[name]; ok {
			text = other
		}
		if text != "" {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	set, err := task.Load(fsys, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// scene is a server with the pipeline's streams, and a provider; and what may stand in for a pipeline.
type scene struct {
	t        *testing.T
	conn     *broker.Conn
	provider *fakellm.Server
	options  drill.Options
}

func setup(t *testing.T, requests int) *scene {
	t.Helper()
	url := brokertest.Server(t).URL()
	s := &scene{t: t, conn: brokertest.Connect(t, url)}
	brokertest.Ensure(t, s.conn, stage.Topology(services.Pipeline(), broker.DefaultSizing()))
	var err error
	if s.provider, err = fakellm.Start(fakellm.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.provider.Close() })
	s.options = drill.Options{
		Conn: brokertest.Connect(t, url), Provider: drill.NewProvider(s.provider.URL()), Tasks: load(t, nil), Task: "toy",
		Requests: requests, Speed: speed, ReplayRate: 1000,
	}
	t.Cleanup(s.options.Provider.Close)
	return s
}

func (s *scene) drill(ctx context.Context) (*drill.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return drill.Incident(ctx, s.options)
}

// asked is a request as a pipeline sees it.
type asked struct {
	ID       string          `json:"-"`
	Number   int             `json:"-"` // negative: the request that goes first
	Input    json.RawMessage `json:"input"`
	Metadata struct {
		Drill int `json:"drill"`
	} `json:"metadata"`
}

// pipe answers requests in place of a pipeline, as answer has it. The one that goes first is put to the
// provider, and one while it answers 429.
func (s *scene) pipe(answer func(asked)) {
	s.t.Helper()
	_, err := s.conn.NC.Subscribe(broker.AllRequests, func(m *nats.Msg) {
		a := asked{ID: m.Header.Get(broker.MsgIDHeader)}
		if err := json.Unmarshal(m.Data, &a); err != nil {
			s.t.Error(err)
			return
		}
		if a.Number = a.Metadata.Drill; a.Number < 0 {
			s.call(string(a.Input))
			return
		}
		if a.Number == s.options.Requests/3 {
			s.call(string(a.Input))
		}
		answer(a)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// call asks the provider.
func (s *scene) call(text string) {
	body, err := json.Marshal(map[string]any{"model": "only-1", "messages": []any{map[string]string{"role": "user", "content": text}}})
	if err != nil {
		s.t.Error(err)
		return
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.provider.URL()+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Error(err)
		return
	}
	resp.Body.Close()
}

// result writes a result as result-writer does, but for what the test makes of it.
func (s *scene) result(id string, number int, of, status string, more string) {
	s.resultOf(1, id, number, of, status, more)
}

func (s *scene) resultOf(run int, id string, number int, of, status string, more string) {
	body := fmt.Sprintf(`{"id":%q,"status":%q,"source":"model","output":{"says":"[nonce:%s]"},"metadata":{"drill":%d}%s}`, id, status, fakellm.Nonce(of), number, more)
	m := &nats.Msg{Subject: broker.WriteSubject("toy", id), Data: []byte(body), Header: nats.Header{broker.RunHeader: {fmt.Sprint(run)}}}
	if err := s.conn.NC.PublishMsg(m); err != nil {
		s.t.Error(err)
	}
}

// faults runs the drill and returns what it holds against the pipeline.
func (s *scene) faults() (*drill.Report, string) {
	s.t.Helper()
	r, err := s.drill(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if found := r.Faults(); r.OK() != (len(found) == 0) {
		s.t.Errorf("OK is %v with the faults %q", r.OK(), found)
	}
	return r, strings.Join(r.Faults(), "; ")
}
