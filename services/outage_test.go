package services_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

func withDeadline(text, deadline string) map[string]any {
	return map[string]any{"deadline": deadline, "input": map[string]string{"text": text}}
}

// A stage that is gone for good: the ladder answers before the deadline, wherever the job is stuck.
func TestAStuckJobIsAnsweredBeforeItsDeadline(t *testing.T) {
	t.Parallel()
	for _, gone := range []string{broker.ContextBuilder, broker.Inference, broker.Validator} {
		t.Run(gone+" gone", func(t *testing.T) {
			t.Parallel()
			r := setup(t, brokertest.Server(t).URL())
			r.runAllBut(gone)
			canned := r.publish(job.Interactive, "toy", "", withDeadline("anyone there?", "3s"))
			failed := r.publish(job.Interactive, "bare", "", withDeadline("anyone there?", "3s"))
			result := r.result(canned, 1)
			check(t, "ladder", result, byCanned)
			if result.Degraded.Reason != fate.Deadline {
				t.Errorf("degraded because of %s", result.Degraded.Reason)
			}
			result = r.result(failed, 1)
			check(t, "no ladder", result, ending{status: job.Failed})
			if result.Error.Code != fate.Deadline {
				t.Errorf("failed because of %s", result.Error.Code)
			}
			// The stage comes back: what it finds has its result already, and becomes a dead letter.
			brokertest.Eventually(t, 5*time.Second, "the deadlines pass", func() bool { return time.Now().After(result.Deadline.Add(100 * time.Millisecond)) })
			r.run(gone)
			r.emptied(15 * time.Second)
			for _, id := range []string{canned, failed} {
				if n := len(r.heard.of(id)); n != 1 {
					t.Errorf("%d results of %s were seen", n, id)
				}
			}
			for _, id := range []string{canned, failed} {
				letter, _, err := r.conn.Dead(t.Context(), id)
				if err != nil || letter.Code != fate.Deadline || letter.Job == nil || letter.Job.Input == nil {
					t.Errorf("dead letter of %s: %+v, %v", id, letter, err)
				}
			}
		})
	}
}

func TestWithoutIngestRequestsWaitAndAMissedDeadlineIsSaid(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.runAllBut(broker.Ingest)
	missed := r.publish(job.Interactive, "toy", "", withDeadline("too late", "200ms"))
	waits := r.ask(job.Interactive, "toy", "patient")
	brokertest.Eventually(t, 5*time.Second, "the first deadline passes", func() bool {
		stored, err := r.conn.Last(t.Context(), broker.RequestsStream, broker.RequestSubject(job.Interactive, "toy"))
		return err == nil && time.Since(stored.At) > 300*time.Millisecond
	})
	if n := r.heard.distinct(); n != 0 {
		t.Fatalf("%d results without an ingest", n)
	}
	r.run(broker.Ingest)
	check(t, "patient", r.result(waits, 1), succeeded("strict"))
	result := r.result(missed, 1)
	if !result.Late || result.Status != job.Degraded || result.Degraded.Reason != fate.Deadline {
		t.Errorf("missed: %s, late %v, %+v", result.Status, result.Late, result.Degraded)
	}
}

func TestWithoutResultWriterEverythingWaitsAndComesWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	stop := r.run(broker.ResultWriter)
	stop()
	r.runAllBut(broker.ResultWriter)
	var ids []string
	for i := range 20 {
		ids = append(ids, r.ask(job.Interactive, "toy", fmt.Sprintf("question %d", i)))
	}
	inbox := broker.StageStream(broker.ResultWriter)
	brokertest.Eventually(t, 10*time.Second, "all wait for result-writer", func() bool {
		s, err := r.conn.JS.Stream(t.Context(), inbox)
		return err == nil && s.CachedInfo().State.Msgs == uint64(len(ids))
	})
	r.run(broker.ResultWriter)
	back := time.Now()
	for i, id := range ids {
		result := r.result(id, 1)
		check(t, id, result, succeeded("strict"))
		if !answersTo(result, fmt.Sprintf("question %d", i)) {
			t.Errorf("%s has another's answer", id)
		}
	}
	if took := time.Since(back); took > 5*time.Second {
		t.Errorf("the last came after %s", took)
	}
}

func TestWithoutFallbackHealthyJobsGoOnAndTheOthersWait(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.first.SetFaults(fakellm.Fault{Kind: "401", Match: "bad"})
	r.second.SetFaults(fakellm.Fault{Kind: "401", Match: "bad"})
	r.runAllBut(broker.Fallback)
	check(t, "healthy", r.result(r.ask(job.Interactive, "toy", "good"), 1), succeeded("strict"))
	bad := r.ask(job.Interactive, "toy", "bad")
	brokertest.Eventually(t, 5*time.Second, "the job waits for fallback", func() bool {
		s, err := r.conn.JS.Stream(t.Context(), broker.StageStream(broker.Fallback))
		return err == nil && s.CachedInfo().State.Msgs == 1
	})
	r.run(broker.Fallback)
	check(t, "bad", r.result(bad, 1), byCanned)
}

func TestABrokerOutageLosesNothingAndRepeatsNoCall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := embedded.Start(embedded.Options{Port: -1, Store: dir, Sync: time.Second, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	r := setup(t, server.URL())
	r.first.SetLatency(fakellm.Latency{FirstToken: 300 * time.Millisecond})
	r.run()
	const jobs = 100
	ids := map[string]string{}
	for i := range jobs {
		text := fmt.Sprintf("question %d", i)
		ids[r.ask(job.Interactive, "toy", text)] = text
	}
	brokertest.Eventually(t, 10*time.Second, "half of the calls are under way", func() bool { return r.first.Counts().Calls >= jobs/2 })
	server.Stop()
	outage := time.NewTimer(4 * time.Second)
	<-outage.C // the subject of the test: an outage that outlasts the calls
	brokertest.StartServer(t, embedded.Options{Port: portOf(t, r.url), Store: dir, Sync: time.Second})
	for id, text := range ids {
		result := r.result(id, 1)
		check(t, text, result, succeeded("strict"))
		if !answersTo(result, text) {
			t.Errorf("%s has another's answer: %s", id, result.Output)
		}
	}
	r.emptied(20 * time.Second)
	for nonce, n := range r.first.Counts().Nonces {
		if n != 1 {
			t.Errorf("%d calls for %s", n, nonce)
		}
	}
	if n := r.first.Counts().Calls; n != jobs {
		t.Errorf("%d calls for %d jobs", n, jobs)
	}
}

// Two inboxes that feed each other are where bounded queues deadlock: corrections go from validator back
// to inference while inference sends to validator.
func TestACycleOfCorrectionsAtFullAdmissionDrains(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.limits.Interactive, r.limits.Batch = 300, 100
	r.first.SetFaults(fakellm.Fault{Kind: "off_schema", Rate: 0.9})
	const jobs = 900
	ids := map[string]string{}
	for i := range jobs {
		text := fmt.Sprintf("question %d", i)
		ids[r.ask(job.Interactive, "toy", text)] = text
	}
	r.run()
	for id, text := range ids {
		result := r.result(id, 1)
		if result.Status != job.Succeeded && result.Status != job.Degraded {
			t.Fatalf("%s ended as %s: %+v", id, result.Status, result.Error)
		}
		if result.Source == job.FromModel && !answersTo(result, text) {
			t.Errorf("%s has another's answer", id)
		}
	}
	r.emptied(20 * time.Second)
}

func portOf(t *testing.T, url string) int {
	t.Helper()
	var port int
	if _, err := fmt.Sscanf(url, "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatalf("port of %s: %v", url, err)
	}
	return port
}
