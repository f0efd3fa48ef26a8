package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/drill"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

const (
	nightRequests = 847
	// nightSpeed makes a night of 27 s, whose timeouts a busy machine still keeps.
	nightSpeed = 40
	// afterOpening is how long a call that was let through may take to the wire, and a breaker to be heard of.
	afterOpening = 200 * time.Millisecond
)

// All that is asserted comes from the test's own observers: one between the pipeline and the provider, one of
// what is published, one that reads the stream of results. Only that the report agrees is asked of the report.
func TestTheNightOfTheIncidentLosesNothing(t *testing.T) {
	t.Parallel()
	server := brokertest.Server(t)
	conn := brokertest.Connect(t, server.URL())
	provider, err := fakellm.Start(fakellm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	tap := watchProvider(t, provider.Root())
	heard := hearRequests(t, conn)
	tasks, err := loadTasks("", noEnv)
	if err != nil {
		t.Fatal(err)
	}
	tasks = tasks.SimulatedAt(tap.url + "/v1").Hurried(nightSpeed)
	o := drill.Options{
		Conn: brokertest.Connect(t, server.URL()), Provider: drill.NewProvider(tap.url), Tasks: tasks, Task: "analyze",
		Requests: nightRequests, Speed: nightSpeed, ReplayRate: 200, Seed: 1,
	}
	t.Cleanup(o.Provider.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := rehearse(ctx, o, server.URL(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	checkNight(t, r)
	heard.checkAnswers(t, conn)
	small, large := tasks.Models["small"], tasks.Models["large"]
	tap.checkCalls(t, small, tap.moment(1), tap.moment(3))
	tap.checkCalls(t, large, tap.moment(2), tap.moment(3))
	heard.checkRecovery(t, tap.moment(3), small)
}

// checkNight holds the report against what must be.
func checkNight(t *testing.T, r *drill.Report) {
	t.Helper()
	e := r.All
	if !r.OK() || e.Acknowledged != nightRequests || e.Failed+e.Rejected+e.Cancelled != 0 || r.OwnBy != "nonce" {
		t.Errorf("%+v, own by %s, %v", e, r.OwnBy, r.Examples)
	}
	if e.Cache == 0 || e.Model == 0 || e.Canned == 0 || e.Live+e.Degraded() != nightRequests {
		t.Errorf("the rungs are %+v", e)
	}
	if p := r.Replay; p.Owed != e.Degraded() || p.Ordered != p.Owed || p.Answered != p.Owed || p.NotKept != 0 || r.Answered() != nightRequests {
		t.Errorf("the replay is %+v", p)
	}
	t.Logf("%+v, live again after %s, %d calls", e, r.LiveAgain.Here(), r.Calls)
}

// call is one that the tap saw.
type call struct {
	model      string
	began, end time.Time
}

// tap stands between the pipeline and the provider and keeps its own books.
type tap struct {
	url string

	mu      sync.Mutex
	calls   []*call
	moments []time.Time // when the latency was set: the acts begin with it
}

func watchProvider(t *testing.T, root string) *tap {
	t.Helper()
	target, err := url.Parse(root)
	if err != nil {
		t.Fatal(err)
	}
	k := &tap{}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	forward := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: transport, FlushInterval: -1,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // the caller left
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer k.note(r)()
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
	})
	k.url = s.URL
	return k
}

// note books a request, and its end.
func (k *tap) note(r *http.Request) (ended func()) {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case r.URL.Path == "/fake/latency":
		k.moments = append(k.moments, now)
	case strings.HasSuffix(r.URL.Path, "/chat/completions"):
		body, _ := io.ReadAll(r.Body) // a caller that left is none
		r.Body = io.NopCloser(bytes.NewReader(body))
		var asked struct{ Model string }
		if json.Unmarshal(body, &asked) != nil {
			break
		}
		c := &call{model: asked.Model, began: now}
		k.calls = append(k.calls, c)
		return func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			c.end = time.Now()
		}
	}
	return func() {}
}

// moment is when the n-th act began.
func (k *tap) moment(n int) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.moments[n]
}

// checkCalls holds what a model was asked while it failed against the promise of its breaker: failures until so
// many came in a row, calls that were under way then, and after that one call a half-open period.
func (k *tap) checkCalls(t *testing.T, m *task.Model, from, to time.Time) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	failing, opened := k.opening(m, from, to)
	if opened.IsZero() {
		t.Fatalf("%s never failed %d times in a row, in %d calls", m.Name, m.Breaker.ConsecutiveFailures, len(failing))
	}
	failed, underWay, more := 0, 0, 0
	last := opened
	var probes []*call
	for _, c := range failing {
		switch {
		case !c.end.After(opened):
			failed++
		case c.began.Before(opened):
			underWay++
		case c.began.Before(opened.Add(afterOpening)):
			more++
		default:
			if gap := c.began.Sub(last); gap < m.Breaker.HalfOpenAfter-afterOpening {
				t.Errorf("%s: a probe came after %s, not %s", m.Name, gap, m.Breaker.HalfOpenAfter)
			}
			last = c.began
			probes = append(probes, c)
		}
	}
	// Calls may be let through in the moment in which the breaker opens: at most as many as come in it.
	if most := 1 + int(afterOpening*nightRequests*nightSpeed/(18*time.Minute)); more > most {
		t.Errorf("%s: %d calls came after it had failed often enough", m.Name, more)
	}
	periods := float64(to.Sub(opened)) / float64(m.Breaker.HalfOpenAfter)
	if n := float64(len(probes)); n < 1 || n > periods+1 {
		t.Errorf("%s: %g probes in %.1f half-open periods", m.Name, n, periods)
	}
	t.Logf("%s: %d calls failed until it opened, %d were under way, %d came in that moment, %d probes in %.1f periods", m.Name, failed, underWay, more, len(probes), periods)
}

// opening returns the calls for a model while it failed, and when so many of them had failed in a row that its
// breaker must open: calls from before may still succeed in between.
func (k *tap) opening(m *task.Model, from, to time.Time) (failing []*call, opened time.Time) {
	var ended []*call
	for _, c := range k.calls {
		if c.model == m.ID && c.began.Before(to) && c.end.After(from) {
			ended = append(ended, c)
			if !c.began.Before(from) {
				failing = append(failing, c)
			}
		}
	}
	slices.SortFunc(ended, func(a, b *call) int { return a.end.Compare(b.end) })
	row := 0
	for _, c := range ended {
		if row++; c.began.Before(from) {
			row = 0
		}
		if row == m.Breaker.ConsecutiveFailures {
			return failing, c.end
		}
	}
	return failing, time.Time{}
}

// requests are those that were published, with what their answers must carry.
type requests struct {
	mu     sync.Mutex
	nonces map[string]string
	live   []time.Time // when live answers came
}

func hearRequests(t *testing.T, conn *broker.Conn) *requests {
	t.Helper()
	h := &requests{nonces: map[string]string{}}
	for subject, hear := range map[string]nats.MsgHandler{broker.AllRequests: h.hear, broker.AllResults: h.hearResult} {
		if _, err := conn.NC.Subscribe(subject, hear); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *requests) hear(m *nats.Msg) {
	var r struct{ Input struct{ Text string } }
	if json.Unmarshal(m.Data, &r) != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nonces[m.Header.Get(broker.MsgIDHeader)] = fakellm.Nonce(r.Input.Text)
}

func (h *requests) hearResult(m *nats.Msg) {
	var r job.Result
	if json.Unmarshal(m.Data, &r) != nil || r.Status != job.Succeeded || r.Source != job.FromModel {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live = append(h.live, time.Now())
}

// checkAnswers reads the stream: in the end each request has a model's answer to its own input. One request
// more is the one that goes first.
func (h *requests) checkAnswers(t *testing.T, conn *broker.Conn) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.nonces) != nightRequests+1 {
		t.Errorf("%d requests were published", len(h.nonces))
	}
	bad := 0
	for id, nonce := range h.nonces {
		stored, err := conn.Last(t.Context(), broker.ResultsStream, broker.AnyTaskResult(id))
		var r job.Result
		if err == nil {
			err = json.Unmarshal(stored.Data, &r)
		}
		if err != nil || r.Status != job.Succeeded || r.Source != job.FromModel || !strings.Contains(string(r.Output), nonce) {
			if bad++; bad <= 5 {
				t.Errorf("%s: %v, %s by %s, %s instead of %s", id, err, r.Status, r.Source, r.Output, nonce)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d requests have no real answer of their own", bad)
	}
}

// checkRecovery wants a live answer within a half-open period, and what a call takes that began when the
// provider still failed.
func (h *requests) checkRecovery(t *testing.T, back time.Time, m *task.Model) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, at := range h.live {
		if at.After(back) {
			if took, most := at.Sub(back), m.Breaker.HalfOpenAfter+m.Timeouts.FirstToken+500*time.Millisecond; took > most {
				t.Errorf("live again after %s, want %s at most", took, most)
			}
			return
		}
	}
	t.Error("no live answer came after the recovery")
}
