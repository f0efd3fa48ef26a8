package services_test

import (
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

func TestAPollSaysWhereAJobIsAndWhyItWaits(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	f := r.front()
	ids := []string{f.accepted("bare", "first", `,"deadline":"5m"`), f.accepted("bare", "second", `,"deadline":"5m"`)}
	s := f.reaches(ids[1], "queued", "ingest", "no_process")
	if s.Why.Messages == nil || *s.Why.Messages != 2 || *s.Why.Pulls != 0 || *s.Why.OldestMS < 0 {
		t.Errorf("%+v", s.Why)
	}
	batch := f.accepted("bare", "batch", `,"lane":"batch"`)
	if s := f.reaches(batch, "queued", "ingest", "no_process"); *s.Why.Messages != 1 {
		t.Errorf("the lanes wait apart: %+v", s.Why)
	}
}

func TestAPollTellsRequestsThatAreHeldBackFromThoseThatNobodyTakes(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	f := r.front()
	ids := []string{f.accepted("bare", "first", `,"deadline":"5m"`), f.accepted("bare", "second", `,"deadline":"5m"`)}
	r.limits.Interactive = 1
	r.run(broker.Ingest)
	f.eventually("one is admitted, the other waits for room", func() bool {
		codes := map[string]int{}
		for _, id := range ids {
			if s := f.get("/v1/jobs/" + id).said(t); s.Why != nil {
				codes[s.Stage+" "+s.Why.Code]++
			}
		}
		return codes["ingest admission"] == 1 && codes["context-builder no_process"] == 1
	})
}

func TestAPollSaysWhichRequestOfItsSessionAJobWaitsFor(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, sessionFiles)
	r.first.SetFaults(fakellm.Fault{Kind: "hang_headers", Match: "first"})
	r.run()
	f := r.front()
	first := f.accepted("talk", "first", `,"deadline":"5m","session":"s"`)
	s := f.reaches(f.accepted("talk", "second", `,"deadline":"5m","session":"s"`), "delayed", "context-builder", "session")
	if s.Why.Message != "waits for "+first+" of its session" || s.Why.Until.IsZero() || s.Why.Cause != "" {
		t.Errorf("%+v", s.Why)
	}
}

// A process that heard nothing of the job asks the stages.
func TestADoorThatWasNotThereFindsTheJobByAsking(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, unhurried)
	r.first.SetFaults(fakellm.Fault{Kind: "hang_headers", Match: "held"})
	r.run()
	early := r.front()
	held := early.accepted("bare", "held", `,"deadline":"5m"`)
	r.awaits(func(c fakellm.Counts) bool { return c.InFlight == 1 })
	r.front().reaches(held, "running", "inference", "")
	early.ends(t, held)
}

func TestADoorThatWasNotThereFindsWhereAJobMayWait(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.runAllBut(broker.Validator)
	early := r.front()
	waiting := early.accepted("toy", "waits", `,"deadline":"5m"`)
	early.reaches(waiting, "queued", "validator", "no_process")
	r.front().reaches(waiting, "queued", "validator", "no_process")
}

func TestAWaitingPollGetsTheResultAsItComes(t *testing.T) {
	t.Parallel()
	const polls = 40
	r := setup(t, brokertest.Server(t).URL())
	f, other := r.front(), r.front()
	id := f.accepted("toy", "awaited", "")
	var all sync.WaitGroup
	for n := range polls {
		all.Go(func() {
			through := f
			if n%2 == 1 {
				through = other
			}
			p, err := through.do(http.MethodGet, "/v1/jobs/"+id+"?wait=25", nil)
			if err != nil || p.status != http.StatusOK {
				t.Errorf("%v %d %s", err, p.status, p.body)
			}
		})
	}
	r.run()
	all.Wait()
}

func TestAnExpiredResultIsGoneAndNotUnknown(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.first.SetFaults(fakellm.Fault{Kind: "400", Match: "fails"})
	r.run()
	f := r.front()
	failed := f.accepted("bare", "fails", "")
	letter := f.get("/v1/jobs/" + failed + "?wait=20").result(t)
	if letter.Status != job.Failed || letter.Error.DeadLetter == "" {
		t.Fatalf("%+v", letter)
	}
	r.drop("LLM_RESULTS")
	r.drop("LLM_ADMITTED")
	if s := f.get("/v1/jobs/"+failed).is(t, "a dead letter is left", 410, fate.Gone); s.DeadLetter != letter.Error.DeadLetter || !strings.HasPrefix(s.DeadLetter, "llm.dead.") {
		t.Errorf("%+v", s)
	}
	r.drop("LLM_DEAD")
	f.get("/v1/jobs/"+failed).is(t, "nothing is left", 404, fate.NotFound)
	// A marker that is left says that there was one, long after the deadline; before it, that there may be one.
	for id, since := range map[string]time.Duration{"old": 25 * time.Hour, "young": 0} {
		m := &job.Marker{V: 1, ID: id, Task: "bare", Lane: job.Interactive, Run: 1, RequestStream: "LLM_REQUESTS", RequestSeq: 1, AcknowledgedAt: time.Now().Add(-since), Deadline: time.Now().Add(-since).Add(20 * time.Second)}
		if _, err := r.conn.Admit(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	f.accepted("toy", "a later one", "")
	f.get("/v1/jobs/" + f.accepted("toy", "the newest", "") + "?wait=20").result(t)
	f.get("/v1/jobs/old").is(t, "a marker is left", 410, fate.Gone)
	if p := f.get("/v1/jobs/young"); p.status != http.StatusAccepted {
		t.Errorf("%d %s", p.status, p.body)
	}
}

// drop empties a stream, as its age would.
func (r *rig) drop(stream string) {
	r.t.Helper()
	s, err := r.conn.JS.Stream(r.t.Context(), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := s.Purge(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}
