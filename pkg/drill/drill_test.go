package drill_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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
	"spillway/pkg/fate"
	"spillway/pkg/job"
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

// again answers replays in place of a pipeline.
func (s *scene) again(answer func(id string)) {
	s.t.Helper()
	_, err := s.conn.NC.Subscribe(broker.AllReplays, func(m *nats.Msg) { answer(broker.Token(m.Subject, 2)) })
	if err != nil {
		s.t.Fatal(err)
	}
}

// bury keeps a dead letter of a first run.
func (s *scene) bury(a asked) {
	body, err := json.Marshal(job.Letter{V: job.Version, Stage: "inference", Code: fate.Internal, Job: &job.Job{V: job.Version, ID: a.ID, Task: "toy", Run: 1, Input: a.Input}})
	if err == nil {
		err = s.conn.NC.Publish(broker.DeadSubject("inference", "toy", a.ID), body)
	}
	if err != nil {
		s.t.Error(err)
	}
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

func TestTheDrillFindsEachWayInWhichAPromiseIsBroken(t *testing.T) {
	t.Parallel()
	s := setup(t, 60)
	neighbour := ""
	s.pipe(func(a asked) {
		own := string(a.Input)
		switch a.Number {
		case 10: // lost
		case 11, 12:
			s.result(a.ID, a.Number, own, "succeeded", "")
			s.result(a.ID, a.Number, own, "succeeded", "")
		case 13:
			s.result(a.ID, a.Number, neighbour, "succeeded", "")
		case 14:
			s.result(a.ID, a.Number-1, own, "succeeded", "")
		case 15:
			s.result(a.ID, a.Number, own, "succeeded", `,"late":true`)
		case 16:
			time.AfterFunc(1500*time.Millisecond, func() { s.result(a.ID, a.Number, own, "succeeded", "") })
		case 17:
			s.result(a.ID, a.Number, own, "failed", `,"error":{"code":"internal","message":"it broke"}`)
		case 18:
			s.result(a.ID, a.Number, own, "rejected", "")
		default:
			s.result(a.ID, a.Number, own, "succeeded", "")
		}
		neighbour = own
	})
	r, err := s.drill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := drill.Endings{Acknowledged: 60, Live: 57, Failed: 1, Rejected: 1, Lost: 1, Late: 2, Foreign: 2, Repeated: 2}
	if r.All != want || r.OK() || r.OwnBy != "nonce" {
		t.Errorf("got  %+v\nwant %+v\n%v", r.All, want, r.Examples)
	}
	if got := strings.Join(r.Faults(), "; "); got != "1 lost; 2 late; 2 given another's answer; 2 answered twice; 1 without a live answer have no dead letter to replay (keep_degraded)" {
		t.Error(got)
	}
	if len(r.Examples) == 0 || r.Replay.Owed != 1 || r.Replay.NotKept != 1 {
		t.Errorf("%v, %+v", r.Examples, r.Replay)
	}
	if got := s.provider.Counts().Calls; got != 0 {
		t.Errorf("the provider was not reset: it counts %d calls", got)
	}
}

func TestANightOfWhichNothingIsAcknowledgedBreaksThePromise(t *testing.T) {
	t.Parallel()
	s := setup(t, 30)
	full := make(chan struct{}) // closed once the stream of requests takes nothing more
	_, err := s.conn.NC.Subscribe(broker.AllRequests, func(m *nats.Msg) {
		var a asked
		if err := json.Unmarshal(m.Data, &a); err != nil || a.Metadata.Drill >= 0 {
			return
		}
		stream, err := s.conn.JS.Stream(t.Context(), broker.RequestsStream)
		if err != nil {
			t.Error(err)
			return
		}
		config := stream.CachedInfo().Config
		config.MaxMsgs = 1
		if _, err := s.conn.JS.UpdateStream(t.Context(), config); err != nil {
			t.Error(err)
		}
		close(full)
		s.call(string(a.Input))
	})
	if err != nil {
		t.Fatal(err)
	}
	r, faults := s.faults()
	<-full
	if r.All.Acknowledged != 0 || r.NotTaken == "" || faults != "no request was acknowledged; the provider failed no call, so that no outage was rehearsed" {
		t.Errorf("%d acknowledged, %q, %q", r.All.Acknowledged, r.NotTaken, faults)
	}
}

func TestANightOfWhichAllIsRejectedBreaksThePromise(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	s.pipe(func(a asked) {
		s.result(a.ID, a.Number, string(a.Input), "rejected", `,"error":{"code":"input_invalid","message":"x"}`)
	})
	if r, faults := s.faults(); r.All.Rejected != 20 || faults != "no request was answered" {
		t.Errorf("%+v, %q", r.All, faults)
	}
}

func TestOneThatFailsAndSaysWhyAndIsReplayedBreaksNoPromise(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	failed := make(chan asked, 1)
	s.pipe(func(a asked) {
		if a.Number != 5 {
			s.result(a.ID, a.Number, string(a.Input), "succeeded", "")
			return
		}
		s.bury(a)
		s.result(a.ID, a.Number, string(a.Input), "failed", `,"error":{"code":"internal","message":"x"}`)
		failed <- a
	})
	s.again(func(id string) {
		a := <-failed
		s.resultOf(2, id, a.Number, string(a.Input), "succeeded", "")
	})
	if r, faults := s.faults(); r.All.Failed != 1 || r.Replay.Answered != 1 || faults != "" {
		t.Errorf("%+v, %+v, %q", r.All, r.Replay, faults)
	}
}

func TestAReplayBreaksThePromiseAsARequestDoes(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	failed := map[string]asked{}
	ready := make(chan struct{})
	s.pipe(func(a asked) {
		switch {
		case a.Number < 4:
			s.bury(a)
			failed[a.ID] = a
			s.result(a.ID, a.Number, string(a.Input), "failed", `,"error":{"code":"internal","message":"x"}`)
		default:
			s.result(a.ID, a.Number, string(a.Input), "succeeded", "")
		}
		if a.Number == 19 {
			close(ready)
		}
	})
	s.again(func(id string) {
		<-ready
		switch a := failed[id]; a.Number {
		case 0:
			s.resultOf(2, id, a.Number, string(a.Input), "succeeded", "")
		case 1:
			s.resultOf(2, id, a.Number, "another's input", "succeeded", "")
		case 2:
			s.resultOf(2, id, a.Number, string(a.Input), "failed", `,"error":{"code":"internal","message":"again"}`)
		default: // lost
		}
	})
	if r, faults := s.faults(); r.Replay.Answered != 1 || faults != "1 lost; 1 given another's answer; 3 have no live answer after the replay either" {
		t.Errorf("%+v, %q", r.Replay, faults)
	}
}

func TestAnAnswerWithoutANonceIsNotItsOwnWhereOthersHaveOne(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	s.pipe(func(a asked) {
		if a.Number != 7 {
			s.result(a.ID, a.Number, string(a.Input), "succeeded", "")
			return
		}
		body := fmt.Sprintf(`{"id":%q,"status":"succeeded","source":"model","output":{"says":"what"},"metadata":{"drill":7}}`, a.ID)
		if err := s.conn.NC.Publish(broker.WriteSubject("toy", a.ID), []byte(body)); err != nil {
			t.Error(err)
		}
	})
	if r, faults := s.faults(); r.All.Foreign != 1 || faults != "1 given another's answer" {
		t.Errorf("%+v, %q", r.All, faults)
	}
}

func TestANightInWhichTheProviderFailsNoCallRehearsesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t, 2) // none of them while it fails
	s.pipe(func(a asked) { s.result(a.ID, a.Number, string(a.Input), "succeeded", "") })
	if _, faults := s.faults(); faults != "the provider failed no call, so that no outage was rehearsed" {
		t.Error(faults)
	}
}

// A subscriber may miss a result; the stream has it.
func TestAResultThatWasNotHeardIsReadFromTheStream(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	stream, err := s.conn.JS.Stream(t.Context(), broker.ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.RePublish = nil
	if _, err := s.conn.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	s.pipe(func(a asked) { s.result(a.ID, a.Number, string(a.Input), "succeeded", "") })
	r, err := s.drill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (drill.Endings{Acknowledged: 20, Live: 20}); r.All != want || !r.OK() {
		t.Errorf("got %+v, %v", r.All, r.Examples)
	}
}

func TestWithoutRoomForANonceAnswersAreKnownByTheirMetadataAndTheReportSaysSo(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	s.pipe(func(a asked) {
		body := fmt.Sprintf(`{"id":%q,"status":"succeeded","source":"model","output":{"n":1},"metadata":{"drill":%d}}`, a.ID, a.Number)
		if err := s.conn.NC.Publish(broker.WriteSubject("toy", a.ID), []byte(body)); err != nil {
			t.Error(err)
		}
	})
	r, err := s.drill(t.Context())
	if err != nil || r.OwnBy != "metadata" || !r.OK() {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestNothingMisbehavesUnlessTheFirstRequestArrives(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	s.provider.SetFaults(fakellm.Fault{Kind: fakellm.KindOverloaded, Match: "never"})
	s.call("from before")
	_, err := s.drill(t.Context())
	if _, ok := errors.AsType[*drill.UnreachedError](err); !ok {
		t.Errorf("%v", err)
	}
	if s.provider.Counts().Calls != 1 {
		t.Error("the provider was reset, though it is not the pipeline's")
	}
	// The call arrives, but for a model that the given task files do not know.
	s.options.Tasks = load(t, map[string]string{"models.yaml": `providers: {here: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}}
models: {only: {provider: here, id: other-2, context_window: 8000, prices: {input: 1, output: 2}}}
`})
	s.pipe(func(asked) {})
	if _, err := s.drill(t.Context()); err == nil || !strings.Contains(err.Error(), "not for other-2") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNoSimulatedProviderIsNotSteered(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"a real one":       http.NotFound,
		"any JSON":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) },
		"a page of HTML":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `<html>`) },
		"a gateway's list": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"models":["a"]}`) },
	} {
		var asked []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.Path)
			answer(w, r)
		}))
		p := drill.NewProvider(server.URL + "/v1/")
		err := p.Check(t.Context())
		if _, ok := errors.AsType[*drill.NotSimulatedError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
		p.Close()
		server.Close()
		if len(asked) != 1 || asked[0] != "GET /fake/counts" {
			t.Errorf("%s: it was sent %v", name, asked)
		}
	}
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
		fmt.Fprint(w, `{"models":{},"nonces":{}}`)
	}))
	defer far.Close()
	p := drill.NewProvider(far.URL)
	defer p.Close()
	if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("a clock that differs by a minute: %v", err)
	}
}

func TestEachRequestHasAnInputOfItsOwnThatTheTaskTakesAndThePromptShows(t *testing.T) {
	t.Parallel()
	prompt := `{{define "user"}}{{.Input.kind}} {{.Input.note}}{{end}}`
	for name, c := range map[string]struct {
		kind, note, input, want string
	}{
		"the longest text gets a mark":         {`{}`, `{}`, `{"kind":"a","note":"longer"}`, `"note":"longer (drill `},
		"a text that no prompt shows does not": {`{}`, `{}`, `{"kind":"a","hidden":"the longest of all","note":5}`, `"kind":"a (drill `},
		"a short one is replaced":              {`{}`, `{"maxLength":24}`, `{"kind":1,"note":"just no room"}`, `"note":"(drill `},
		"an enum is left":                      {`{"enum":["longer than the note"]}`, `{}`, `{"kind":"longer than the note","note":"n"}`, `"note":"n (drill `},
		"within lists too":                     {`{}`, `{}`, `{"kind":["x"],"note":1}`, `"kind":["x (drill `},
		"nothing to mark":                      {`{}`, `{}`, `{"kind":1,"note":2}`, "no text that may hold a mark"},
		"no JSON":                              {`{}`, `{}`, `{`, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t, 4)
			s.options.Tasks = load(t, map[string]string{
				"tasks/toy/prompt.tmpl":       prompt,
				"tasks/toy/input.schema.json": fmt.Sprintf(`{"type":"object","required":["kind","note"],"properties":{"kind":%s,"note":%s}}`, c.kind, c.note),
			})
			s.options.Inputs = [][]byte{[]byte(c.input)}
			inputs := make(chan string, 1)
			ctx, cancel := context.WithCancel(t.Context())
			sub, err := s.conn.NC.Subscribe(broker.AllRequests, func(m *nats.Msg) {
				select {
				case inputs <- string(m.Data):
				default:
				}
				cancel()
			})
			if err != nil || s.conn.NC.Flush() != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			_, err = s.drill(ctx)
			cancel()
			got := fmt.Sprint(err)
			select {
			case got = <-inputs:
			default:
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
