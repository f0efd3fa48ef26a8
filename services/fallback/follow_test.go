package fallback

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// watching is a fallback that only keeps its deadline index.
func watching(t *testing.T, conn *broker.Conn) *fallback {
	t.Helper()
	m := newMetrics(nil)
	f := &fallback{conn: conn, index: newIndex(m), m: m, log: zerolog.Nop()}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return f
}

func marker(id string, run int) *job.Marker {
	return &job.Marker{V: job.Version, ID: id, Task: "toy", Run: run, AnswerBy: time.Now().Add(time.Hour).UTC()}
}

// unlabelled stores a marker as an earlier version did.
func unlabelled(t *testing.T, conn *broker.Conn, m *job.Marker) {
	t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Publish(t.Context(), &nats.Msg{Subject: broker.AdmittedSubject(m.ID), Data: body}); err != nil {
		t.Fatal(err)
	}
}

func labelled(t *testing.T, conn *broker.Conn, m *job.Marker) {
	t.Helper()
	if _, err := conn.Admit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// has reports whether the index waits for the run at its marker's time.
func (x *index) has(m *job.Marker) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.byID[m.ID]
	return ok && int(e.run) == m.Run && e.answerBy == m.AnswerBy.UnixNano()
}

func TestMarkersOfAnEarlierVersionAreWatchedToo(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(*testing.T, *broker.Conn, *job.Marker){"headers only": labelled, "bodies": unlabelled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			oldest, stored, later, newest := marker("a", 1), marker("b", 2), marker("c", 2), marker("d", 1)
			first(t, b.conn, oldest)
			unlabelled(t, b.conn, stored)
			f := watching(t, b.conn)
			brokertest.Eventually(t, 5*time.Second, "the index is complete", func() bool { return f.Unready() == "" })
			if !f.index.has(oldest) || !f.index.has(stored) {
				t.Error("complete, and a stored marker is not watched")
			}
			unlabelled(t, b.conn, later)
			labelled(t, b.conn, newest)
			brokertest.Eventually(t, 5*time.Second, "those that come later are watched", func() bool { return f.index.has(later) && f.index.has(newest) })
		})
	}
}

func TestTheIndexDoesNotWaitForWhatIsTooOldToBeRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	labelled(t, b.conn, marker("a", 1))
	f := b.handler.(*fallback)
	ctx, cancel := context.WithTimeout(t.Context(), quietFor/2)
	defer cancel()
	markers, err := f.consume(ctx, broker.AdmittedStream, true, time.Now().Add(time.Hour), func(jetstream.Msg) error { return nil })
	if err != nil {
		t.Fatalf("nothing is left to read, and it waits: %v", err)
	}
	markers.stop()
}

// A consumer that goes on behind its last sequence hears nothing of a stream that counts from one again.
func TestTheIndexFollowsAStreamThatWasMadeAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	link := brokertest.Proxy(t, b.conn.NC.ConnectedUrl())
	for _, id := range []string{"a", "b", "c"} {
		labelled(t, b.conn, marker(id, 1))
	}
	f := watching(t, brokertest.Connect(t, link.URL()))
	brokertest.Eventually(t, 5*time.Second, "the index is complete", func() bool { return f.index.size() == 3 })
	link.Cut()
	s, err := b.conn.JS.Stream(t.Context(), broker.AdmittedStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.conn.JS.DeleteStream(t.Context(), broker.AdmittedStream); err != nil {
		t.Fatal(err)
	}
	if _, err := b.conn.JS.CreateStream(t.Context(), s.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	link.Heal()
	m := marker("d", 1)
	labelled(t, b.conn, m)
	brokertest.Eventually(t, anewEvery+5*time.Second, "what has an old sequence again is watched", func() bool { return f.index.has(m) })
}

func TestARunWhoseAnsweringPanicsIsTriedAgain(t *testing.T) {
	t.Parallel()
	m := newMetrics(nil)
	f := &fallback{index: newIndex(m), m: m, log: zerolog.Nop()} // without a connection there is nothing to read from
	f.keepDeadline(t.Context(), entry{id: "a", run: 3})
	runs, _ := f.index.due(time.Now().Add(panickedAgain), 1)
	if len(runs) != 1 || runs[0].id != "a" || runs[0].run != 3 {
		t.Errorf("due again: %+v", runs)
	}
}
