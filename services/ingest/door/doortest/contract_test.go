package doortest_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"spillway/services/ingest/door/doortest"
)

const (
	state = `{"id":"a","task":"toy","run":1,"status":"queued","since":"2026-01-02T03:04:05Z","acknowledged_at":"2026-01-02T03:04:05Z",` +
		`"deadline":"2026-01-02T03:05:05Z","poll_after_ms":500,"poll_url":"http://x/v1/jobs/a","cancel_url":"http://x/v1/jobs/a/cancel",` +
		`"events_url":"http://x/v1/jobs/a/events","ws_url":"ws://x/v1/jobs/a/ws","why":{"code":"queue","message":"2 wait","messages":2}}`
	problem  = `{"type":"urn:spillway:error:not_found","title":"t","status":404,"detail":"d","code":"not_found","id":"a"}`
	conflict = `{"type":"urn:spillway:error:id_conflict","title":"t","status":409,"detail":"d","code":"id_conflict","pointer":"/id"}`
	stray    = `{"type":"urn:spillway:error:no_such_route","title":"t","status":404,"detail":"d","code":"no_such_route"}`
	ended    = `{"id":"a","task":"toy","run":1,"status":"succeeded"}`
)

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// exchange is a good one, which each row spoils.
func exchanges() map[string]doortest.Exchange {
	const aJSON, aProblem = "application/json", "application/problem+json"
	post := httptest.NewRequest(http.MethodPost, "/v1/tasks/toy/jobs", nil)
	post.Header.Set("Content-Type", aJSON)
	return map[string]doortest.Exchange{
		"state": {
			Request: httptest.NewRequest(http.MethodGet, "/v1/jobs/a?wait=1", nil), Status: 202,
			Header: header("Content-Type", aJSON, "Location", "http://x/v1/jobs/a", "Retry-After", "1"), Received: []byte(state),
		},
		"post": {
			Request: post, Sent: []byte(`{"input":{"text":"x"}}`), Status: 202,
			Header: header("Content-Type", aJSON, "Location", "http://x/v1/jobs/a", "Retry-After", "1"), Received: []byte(state),
		},
		"problem": {
			Request: httptest.NewRequest(http.MethodGet, "/v1/jobs/a", nil), Status: 404,
			Header: header("Content-Type", aProblem), Received: []byte(problem),
		},
		"conflict": {
			Request: post, Sent: []byte(`no JSON`), Status: 409,
			Header: header("Content-Type", aProblem, "X-Should-Retry", "false"), Received: []byte(conflict),
		},
		"stray": {
			Request: httptest.NewRequest(http.MethodGet, "/v1/nothing", nil), Status: 404,
			Header: header("Content-Type", aProblem), Received: []byte(stray),
		},
		"events": {
			Request: httptest.NewRequest(http.MethodGet, "/v1/jobs/a/events", nil), Status: 200,
			Header:   header("Content-Type", "text/event-stream", "X-Accel-Buffering", "no"),
			Received: []byte("retry: 500\nevent: state\ndata: " + ended + "\n\n:\nevent: reconnect\ndata: {\"after_ms\":7}\n\nevent: res"),
		},
		"socket": {
			Request: httptest.NewRequest(http.MethodGet, "/v1/sessions/a%2Fb/ws", nil), Status: 101,
			Header:   header("Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
			Received: frame(`{"event":"state","data":{"session":"a/b","jobs":[` + ended + `]}}`),
		},
	}
}

// frame is a text message of a server, as RFC 6455 has it.
func frame(text string) []byte {
	return append([]byte{0x81, 126, byte(len(text) >> 8), byte(len(text))}, text...)
}

func check(t *testing.T, e doortest.Exchange) error {
	t.Helper()
	c, err := doortest.Read()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(&e); err != nil {
		return err
	}
	return c.CheckTold(&e, nil)
}

func TestWhatIsDescribedPasses(t *testing.T) {
	t.Parallel()
	for name, e := range exchanges() {
		if err := check(t, e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNotDescribedIsFound(t *testing.T) {
	t.Parallel()
	body := func(old, other string) func(*doortest.Exchange) {
		return func(e *doortest.Exchange) {
			e.Received = []byte(strings.Replace(string(e.Received), old, other, 1))
		}
	}
	head := func(name, value string) func(*doortest.Exchange) {
		return func(e *doortest.Exchange) {
			if e.Header.Set(name, value); value == "" {
				e.Header.Del(name)
			}
		}
	}
	status := func(n int) func(*doortest.Exchange) { return func(e *doortest.Exchange) { e.Status = n } }
	sent := func(text string) func(*doortest.Exchange) {
		return func(e *doortest.Exchange) { e.Sent = []byte(text) }
	}
	for name, row := range map[string]struct {
		of    string
		spoil func(*doortest.Exchange)
	}{
		"another field":                     {"state", body(`"task"`, `"more":1,"task"`)},
		"another field of a part":           {"state", body(`"message"`, `"more":1,"message"`)},
		"a field is missing":                {"state", body(`"run":1,`, ``)},
		"a word of another list":            {"state", body(`"queued"`, `"succeeded"`)},
		"a reason of another list":          {"state", body(`"code":"queue"`, `"code":"bored"`)},
		"a time that is none":               {"state", body(`2026-01-02T03:04:05Z`, `yesterday`)},
		"a number as a text":                {"state", body(`"run":1`, `"run":"1"`)},
		"no Location":                       {"state", head("Location", "")},
		"no Retry-After":                    {"state", head("Retry-After", "")},
		"a Retry-After that is no number":   {"state", head("Retry-After", "soon")},
		"a Retry-After of none":             {"state", head("Retry-After", "0")},
		"another header":                    {"state", head("Spillway-Tenant", "acme")},
		"a header of another response":      {"state", head("X-Should-Retry", "false")},
		"another content type":              {"state", head("Content-Type", "text/html")},
		"a status that is not described":    {"state", status(201)},
		"what is refused was good":          {"post", sent(`{"input":1,"inputs":1}`)},
		"what was taken has no input":       {"post", sent(`{}`)},
		"what was taken has nothing":        {"post", sent(``)},
		"a code of another status":          {"problem", body(`"code":"not_found"`, `"code":"gone"`)},
		"a code of no list":                 {"problem", body(`"code":"not_found"`, `"code":"lost"`)},
		"a status in the body of its own":   {"problem", body(`404`, `410`)},
		"another field of a problem":        {"problem", body(`"id"`, `"tenant"`)},
		"a problem that is called JSON":     {"problem", head("Content-Type", "application/json")},
		"a conflict that may be repeated":   {"conflict", head("X-Should-Retry", "")},
		"a conflict that should be":         {"conflict", head("X-Should-Retry", "true")},
		"a code for no route":               {"stray", body(`"code":"no_such_route"`, `"code":"not_found"`)},
		"no route, as a page":               {"stray", head("Content-Type", "text/html")},
		"no route, moved":                   {"stray", status(301)},
		"another field of a stray":          {"stray", body(`"detail"`, `"more":1,"detail"`)},
		"events of another kind":            {"events", head("Content-Type", "text/plain")},
		"an event without a name":           {"events", body("event: reconnect", "event: good-bye")},
		"an event that is not first":        {"events", body("event: state", "event: reconnect")},
		"another field of an event":         {"events", body(`"after_ms":7`, `"after_ms":7,"more":1`)},
		"another field of what has ended":   {"events", body(`"task"`, `"output":1,"task"`)},
		"an event that is cut":              {"events", body(ended, `{"id"`)},
		"a line of no event":                {"events", body("retry: 500", "hello")},
		"a message of another kind":         {"socket", body(`"state"`, `"stats"`)},
		"a message without what it is of":   {"socket", body(`"session"`, `"sessios"`)},
		"another field of a job of session": {"socket", body(`"task"`, `"tasks"`)},
		"a handshake without an answer":     {"socket", head("Sec-WebSocket-Accept", "")},
	} {
		e := exchanges()[row.of]
		e.Header = maps.Clone(e.Header)
		row.spoil(&e)
		if check(t, e) == nil {
			t.Errorf("%s: nobody notices", name)
		}
	}
}

// failing is a test that fails.
type failing struct {
	testing.TB
	faults int
}

func (f *failing) Errorf(string, ...any) { f.faults++ }

func TestATestFailsThatMadeAnAnswerThatIsNotDescribed(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]int{state: 0, strings.Replace(state, `"run":1,`, "", 1): 1} {
		f := &failing{TB: t}
		h := doortest.Checked(f, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			maps.Copy(w.Header(), exchanges()["state"].Header)
			w.WriteHeader(http.StatusAccepted)
			if _, err := w.Write([]byte(body)); err != nil {
				t.Error(err)
			}
		}))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/jobs/a", nil))
		if f.faults != want || !json.Valid(w.Body.Bytes()) || w.Code != http.StatusAccepted {
			t.Errorf("%d faults of %d: %s", f.faults, w.Code, body)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	c, err := doortest.Read()
	if err != nil {
		b.Fatal(err)
	}
	e := exchanges()["state"]
	for b.Loop() {
		if err := c.Check(&e); err != nil {
			b.Fatal(err)
		}
	}
}
