package contextbuilder

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// expire takes all results away.
func (s *talk) expire() {
	s.Helper()
	results, err := s.conn.JS.Stream(s.Context(), broker.ResultsStream)
	if err != nil {
		s.Fatal(err)
	}
	if err := results.Purge(s.Context()); err != nil {
		s.Fatal(err)
	}
}

// keepResults changes how long results are kept.
func (s *talk) keepResults(age time.Duration) {
	s.Helper()
	results, err := s.conn.JS.Stream(s.Context(), broker.ResultsStream)
	if err != nil {
		s.Fatal(err)
	}
	c := results.CachedInfo().Config
	c.MaxAge, c.Duplicates = age, min(age, c.Duplicates)
	if _, err := s.conn.JS.UpdateStream(s.Context(), c); err != nil {
		s.Fatal(err)
	}
}

func TestWhoComesBackAfterTheResultExpiredSeesHisLastTurn(t *testing.T) {
	t.Parallel()
	s := converse(t, stepTask, nil)
	s.keepResults(20 * time.Second)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.handler.Run(ctx) }()
	s.exchange("a", "first", `{"say":"one","step":3}`)
	brokertest.Eventually(t, 60*time.Second, "the session at rest is settled", func() bool { return len(s.record().Turns) == 1 })
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.expire()
	if got := spoken(s.build(s.request("b", "second"))); !slices.Equal(got, []string{"u: first", `a: {"say":"one","step":3}`, "u: second"}) {
		t.Errorf("%q", got)
	}
	if r := s.record(); len(r.Pending) != 1 || string(r.State) != `{"seen":1,"step":3}` || r.Totals.Usage.Calls != 1 {
		t.Errorf("%+v", r)
	}
}

func TestASessionAtRestIsLeftAsItIsUntilSomethingEnded(t *testing.T) {
	t.Parallel()
	s := converse(t, stepTask, nil)
	known := map[string]uint64{}
	look := func() {
		if err := s.handler.settleRested(t.Context(), time.Now().Add(time.Second), known); err != nil {
			t.Fatal(err)
		}
	}
	a := s.request("a", "first")
	s.build(a)
	before := s.record()
	for range 2 {
		look()
	}
	if r := s.record(); !r.At.Equal(before.At) || len(r.Pending) != 1 {
		t.Errorf("it is written though nothing ended: %+v", r)
	}
	s.answer(a, say("one"))
	if err := s.handler.settleRested(t.Context(), time.Now().Add(-time.Hour), known); err != nil || len(s.record().Pending) != 1 {
		t.Errorf("it is not at rest yet: %v", err)
	}
	look()
	if r := s.record(); len(r.Pending) != 0 || len(r.Turns) != 1 {
		t.Errorf("%+v", r)
	}
	if look(); len(known) != 1 {
		t.Errorf("what is settled is not read again: %v", known)
	}
}

func TestASummaryThatWasMadeIsTakenWhileItsResultIsThere(t *testing.T) {
	t.Parallel()
	s := folding(t, 1)
	for _, id := range []string{"a", "b", "c"} {
		s.exchange(id, "question "+id, say("answer"))
	}
	s.folded(s.record().Fold, job.Outcome{Status: job.Succeeded, Source: job.FromModel, Output: json.RawMessage(`"They asked."`)})
	if err := s.handler.settleRested(t.Context(), time.Now().Add(time.Second), map[string]uint64{}); err != nil {
		t.Fatal(err)
	}
	if r := s.record(); r.Fold != nil || r.Summary == nil || r.Summary.Text != "They asked." {
		t.Errorf("%+v", r)
	}
}
