package services_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
	"spillway/services/ingest"
	httpdoor "spillway/services/ingest/door"
	"spillway/services/ingest/door/doortest"
)

// front is an HTTP door before the rig's pipeline, and whoever knocks at it.
type front struct {
	t      *testing.T
	r      *rig
	door   *httpdoor.Door // nil: of another process
	base   string
	client *http.Client
	// secret is the API key that is sent; "": none.
	secret string
}

// front opens a door that asks for no key.
func (r *rig) front() *front {
	r.t.Helper()
	return r.frontWith(nil)
}

// guarded opens a door that asks for keys.
func (r *rig) guarded() *front {
	r.t.Helper()
	return r.frontWith(r.ring())
}

func (r *rig) ring() *apikey.Ring {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ring, err := apikey.Follow(ctx, r.conn, zerolog.Nop())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(ring.Close)
	return ring
}

func (r *rig) frontWith(ring *apikey.Ring) *front {
	r.t.Helper()
	d := r.doorWith(ring)
	server := httptest.NewServer(doortest.Checked(r.t, d.Handler()))
	r.t.Cleanup(func() {
		server.Close()
		d.Close()
	})
	return &front{t: r.t, r: r, door: d, base: server.URL, client: server.Client()}
}

// doorWith makes a door that pages of some origins may call. It is the caller's to close.
func (r *rig) doorWith(ring *apikey.Ring, origins ...string) *httpdoor.Door {
	r.t.Helper()
	conn := brokertest.Connect(r.t, r.url)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := conn.WatchCancels(ctx); err != nil {
		r.t.Fatal(err)
	}
	d, err := httpdoor.New(ctx, httpdoor.Options{
		Conn: conn, Desk: ingest.NewDesk(conn, task.NewBook(r.tasks), zerolog.Nop()), Tasks: task.NewBook(r.tasks), Stages: r.stageNames(),
		Keys: ring, Origins: origins, Log: zerolog.Nop(),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// with knocks with an API key.
func (f *front) with(secret string) *front {
	other := *f
	other.secret = secret
	return &other
}

// key makes an API key, and waits until the door knows it.
func (f *front) key(s apikey.Spec) (secret, id string) {
	f.t.Helper()
	if s.Name == "" {
		s.Name = "test"
	}
	secret, k, err := apikey.Create(f.t.Context(), f.r.conn, s)
	if err != nil {
		f.t.Fatal(err)
	}
	f.eventually("the door knows the key", func() bool { return f.with(secret).get("/v1/jobs/nobody").status != http.StatusUnauthorized })
	return secret, k.ID
}

func (f *front) eventually(what string, holds func() bool) {
	f.t.Helper()
	brokertest.Eventually(f.t, 20*time.Second, what, holds)
}

// reply is what the door said.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// said is what all answers of the door may hold.
type said struct {
	ID     string    `json:"id"`
	Status string    `json:"-"`
	Raw    any       `json:"status"`
	Stage  string    `json:"stage"`
	Since  time.Time `json:"since"`
	Why    *struct {
		Code     string    `json:"code"`
		Message  string    `json:"message"`
		Cause    string    `json:"cause"`
		Model    string    `json:"model"`
		Until    time.Time `json:"until"`
		Messages *int      `json:"messages"`
		OldestMS *int      `json:"oldest_ms"`
		Pulls    *int      `json:"pulls"`
	} `json:"why"`
	PollAfterMS      int             `json:"poll_after_ms"`
	PollURL          string          `json:"poll_url"`
	EventsURL        string          `json:"events_url"`
	SessionEventsURL string          `json:"session_events_url"`
	Type             string          `json:"type"`
	Title            string          `json:"title"`
	Code             string          `json:"code"`
	Pointer          *string         `json:"pointer"`
	Header           string          `json:"header"`
	Parameter        string          `json:"parameter"`
	Reasons          []fate.Reason   `json:"reasons"`
	DeadLetter       string          `json:"dead_letter"`
	Output           json.RawMessage `json:"output"`
}

func (p reply) said(t *testing.T) said {
	t.Helper()
	var s said
	if err := json.Unmarshal(p.body, &s); err != nil {
		t.Fatalf("%d with what is no JSON: %v\n%s", p.status, err, p.body)
	}
	s.Status, _ = s.Raw.(string)
	return s
}

// result reads a reply that should be a stored result.
func (p reply) result(t *testing.T) *job.Result {
	t.Helper()
	r := &job.Result{}
	if err := json.Unmarshal(p.body, r); err != nil || p.status != http.StatusOK || r.V != job.Version {
		t.Fatalf("%d, no result: %v\n%s", p.status, err, p.body)
	}
	return r
}

func (f *front) do(method, path string, body []byte, headers ...string) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, f.base+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	if f.secret != "" {
		q.Header.Set("Authorization", "Bearer "+f.secret)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			q.Header.Del(headers[i])
			continue
		}
		q.Header.Add(headers[i], headers[i+1])
	}
	resp, err := f.client.Do(q)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, data}, err
}

func (f *front) must(method, path string, body []byte, headers ...string) reply {
	f.t.Helper()
	p, err := f.do(method, path, body, headers...)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	return p
}

func (f *front) get(path string, headers ...string) reply {
	f.t.Helper()
	return f.must(http.MethodGet, path, nil, headers...)
}

// post submits a body for a task.
func (f *front) post(name, body string, headers ...string) reply {
	f.t.Helper()
	return f.must(http.MethodPost, "/v1/tasks/"+name+"/jobs", []byte(body), headers...)
}

// accepted submits a text and returns the id of the 202.
func (f *front) accepted(name, text, rest string) string {
	f.t.Helper()
	p := f.post(name, fmt.Sprintf(`{"input":{"text":%q}%s}`, text, rest))
	s := p.said(f.t)
	if p.status != http.StatusAccepted || s.ID == "" || s.Status != "acknowledged" {
		f.t.Fatalf("%d %s", p.status, p.body)
	}
	return s.ID
}

func (f *front) cancel(id string, headers ...string) reply {
	f.t.Helper()
	return f.must(http.MethodPost, "/v1/jobs/"+id+"/cancel", nil, headers...)
}

// is fails the test unless the door refused with the code.
func (p reply) is(t *testing.T, what string, status int, code fate.Code) said {
	t.Helper()
	s := p.said(t)
	if p.status != status || s.Code != string(code) || s.Type != "urn:spillway:error:"+string(code) || p.header.Get("Content-Type") != "application/problem+json" || s.Raw != float64(status) {
		t.Errorf("%s: %d %s, want %d %s\n%s", what, p.status, p.header.Get("Content-Type"), status, code, p.body)
	}
	return s
}

// follower reads server-sent events whose data is one line.
type follower struct {
	t     *testing.T
	lines *bufio.Reader
}

func (f *front) follow(path string) *follower {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	f.t.Cleanup(cancel)
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	answer, err := f.client.Do(q)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { answer.Body.Close() })
	return &follower{f.t, bufio.NewReader(answer.Body)}
}

// next returns the data of the next event of a name; others are passed over.
func (f *follower) next(event string) string {
	f.t.Helper()
	for isIt := false; ; {
		line, err := f.lines.ReadString('\n')
		if err != nil {
			f.t.Fatalf("no %s comes: %v", event, err)
		}
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			isIt = name == event
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && isIt {
			return data
		}
	}
}
