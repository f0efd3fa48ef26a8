package resultwriter

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// bench is a result-writer on a real server, without a runner.
func bench(t *testing.T) (*broker.Conn, stage.Handler) {
	t.Helper()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, stage.Topology([]stage.Definition{Definition()}, broker.DefaultSizing()))
	return conn, handlerOn(t, conn)
}

func handlerOn(t *testing.T, conn *broker.Conn) stage.Handler {
	t.Helper()
	h, err := newWriter(&stage.Env{Conn: conn, Log: zerolog.Nop(), Tasks: &task.Set{
		Tasks: map[string]*task.Task{"toy": {Name: "toy", Cache: task.Cache{Serve: "fallback", Keep: time.Hour}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ended(run int, supersedes uint64, status job.Status, output string) *job.Job {
	now := time.Now().UTC()
	return &job.Job{
		V: 1, ID: "a", Task: "toy", TaskVersion: "00000000", Lane: job.Interactive, Run: run, Supersedes: supersedes,
		AcknowledgedAt: now, Deadline: now.Add(time.Minute), CacheKey: "k",
		Outcome: &job.Outcome{Status: status, Source: job.FromModel, Output: json.RawMessage(output)},
	}
}

func stored(t *testing.T, conn *broker.Conn) (*job.Result, uint64) {
	t.Helper()
	r, sequence, err := conn.Result(t.Context(), "toy", "a")
	if err != nil {
		t.Fatal(err)
	}
	return r, sequence
}

func isElsewhere(err error) bool { return errors.Is(err, &fate.Error{Fate: fate.Elsewhere}) }

func TestAWriteThatIsRepeatedOrStaleChangesNothing(t *testing.T) {
	t.Parallel()
	conn, h := bench(t)
	if err := h.Handle(t.Context(), ended(1, 0, job.Degraded, `"one"`)); err != nil {
		t.Fatal(err)
	}
	_, first := stored(t, conn)
	for name, j := range map[string]*job.Job{
		"the same again":  ended(1, 0, job.Degraded, `"one"`),
		"another verdict": ended(1, 0, job.Failed, `"two"`),
	} {
		if err := h.Handle(t.Context(), j); !isElsewhere(err) || j.Keep != nil {
			t.Errorf("%s: %v, keep %+v", name, err, j.Keep)
		}
	}
	if err := h.Handle(t.Context(), ended(2, first, job.Succeeded, `"two"`)); err != nil {
		t.Fatal(err)
	}
	for name, j := range map[string]*job.Job{
		"a second run 2":             ended(2, first, job.Succeeded, `"three"`),
		"run 1, after run 2":         ended(1, 0, job.Succeeded, `"three"`),
		"run 2 that saw no result":   ended(2, 0, job.Succeeded, `"three"`),
		"run 2 that saw another one": ended(2, first+100, job.Succeeded, `"three"`),
	} {
		if err := h.Handle(t.Context(), j); !isElsewhere(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r, _ := stored(t, conn); r.Run != 2 || string(r.Output) != `"two"` || r.Supersedes == nil || *r.Supersedes != first {
		t.Errorf("stored run %d, %s, supersedes %v", r.Run, r.Output, r.Supersedes)
	}
}

func TestALaterRunIsWrittenWhateverBecameOfTheResultThatItReplaces(t *testing.T) {
	t.Parallel()
	conn, h := bench(t)
	if err := h.Handle(t.Context(), ended(2, 77, job.Succeeded, `"two"`)); err != nil {
		t.Fatalf("the old one has expired: %v", err)
	}
	if err := h.Handle(t.Context(), ended(3, 0, job.Succeeded, `"three"`)); err != nil {
		t.Fatalf("the old one came late: %v", err)
	}
	if r, _ := stored(t, conn); r.Run != 3 {
		t.Errorf("stored run %d", r.Run)
	}
}

func TestALateAnswerIsKeptForAReplayAndFeedsTheCache(t *testing.T) {
	t.Parallel()
	conn, h := bench(t)
	if err := h.Handle(t.Context(), ended(1, 0, job.Degraded, `"canned"`)); err != nil {
		t.Fatal(err)
	}
	late := ended(1, 0, job.Succeeded, `"real"`)
	if err := h.Handle(t.Context(), late); !isElsewhere(err) || late.Keep == nil || late.Keep.Code != fate.Deadline || !late.Keep.Degraded {
		t.Fatalf("%v, keep %+v", err, late.Keep)
	}
	brokertest.Eventually(t, 5*time.Second, "the answer is cached", func() bool {
		cached, err := conn.Last(t.Context(), broker.CacheStream, broker.CacheSubject("k"))
		return err == nil && json.Valid(cached.Data)
	})
	if r, _ := stored(t, conn); string(r.Output) != `"canned"` {
		t.Errorf("stored %s", r.Output)
	}
}

func TestAResultDoesNotWaitForACacheThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	all, deaf := brokertest.Restricted(t, server.Permissions{
		Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.MSG.GET." + broker.CacheStream}},
	})
	conn := brokertest.Connect(t, all)
	brokertest.Ensure(t, conn, stage.Topology([]stage.Definition{Definition()}, broker.DefaultSizing()))
	waited := ended(1, 0, job.Succeeded, `"real"`)
	// So long ago that a newer answer may have been kept since.
	waited.History = []job.Event{{Kind: job.KindCall, At: time.Now().Add(-time.Minute)}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := handlerOn(t, brokertest.Connect(t, deaf)).Handle(ctx, waited); err != nil {
		t.Fatal(err)
	}
	if r, _ := stored(t, conn); string(r.Output) != `"real"` {
		t.Errorf("stored %s", r.Output)
	}
}

// A result that could not be stored for a while tells the time at which it was, not that at which it was made.
func TestAResultThatIsStoredAfterItsDeadlineSaysSoAndIsCounted(t *testing.T) {
	t.Parallel()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, stage.Topology([]stage.Definition{Definition()}, broker.DefaultSizing()))
	link := brokertest.Proxy(t, conn.NC.ConnectedUrl())
	registry := prometheus.NewRegistry()
	h, err := newWriter(&stage.Env{
		Conn: brokertest.Connect(t, link.URL()), Log: zerolog.Nop(), Metrics: registry,
		Tasks: &task.Set{Tasks: map[string]*task.Task{"toy": {Name: "toy"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	link.Cut()
	j := ended(1, 0, job.Succeeded, `"one"`)
	j.Deadline = time.Now().Add(500 * time.Millisecond).UTC()
	done := make(chan error, 1)
	go func() { done <- h.Handle(t.Context(), j) }()
	brokertest.Eventually(t, 10*time.Second, "the deadline passes", func() bool { return time.Since(j.Deadline) > 1500*time.Millisecond })
	link.Heal()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s, err := conn.Last(t.Context(), broker.ResultsStream, broker.ResultSubject("toy", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := stored(t, conn); !s.At.After(j.Deadline) || !r.Late {
		t.Errorf("stored %s after its deadline, late %v", s.At.Sub(j.Deadline), r.Late)
	}
	if n := missed(t, registry); n != 1 {
		t.Errorf("%g misses are counted", n)
	}
}

// The acknowledgement of a write may be lost: what is found then is the process's own result.
func TestAWriteWhoseAcknowledgementWasLostIsCountedOnce(t *testing.T) {
	t.Parallel()
	conn, h := bench(t)
	registry := prometheus.NewRegistry()
	w := h.(*writer)
	w.m = newMetrics(registry)
	j := ended(1, 0, job.Succeeded, `"one"`)
	j.Deadline = time.Now().Add(-time.Second).UTC()
	if err := h.Handle(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	s, err := conn.Last(t.Context(), broker.ResultsStream, broker.ResultSubject("toy", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if !isAmong([][]byte{[]byte("else"), s.Data}, s.Data) || isAmong([][]byte{[]byte("else")}, s.Data) {
		t.Error("an own try is not known again")
	}
	if err := h.Handle(t.Context(), ended(1, 0, job.Succeeded, `"one"`)); !isElsewhere(err) {
		t.Errorf("again: %v", err)
	}
	if n := missed(t, registry); n != 1 {
		t.Errorf("%g misses are counted", n)
	}
}

func missed(t *testing.T, registry *prometheus.Registry) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "spillway_deadlines_missed_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}
