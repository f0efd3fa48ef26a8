package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

func TestResult(t *testing.T) {
	r := pipeline(t)
	r.spillway(t, "submit", "analyze", `{"text":"known"}`, "--id=known").with(exitOK)

	t.Run("it prints what the submit printed", func(t *testing.T) {
		r.spillway(t, "result", "known").with(exitOK, "succeeded", "known (task analyze, run 1)", fakellm.Nonce("known"))
	})
	t.Run("json is the stored result", func(t *testing.T) {
		if got := r.spillway(t, "result", "known", "--json").with(exitOK).one(); got["id"] != "known" {
			t.Errorf("%v", got)
		}
	})
	t.Run("the history is a table of hops and calls", func(t *testing.T) {
		r.spillway(t, "result", "known", "--history").with(exitOK, "KIND", "ingest", "context-builder", "call", "simulated #1", "verdict", "valid")
		if got := r.spillway(t, "result", "known", "--history", "--json").with(exitOK).lines(); len(got) < 5 || got[0]["stage"] != "ingest" {
			t.Errorf("%v", got)
		}
	})
	t.Run("of a later run there is none yet", func(t *testing.T) {
		r.spillway(t, "result", "known", "--run=2").with(exitNotFound, "run 2 of known has no result yet, run 1 has")
	})
	t.Run("a failed run has its exit code", func(t *testing.T) {
		r.provider.Script("", fakellm.Fault{Kind: fakellm.KindUnauthorized})
		r.spillway(t, "submit", "bare", `{"text":"no key"}`, "--id=failed").with(exitNotAnswered)
		r.spillway(t, "result", "failed").with(exitNotAnswered, "provider_auth", "Fix the key")
	})
	t.Run("waiting ends when the result comes", func(t *testing.T) {
		r.provider.Script("", fakellm.Fault{Kind: fakellm.KindDrip, Every: 2 * time.Millisecond})
		c := r.start(t, "result", "coming", "--wait")
		r.spillway(t, "submit", "analyze", `{"text":"coming"}`, "--id=coming", "--no-wait").with(exitOK)
		c.wait().with(exitOK, "succeeded")
	})
}

// The markers are laid by hand: no pipeline runs that could answer.
func TestResultSaysWhatIsKnownOfAnIDWithoutOne(t *testing.T) {
	r := serve(t)
	now := time.Now().UTC()
	for id, m := range map[string]job.Marker{
		"fresh":   {AcknowledgedAt: now.Add(-3 * time.Second), Deadline: now.Add(time.Minute)},
		"overdue": {AcknowledgedAt: now.Add(-2 * time.Minute), Deadline: now.Add(-time.Minute)},
		"expired": {AcknowledgedAt: now.Add(-60 * time.Hour), Deadline: now.Add(-30 * time.Hour)},
	} {
		m.V, m.ID, m.Task, m.Lane, m.Run = job.Version, id, "analyze", job.Interactive, 1
		if _, err := r.conn.Admit(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	}
	r.spillway(t, "result", "fresh").with(exitNotFound, "admitted and in progress since", "(3", "deadline is in", "--wait")
	r.spillway(t, "result", "fresh", "--wait", "--timeout=10ms").with(exitNotFound, "in progress")
	r.spillway(t, "result", "overdue").with(exitNotFound, "deadline passed 1m", "overdue", "spillway broker check")
	r.spillway(t, "result", "expired").with(exitNotFound, "expired").without("overdue")
	r.spillway(t, "result", "never").with(exitNotFound, "nothing is known of never", "never acknowledged").without("waits for admission")
	if got := r.spillway(t, "result", "never", "--json").with(exitNotFound); got.out != "" || !strings.Contains(got.err, `"exit_code":3`) {
		t.Errorf("standard output %q, standard error %q", got.out, got.err)
	}
	r.spillway(t, "submit", "analyze", `{"text":"queued"}`, "--id=queued", "--no-wait").with(exitOK)
	r.spillway(t, "result", "queued").with(exitNotFound, "nothing is known of queued", "or it waits for admission (1 request in the queue")
	r.spillway(t, "result", "a b").with(exitUsage, "not an id")
	r.spillway(t, "result", "fresh", "--run=0").with(exitUsage)

	c := r.start(t, "result", "fresh", "--wait")
	brokertest.Eventually(t, 10*time.Second, "the command subscribes", func() bool { return r.subscribed("llm.result.analyze.fresh") })
	c.cancel()
	c.wait().with(exitInterrupted, "stopped waiting")
}

// subscribed reports whether somebody gets what is published on a subject.
func (r *rig) subscribed(subject string) bool {
	subs, err := r.server.Subsz(&server.SubszOptions{Subscriptions: true, Test: subject})
	return err == nil && len(subs.Subs) > 0
}
