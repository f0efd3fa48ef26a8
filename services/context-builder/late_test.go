package contextbuilder

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/session"
)

func (s *talk) change(f func(*session.Session)) {
	s.Helper()
	_, err := s.store.Update(s.Context(), "acme", "sample", "one", time.Hour, func(r *session.Session) (bool, error) {
		f(r)
		return true, nil
	})
	if err != nil {
		s.Fatal(err)
	}
}

// What writes results may be away for long: the answer is delivered when it is back.
func TestAnAnswerThatIsWrittenLongAfterItsDeadlineIsATurn(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	a := s.request("a", "first")
	s.build(a)
	s.change(func(r *session.Session) { r.Pending[0].Deadline = time.Now().Add(-session.Grace - time.Second) })
	b := s.request("b", "second")
	if got := spoken(s.build(b)); !slices.Equal(got, []string{"u: second"}) {
		t.Errorf("nobody waits for it: %q", got)
	}
	s.answer(a, say("one"))
	s.answer(b, say("two"))
	want := []string{"u: first", `a: {"say":"one"}`, "u: second", `a: {"say":"two"}`, "u: third"}
	c := s.request("c", "third")
	if got := spoken(s.build(c)); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	s.answer(c, say("three"))
	d := s.request("d", "lost")
	s.build(d)
	s.change(func(r *session.Session) {
		r.Pending[len(r.Pending)-1].Deadline = time.Now().Add(-session.Late - time.Second)
	})
	s.build(s.request("e", "fifth"))
	if r := s.record(); slices.ContainsFunc(r.Pending, func(p session.Pending) bool { return p.ID == "d" }) {
		t.Errorf("it is given up: %+v", r.Pending)
	}
}

// Somebody sits before the interactive one, and the batch one may take a day.
func TestABatchRequestHoldsUpNoInteractiveOneOfItsSession(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	batch := func(id, text string) *job.Job {
		j := s.stored(id, text)
		if err := s.conn.Delete(t.Context(), broker.RequestsStream, j.RequestSeq); err != nil {
			t.Fatal(err)
		}
		j.Lane, j.Deadline = job.Batch, time.Now().Add(24*time.Hour)
		s.join(j)
		return j
	}
	slow, behind := batch("slow", "overnight"), batch("behind", "after it")
	s.build(slow)
	chat := s.request("chat", "now")
	if got := spoken(s.build(chat)); !slices.Equal(got, []string{"u: now"}) {
		t.Errorf("%q", got)
	}
	if err := s.refused(behind); err.Message != "waits for slow of its session" {
		t.Errorf("of one lane, one at a time: %v", err)
	}
	s.answer(chat, say("here"))
	s.answer(slow, say("done"))
	want := []string{"u: overnight", `a: {"say":"done"}`, "u: now", `a: {"say":"here"}`, "u: next"}
	if got := spoken(s.build(s.request("next", "next"))); !slices.Equal(got, want) {
		t.Errorf("what ended is seen in the order of acceptance: %q", got)
	}
}

func TestAResultThatCannotBeReadHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	a := s.request("a", "first")
	s.build(a)
	if _, err := s.conn.Publish(t.Context(), &nats.Msg{Subject: broker.WriteSubject("sample", "a"), Data: []byte(`{"v":1,"usage":"much"}`)}); err != nil {
		t.Fatal(err)
	}
	b := s.request("b", "second")
	if got := spoken(s.build(b)); !slices.Equal(got, []string{"u: second"}) {
		t.Errorf("%q", got)
	}
	if r := s.record(); len(r.Pending) != 1 || r.Pending[0].ID != "b" {
		t.Errorf("%+v", r.Pending)
	}
}
