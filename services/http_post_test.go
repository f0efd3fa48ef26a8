package services_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

func TestWhatAPostAcknowledgedIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	const clients, each = 8, 25
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	f := r.front()
	var mu sync.Mutex
	texts := map[string]string{}
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for n := range each {
				text := fmt.Sprintf("client %d, request %d", c, n)
				p, err := f.do(http.MethodPost, "/v1/tasks/toy/jobs", fmt.Appendf(nil, `{"input":{"text":%q}}`, text))
				if err != nil || p.status != http.StatusAccepted {
					t.Errorf("post: %v, %d %s", err, p.status, p.body)
					return
				}
				id := p.said(t).ID
				// The marker is there already: who asks the leader himself finds it, and so does the door.
				if _, _, err := r.conn.Marker(t.Context(), id); err != nil {
					t.Errorf("the marker of %s after its 202: %v", id, err)
				}
				if got, err := f.do(http.MethodGet, "/v1/jobs/"+id, nil); err != nil || got.status != http.StatusOK && got.status != http.StatusAccepted {
					t.Errorf("get %s right after its 202: %v, %d %s", id, err, got.status, got.body)
				}
				mu.Lock()
				texts[id] = text
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(texts) != clients*each {
		t.Fatalf("%d ids of %d requests", len(texts), clients*each)
	}
	for id, text := range texts {
		result := f.get("/v1/jobs/" + id + "?wait=25").result(t)
		if result.ID != id || !answersTo(result, text) {
			t.Errorf("%s has another's result: %s", id, result.Output)
		}
	}
	r.emptied(10 * time.Second)
	for id := range texts {
		if n := len(r.heard.of(id)); n != 1 {
			t.Errorf("%d results of %s", n, id)
		}
	}
}

// Without ingest nobody else could have written it.
func TestTheDoorTakesTheMarkerItself(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	f := r.front()
	p := f.post("toy", `{"input":{"text":"x"},"session":"s","deadline":"5m","metadata":{"a":1}}`)
	id := p.said(t).ID
	m, _, err := r.conn.Marker(t.Context(), id)
	if err != nil || m.RequestSeq != 1 || m.RequestStream != "LLM_REQUESTS" || m.Session != "s" || string(m.Metadata) != `{"a":1}` || m.Deadline.Sub(m.AcknowledgedAt) != 5*time.Minute {
		t.Fatalf("%v: %+v", err, m)
	}
	if at := p.header.Get("Location"); at != f.base+"/v1/jobs/"+id || p.said(t).PollURL != at || p.header.Get("Retry-After") == "" {
		t.Errorf("Location %q, Retry-After %q in %s", at, p.header.Get("Retry-After"), p.body)
	}
	r.run()
	result := r.result(id, 1)
	check(t, "after it came back", result, succeeded("strict"))
	if !result.Deadline.Equal(m.Deadline) || !result.AcknowledgedAt.Equal(m.AcknowledgedAt) || result.Session != "s" {
		t.Errorf("the result speaks of another request than the marker: %+v, %+v", result, m)
	}
	r.emptied(10 * time.Second)
	if got := f.get("/v1/jobs/" + id); !bytes.Equal(got.body, r.stored("toy", id).Data) || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("what is served is not what is stored:\n%s", got.body)
	}
}

func TestAnIdempotencyKeyIsOneRequest(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	f := r.front()
	body := `{"input":{"text":"once"}}`
	first := f.post("toy", body, "Idempotency-Key", "order 1").said(t)
	for name, c := range map[string]struct {
		task, body, key string
		status          int
		same            bool
		says            string
	}{
		"the same":                  {"toy", body, "order 1", http.StatusAccepted, true, "duplicate"},
		"written wider":             {"toy", " { \"input\" : {\"text\":\"once\"} } ", "order 1", http.StatusAccepted, true, "duplicate"},
		"another key":               {"toy", body, "order 2", http.StatusAccepted, false, "acknowledged"},
		"the same key, other task":  {"bare", body, "order 1", http.StatusAccepted, false, "acknowledged"},
		"the same key, other input": {"toy", `{"input":{"text":"twice"}}`, "order 1", http.StatusConflict, true, ""},
		"and an id of its own":      {"toy", `{"id":"mine","input":{"text":"once"}}`, "order 1", http.StatusBadRequest, true, ""},
	} {
		p := f.post(c.task, c.body, "Idempotency-Key", c.key)
		got := p.said(t)
		if p.status != c.status || c.same != (got.ID == first.ID) || got.Status != c.says {
			t.Errorf("%s: %d %s, the first was %s", name, p.status, p.body, first.ID)
		}
		if c.status == http.StatusConflict && (p.header.Get("x-should-retry") != "false" || got.Code != string(fate.IDConflict)) {
			t.Errorf("%s: an official client would repeat it: %v %s", name, p.header, p.body)
		}
	}
	if r := f.get("/v1/jobs/" + first.ID + "?wait=20").result(t); !answersTo(r, "once") {
		t.Errorf("the first has another's answer: %s", r.Output)
	}
	ended := f.get("/v1/jobs/" + first.ID).result(t)
	if s := f.post("toy", body, "Idempotency-Key", "order 1").said(t); s.Status != "duplicate" || s.Stage != "" || s.Since.Sub(ended.FinishedAt).Abs() > time.Second {
		t.Errorf("of a job that ended at %s: %+v", ended.FinishedAt, s)
	}
	if p := f.post("toy", body, "Idempotency-Key", "order 1", "Prefer", "wait=20"); p.result(t).ID != first.ID {
		t.Errorf("who waits for a repeated request gets %s", p.body)
	}
}

func TestOfConcurrentPostsWithOneKeyOneIsAcknowledged(t *testing.T) {
	t.Parallel()
	const at = 20
	for name, running := range map[string]bool{"with ingest": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, brokertest.Server(t).URL())
			if running {
				r.run()
			}
			f, other := r.front(), r.front()
			ids, says := map[string]int{}, map[string]int{}
			var mu sync.Mutex
			var all sync.WaitGroup
			for n := range at {
				all.Go(func() {
					through := f
					if n%2 == 1 {
						through = other
					}
					p, err := through.do(http.MethodPost, "/v1/tasks/toy/jobs", []byte(`{"input":{"text":"raced"}}`), "Idempotency-Key", "one")
					mu.Lock()
					defer mu.Unlock()
					if err != nil || p.status != http.StatusAccepted {
						t.Errorf("%v, %d %s", err, p.status, p.body)
						return
					}
					ids[p.said(t).ID]++
					says[p.said(t).Status]++
				})
			}
			all.Wait()
			if len(ids) != 1 || says["acknowledged"] > 1 || says["acknowledged"]+says["duplicate"] != at {
				t.Fatalf("%v %v", ids, says)
			}
			r.run()
			for id := range ids {
				check(t, "raced", r.result(id, 1), succeeded("strict"))
				r.emptied(10 * time.Second)
				if n := len(r.heard.of(id)); n != 1 {
					t.Errorf("%d results", n)
				}
			}
			r.paidFor("raced", 1)
		})
	}
}

func TestAPostWaitsAsLongAsItsClientPrefers(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	f := r.front()
	p := f.post("toy", `{"input":{"text":"quick"}}`, "Prefer", "respond-async, wait=20")
	if result := p.result(t); !answersTo(result, "quick") || p.header.Get("Preference-Applied") != "wait" {
		t.Errorf("%v\n%s", p.header, p.body)
	}
	r.first.SetFaults(fakellm.Fault{Kind: "hang_headers", Match: "slow"})
	began := time.Now()
	p = f.post("bare", `{"input":{"text":"slow"},"deadline":"1m"}`, "Prefer", "wait=1")
	if took := time.Since(began); p.status != http.StatusAccepted || p.header.Get("Preference-Applied") != "wait" || took < time.Second {
		t.Errorf("after %s: %d %v\n%s", took, p.status, p.header, p.body)
	}
	for _, nonsense := range []string{"wait=soon", "wait", "wait=-1", "handling=lenient"} {
		p := f.post("bare", `{"input":{"text":"not waited for"}}`, "Prefer", nonsense)
		if p.status != http.StatusAccepted || p.header.Get("Preference-Applied") != "" {
			t.Errorf("Prefer: %s: %d %v", nonsense, p.status, p.header)
		}
	}
}

func TestADoorThatIsFullSaysWhenToComeAgain(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	f := r.front()
	s, err := r.conn.JS.Stream(t.Context(), "LLM_REQUESTS")
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgs = 1
	if _, err := r.conn.JS.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	first := f.accepted("toy", "fits", "")
	p := f.post("toy", `{"input":{"text":"does not"}}`, "Idempotency-Key", "again")
	p.is(t, "full", http.StatusServiceUnavailable, fate.DoorFull)
	if p.header.Get("Retry-After") == "" || p.header.Get("x-should-retry") == "false" {
		t.Errorf("%v", p.header)
	}
	if held, _, err := r.conn.Marker(t.Context(), p.said(t).ID); err == nil {
		t.Errorf("what was not stored has a marker: %+v", held)
	}
	r.run()
	r.result(first, 1)
	f.eventually("it is taken", func() bool {
		return f.post("toy", `{"input":{"text":"does not"}}`, "Idempotency-Key", "again").status == http.StatusAccepted
	})
}

func TestWithoutABrokerAPostIsAnsweredInBoundedTimeAndMayBeRepeated(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	r := setup(t, server.url())
	f := r.front()
	server.kill()
	began := time.Now()
	p := f.post("toy", `{"input":{"text":"nobody there"}}`, "Idempotency-Key", "outage")
	s := p.is(t, "no broker", http.StatusServiceUnavailable, fate.Unavailable)
	if took := time.Since(began); took > 15*time.Second || p.header.Get("Retry-After") == "" || s.ID == "" {
		t.Errorf("after %s: %v\n%s", took, p.header, p.body)
	}
	f.get("/v1/jobs/"+s.ID).is(t, "a poll", http.StatusServiceUnavailable, fate.Unavailable)
	server.start()
	r.run()
	f.eventually("it is taken", func() bool {
		again := f.post("toy", `{"input":{"text":"nobody there"}}`, "Idempotency-Key", "outage")
		return again.status == http.StatusAccepted && again.said(t).ID == s.ID
	})
	check(t, "after the outage", r.result(s.ID, 1), succeeded("strict"))
}

// On NATS the same desk answers.
func TestASubmitIsAnsweredAfterItsMarker(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	for n := range 50 {
		receipt, err := r.client.Submit(t.Context(), "toy", fmt.Appendf(nil, `{"input":{"text":"submit %d"}}`, n))
		if err != nil || receipt.Status != "acknowledged" {
			t.Fatalf("%v %+v", err, receipt)
		}
		if _, _, err := r.conn.Marker(t.Context(), receipt.ID); err != nil {
			t.Errorf("no marker of %s: %v", receipt.ID, err)
		}
		if again, err := r.client.Cancel(t.Context(), receipt.ID); err != nil || again.Error != nil {
			t.Errorf("cancel right after the receipt: %v %+v", err, again)
		}
	}
	m, err := r.conn.NC.RequestMsg(&nats.Msg{Subject: "llm.submit.toy", Header: nats.Header{"Nats-Msg-Id": {"hint"}}, Data: []byte(`{"id":"body","input":{"text":"x"}}`)}, 10*time.Second)
	if err != nil || !strings.Contains(string(m.Data), `"id":"body"`) {
		t.Errorf("the body's id goes before the header's: %v %s", err, m.Data)
	}
	if got := r.result("body", 1); got.Status != job.Succeeded {
		t.Errorf("%+v", got)
	}
}

// JetStream answers that it has no such stream: there is nothing to wait for any more.
func TestWhatWasAcceptedIsNotTakenBackWhenItsResultCannotBeWaitedFor(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	f := r.front()
	if err := r.conn.JS.DeleteStream(t.Context(), "LLM_RESULTS"); err != nil {
		t.Fatal(err)
	}
	p := f.post("toy", `{"input":{"text":"accepted"}}`, "Prefer", "wait=20")
	s := p.said(t)
	if p.status != http.StatusAccepted || s.Status != "acknowledged" || p.header.Get("Location") != f.base+"/v1/jobs/"+s.ID {
		t.Fatalf("%d %s", p.status, p.body)
	}
	if _, _, err := r.conn.Marker(t.Context(), s.ID); err != nil {
		t.Errorf("the marker of %s: %v", s.ID, err)
	}
	if p := f.get("/v1/jobs/"+s.ID).is(t, "a poll", http.StatusServiceUnavailable, fate.Unavailable); strings.Contains(p.Title, "stored") {
		t.Errorf("who asks is told of a request that he did not send: %s", p.Title)
	}
}

func TestWhoRepeatsARequestIsToldWhereItsJobIs(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.runAllBut(broker.Validator)
	f := r.front()
	const body = `{"input":{"text":"repeated"},"deadline":"5m"}`
	f.reaches(f.post("toy", body, "Idempotency-Key", "one").said(t).ID, "queued", "validator", "no_process")
	p := f.post("toy", body, "Idempotency-Key", "one")
	if s := p.said(t); p.status != http.StatusAccepted || s.Status != "duplicate" || s.Stage != "validator" || s.Why == nil || s.Why.Code != "no_process" {
		t.Errorf("%d %s", p.status, p.body)
	}
}

// Ingest does not run: what is told is known from the doors alone.
func TestASessionHasWhatWasAcknowledgedAtAnyReplicaBeforeItIsAdmitted(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	here, there := r.front(), r.front()
	const path = "/v1/sessions/talk/events?tenant=acme"
	follower := there.follow(path)
	if state := follower.next("state"); state != `{"session":"talk","jobs":[]}` {
		t.Errorf("before: %s", state)
	}
	id := here.accepted("toy", "first", `,"session":"talk","tenant":"acme"`)
	if state := here.follow(path).next("state"); !strings.Contains(state, `"jobs":[{"id":"`+id+`"`) {
		t.Errorf("right after the 202: %s", state)
	}
	if told := follower.next("progress"); !strings.Contains(told, id) || !strings.Contains(told, `"to":"ingest"`) || !strings.Contains(told, `"event":"acknowledged"`) {
		t.Errorf("who follows is told %s", told)
	}
	if state := there.follow(path).next("state"); !strings.Contains(state, `"jobs":[{"id":"`+id+`"`) || !strings.Contains(state, `"code":"no_process"`) {
		t.Errorf("the other replica: %s", state)
	}
}
