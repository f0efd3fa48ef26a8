package job_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"spillway/pkg/job"
)

func TestAHistoryIsBoundedAndKeepsItsBeginningAndItsEnd(t *testing.T) {
	t.Parallel()
	j := &job.Job{Run: 1}
	const events = 1000
	for i := range events {
		j.Record(job.Event{Kind: job.KindHop, N: i, Detail: strings.Repeat("é", job.MaxDetail)})
	}
	if len(j.History) != job.MaxEvents {
		t.Fatalf("%d events", len(j.History))
	}
	if first, last := j.History[0].N, j.History[len(j.History)-1].N; first != 0 || last != events-1 {
		t.Errorf("first %d, last %d", first, last)
	}
	gaps, left := 0, 0
	for _, e := range j.History {
		if e.Kind == job.KindOmitted {
			gaps++
			left = e.N
		}
		if len(e.Detail) > job.MaxDetail || !utf8.ValidString(e.Detail) {
			t.Fatalf("detail of %d bytes, valid %v", len(e.Detail), utf8.ValidString(e.Detail))
		}
	}
	if gaps != 1 || left+len(j.History)-1 != events {
		t.Errorf("%d gaps, %d left out, %d kept", gaps, left, len(j.History)-1)
	}
}

func TestAnIDIsAToken(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"a": true, "A-z_09": true, strings.Repeat("a", 64): true,
		"": false, "a.b": false, "a b": false, "*": false, ">": false, "é": false, "a\n": false, strings.Repeat("a", 65): false,
	} {
		if job.IsID(id) != want {
			t.Errorf("IsID(%q) is not %v", id, want)
		}
	}
}

// The example of https://www.w3.org/TR/trace-context/#examples-of-http-traceparent-headers.
func TestTheTraceIDIsThatOfTheTraceparent(t *testing.T) {
	t.Parallel()
	if id := job.TraceID("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"); id != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("trace id %q", id)
	}
	for _, bad := range []string{"", "00", strings.Repeat("0", 60)} {
		if id := job.TraceID(bad); id != "" {
			t.Errorf("trace id %q of %q", id, bad)
		}
	}
}

func TestAResultIsLateOnlyAfterItsDeadline(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	j := &job.Job{ID: "a", Run: 2, Supersedes: 7, Deadline: at, Outcome: &job.Outcome{Status: job.Failed}}
	if j.Result(at).Late || !j.Result(at.Add(time.Millisecond)).Late {
		t.Error("late is not after the deadline")
	}
	if s := j.Result(at).Supersedes; s == nil || *s != 7 {
		t.Errorf("supersedes %v", s)
	}
}

func TestAJobMadeOfLessKeepsItsPlaceInTheOrderOfAcceptance(t *testing.T) {
	t.Parallel()
	m := &job.Marker{ID: "a", Lane: job.Batch, RequestStream: "LLM_BATCH", RequestSeq: 41, Run: 1}
	if j := m.Job(); j.RequestSeq != 41 || j.Lane != job.Batch {
		t.Errorf("of its marker: %+v", j)
	}
	if j := (&job.Job{ID: "a", RequestSeq: 41}).Stub(job.Failure{}); j.RequestSeq != 41 {
		t.Errorf("a stub: %+v", j)
	}
}
