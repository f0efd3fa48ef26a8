package services_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// ends cancels a job, and checks that it ends so, once, for everybody, however often it is cancelled.
func (f *front) ends(t *testing.T, id string) {
	t.Helper()
	p := f.cancel(id)
	if s := p.said(t); p.status != http.StatusAccepted || s.Status != "cancelling" || s.Why == nil || s.Why.Code != "cancelled" {
		t.Errorf("cancel %s: %d %s", id, p.status, p.body)
	}
	if got := f.get("/v1/jobs/" + id + "?wait=20").result(t); got.Status != job.Cancelled {
		t.Errorf("%s ended as %s", id, got.Status)
	}
	stored := f.r.stored("*", id).Data
	for _, p := range []reply{f.cancel(id), f.cancel(id, "Prefer", "wait=5"), f.get("/v1/jobs/" + id)} {
		if p.status != http.StatusOK || !bytes.Equal(p.body, stored) {
			t.Errorf("%s, afterwards: %d %s, stored %s", id, p.status, p.body, stored)
		}
	}
	if n := len(f.r.heard.of(id)); n != 1 {
		t.Errorf("%d results of %s", n, id)
	}
}

func TestACancelEndsAJobWhereverItIs(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.first.SetFaults(fakellm.Fault{Kind: "hang_headers", Match: "calling"}, fakellm.Fault{Kind: "429", RetryAfter: 4 * time.Second, Match: "delayed"})
	f := r.front()
	r.runAllBut(broker.ContextBuilder)
	queued := f.accepted("toy", "queued", "")
	f.reaches(queued, "queued", "context-builder", "no_process")
	f.ends(t, queued)
	r.run(broker.ContextBuilder)

	delayed := f.accepted("toy", "delayed", "")
	s := f.reaches(delayed, "delayed", "inference", "retry")
	if s.Why.Cause != string(fate.ProviderRateLimited) || s.Why.Model != "small" || time.Until(s.Why.Until) > 6*time.Second || s.PollAfterMS < 500 {
		t.Errorf("%+v", s.Why)
	}
	f.ends(t, delayed)

	calling := f.accepted("bare", "calling", `,"deadline":"1m"`)
	r.awaits(func(c fakellm.Counts) bool { return c.InFlight == 1 })
	f.reaches(calling, "running", "inference", "")
	within, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	f.ends(t, calling)
	if err := r.first.Await(within, func(c fakellm.Counts) bool { return c.Disconnects == 1 }); err != nil {
		t.Errorf("the provider saw no disconnect within a second: %v", err)
	}

	done := f.accepted("toy", "done", "")
	succeeded := f.get("/v1/jobs/" + done + "?wait=20")
	if got := f.cancel(done); got.status != http.StatusOK || !bytes.Equal(got.body, succeeded.body) || got.result(t).Status != job.Succeeded {
		t.Errorf("cancel after the end: %d %s", got.status, got.body)
	}
	f.cancel("nobody").is(t, "nobody", 404, fate.NotFound)
}

func TestACancelEndsAParkedJob(t *testing.T) {
	t.Parallel()
	r := setupPatient(t, halfOpenAfter("1m"))
	r.run()
	f := r.front()
	record := r.down()
	parked := f.accepted("patient", "parked", `,"deadline":"5m"`)
	s := f.reaches(parked, "parked", "inference", "breaker_open")
	if s.Why.Model != "small" || !s.Why.Until.Equal(record.Until) || s.Why.Messages == nil || s.PollAfterMS < 2000 {
		t.Errorf("%+v, the breaker is open until %s", s.Why, record.Until)
	}
	f.ends(t, parked)
}

// reaches polls until the door says a state.
func (f *front) reaches(id, status, stage, why string) said {
	f.t.Helper()
	var s said
	f.eventually(fmt.Sprintf("%s is %s at %s because of %q", id, status, stage, why), func() bool {
		p := f.get("/v1/jobs/" + id)
		if p.status != http.StatusAccepted {
			f.t.Fatalf("%s: %d %s", id, p.status, p.body)
		}
		s = p.said(f.t)
		if p.header.Get("Retry-After") == "" || p.header.Get("Location") == "" || s.PollAfterMS < 1 || s.ID != id {
			f.t.Fatalf("%v %s", p.header, p.body)
		}
		if why == "" != (s.Why == nil) || s.Why != nil && s.Why.Code != why {
			return false
		}
		return s.Status == status && s.Stage == stage
	})
	return s
}

func TestOfACancelAndACompletionThatRaceOneIsTheResult(t *testing.T) {
	t.Parallel()
	const jobs = 60
	r := setup(t, brokertest.Server(t).URL())
	r.first.SetLatency(fakellm.Latency{FirstToken: 800 * time.Millisecond})
	r.run()
	f := r.front()
	var mu sync.Mutex
	statuses := map[job.Status]int{}
	var all sync.WaitGroup
	for n := range jobs {
		all.Go(func() {
			text := fmt.Sprintf("race %d", n)
			p, err := f.do(http.MethodPost, "/v1/tasks/toy/jobs", fmt.Appendf(nil, `{"input":{"text":%q}}`, text))
			if err != nil || p.status != http.StatusAccepted {
				t.Errorf("%v %d %s", err, p.status, p.body)
				return
			}
			id := p.said(t).ID
			// From at once to long after the call.
			timer := time.NewTimer(time.Duration(n) * 30 * time.Millisecond)
			<-timer.C
			told, err := f.do(http.MethodPost, "/v1/jobs/"+id+"/cancel", nil, "Prefer", "wait=20")
			if err != nil || told.status != http.StatusOK {
				t.Errorf("cancel %s: %v, %d %s", id, err, told.status, told.body)
				return
			}
			if stored := r.stored("*", id).Data; !bytes.Equal(told.body, stored) {
				t.Errorf("%s: the caller got %s, stored is %s", id, told.body, stored)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[told.result(t).Status]++
		})
	}
	all.Wait()
	t.Logf("%v", statuses)
	if statuses[job.Cancelled] == 0 || statuses[job.Succeeded] == 0 || statuses[job.Cancelled]+statuses[job.Succeeded] != jobs {
		t.Errorf("%v of %d", statuses, jobs)
	}
	r.emptied(20 * time.Second)
	if n := r.heard.distinct(); n != jobs {
		t.Errorf("results of %d ids", n)
	}
}

// The result of run 1 is stored all the while; that run 2 is calling says its provider.
func TestAReplayUnderWayIsFollowedAndCancelledOverHTTP(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	f := r.front()
	r.first.SetFaults(fakellm.Fault{Kind: "400"})
	id := f.accepted("bare", "run again", `,"deadline":"5m"`)
	failed := f.get("/v1/jobs/" + id + "?wait=20")
	if got := failed.result(t); got.Status != job.Failed || got.Run != 1 {
		t.Fatalf("%s", failed.body)
	}
	r.first.SetFaults(fakellm.Fault{Kind: "hang_headers"})
	r.replay(t, id, "")
	r.awaits(func(c fakellm.Counts) bool { return c.InFlight == 1 })
	if got := f.get("/v1/jobs/" + id); !bytes.Equal(got.body, failed.body) {
		t.Errorf("a poll is told %d %s", got.status, got.body)
	}
	follower := f.follow("/v1/jobs/" + id + "/events")
	if state := follower.next("state"); !strings.Contains(state, `"run":2,"status":"running"`) {
		t.Errorf("who follows it is told %s", state)
	}
	p := f.cancel(id, "Prefer", "wait=20")
	if got := p.result(t); got.Run != 2 || got.Status != job.Cancelled {
		t.Errorf("the cancellation: %s", p.body)
	}
	if result := follower.next("result"); result != string(p.body) {
		t.Errorf("who follows it is told %s", result)
	}
	r.awaits(func(c fakellm.Counts) bool { return c.Disconnects == 1 })
	if again := f.cancel(id); !bytes.Equal(again.body, p.body) {
		t.Errorf("again: %d %s", again.status, again.body)
	}
}
