package fallback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/job"
	"spillway/pkg/stage"
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

func TestATimeThatNoRunCanHaveIsNotBelieved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	absurd := []string{"0001-01-01T00:00:00Z", "2300-01-01T00:00:00Z", "9999-01-01T00:00:00Z"}
	m, never := marker("", 1), marker("", 1)
	never.AnswerBy = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, header := range absurd {
		m.ID, never.ID = fmt.Sprint("header", i), fmt.Sprint("both", i)
		stored(t, b.conn, m.ID, header, encoded(t, m))
		stored(t, b.conn, never.ID, header, encoded(t, never))
	}
	f := watching(t, b.conn)
	brokertest.Eventually(t, 5*time.Second, "the index is complete", func() bool { return f.Unready() == "" })
	for i := range absurd {
		if m.ID = fmt.Sprint("header", i); !f.index.has(m) {
			t.Errorf("%s does not wait for the time of its marker", m.ID)
		}
	}
	for _, after := range []time.Duration{longestDeadline - time.Minute, longestDeadline} { // the former, then the latter
		if runs, _ := f.index.due(time.Now().Add(after), 10); len(runs) != len(absurd) {
			t.Errorf("%d are due after %s", len(runs), after)
		}
	}
}

func TestAMarkerThatCannotBeReadIsReadAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.conn.Publish(t.Context(), &nats.Msg{Subject: broker.AdmittedSubject("a"), Data: []byte(`{"v":"x"}`)}); err != nil {
		t.Fatal(err)
	}
	f := watching(t, b.conn)
	brokertest.Eventually(t, 5*time.Second, "it is tried again", func() bool {
		f.index.mu.Lock()
		defer f.index.mu.Unlock()
		e, ok := f.index.byID["a"]
		return ok && e.run == anyRun && e.answerBy > time.Now().UnixNano()
	})
	m := marker("a", 1)
	unlabelled(t, b.conn, m)
	brokertest.Eventually(t, panickedAgain+5*time.Second, "once it can be read, it is watched", func() bool { return f.index.has(m) })
}

func TestTheLongestDeadlineIsLookedBackFor(t *testing.T) {
	t.Parallel()
	if back := longestRun; back <= longestDeadline { // task.maxDeadline
		t.Errorf("markers are read from %s back, runs last %s", longestRun, longestDeadline)
	}
}

func TestAStreamIsCutWhenItWasMadeAnewOrIsShorter(t *testing.T) {
	t.Parallel()
	made := time.Now()
	cut := &tail{created: made}
	for _, c := range []struct {
		created time.Time
		last    uint64
		want    bool
	}{{made, 7, false}, {made, 8, false}, {made, 6, true}, {made.Add(time.Second), 9, true}} {
		info := &jetstream.StreamInfo{Created: c.created, State: jetstream.StreamState{LastSeq: c.last}}
		if got := cut.isCut(info, 7); got != c.want {
			t.Errorf("a stream of %s that ends with %d: %v", c.created, c.last, got)
		}
	}
}

// The connection stays, so that only the look at the stream can tell.
func TestAStreamThatIsMadeAnewIsNoticedWithoutAReconnect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	labelled(t, b.conn, marker("a", 1))
	f := watching(t, b.conn)
	brokertest.Eventually(t, 5*time.Second, "the index is complete", func() bool { return f.Unready() == "" && f.index.size() == 1 })
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
	m := marker("b", 1)
	labelled(t, b.conn, m)
	brokertest.Eventually(t, anewEvery+5*time.Second, "what has an old sequence again is watched", func() bool { return f.index.has(m) })
}

// A server that lost its last second has as many new markers before this process is back on it.
func TestWhatTookThePlaceOfALostTailIsWatched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, old := filepath.Join(dir, "store"), filepath.Join(dir, "old")
	port := -1
	up := func() *embedded.Server {
		s, err := embedded.Start(embedded.Options{Port: port, Store: store, Sync: time.Second, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		return s
	}
	s := up()
	port = portOf(t, s)
	conn := brokertest.Connect(t, s.URL())
	brokertest.Ensure(t, conn, stage.Topology([]stage.Definition{Definition()}, broker.DefaultSizing()))
	ended := marker("ended", 1)
	labelled(t, conn, ended)
	written(t, conn, ended.ID, 100)
	s.Stop()
	if err := os.CopyFS(old, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	s = up()
	link := brokertest.Proxy(t, s.URL())
	labelled(t, conn, marker("lost", 1))
	f := watching(t, brokertest.Connect(t, link.URL()))
	brokertest.Eventually(t, 10*time.Second, "the index is complete", func() bool { return f.Unready() == "" && f.index.size() == 1 })
	link.Cut()
	s.Stop()
	if err := errors.Join(os.RemoveAll(store), os.Rename(old, store)); err != nil {
		t.Fatal(err)
	}
	up()
	first, second := marker("first", 1), marker("second", 1)
	labelled(t, conn, first)
	labelled(t, conn, second)
	link.Heal()
	brokertest.Eventually(t, 20*time.Second, "both are watched", func() bool {
		if f.Unready() != "" {
			t.Fatal("this process may not stand in any more")
		}
		return f.index.has(first) && f.index.has(second)
	})
	if f.index.has(ended) {
		t.Error("a run that has its result is watched again")
	}
}

func portOf(t *testing.T, s *embedded.Server) int {
	t.Helper()
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// written stores a result of a first run, of a size.
func written(t *testing.T, conn *broker.Conn, id string, bytes int) {
	t.Helper()
	m := &nats.Msg{Subject: broker.WriteSubject("toy", id), Data: make([]byte, bytes), Header: nats.Header{broker.RunHeader: {"1"}}}
	if _, err := conn.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func TestARunWhoseResultMayHaveLeftIsCountedAndNotAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ahead, over := marker("ahead", 1), marker("over", 1)
	over.AnswerBy = time.Now().Add(-time.Second).UTC()
	labelled(t, b.conn, ahead)
	labelled(t, b.conn, over)
	s, err := b.conn.JS.Stream(t.Context(), broker.ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxBytes = 64 << 10
	if _, err := b.conn.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		written(t, b.conn, fmt.Sprint("r", i), 1000)
	}
	later := marker("later", 1)
	labelled(t, b.conn, later)
	f := b.handler.(*fallback)
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() { _ = f.follow(ctx) })
	brokertest.Eventually(t, 5*time.Second, "the index is complete", func() bool { return f.Unready() == "" })
	stop()
	following.Wait()
	if !f.index.has(ahead) || f.index.has(over) || !f.index.has(later) || f.index.byID["later"].unsure {
		t.Fatalf("%d are watched", f.index.size())
	}
	e := *f.index.byID["ahead"]
	ahead.AnswerBy = time.Now().UTC()
	stored(t, b.conn, "ahead", ahead.AnswerBy.Format(time.RFC3339Nano), encoded(t, ahead))
	if err := f.answerOverdue(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if n := counted(t, f.m.unknown); n != 1 || counted(t, f.m.overdue) != 0 {
		t.Errorf("counted %v; or answered", n)
	}
}

func TestResultsThatLeaveByTheirAgeLeaveNoRunUnknownThatIsYetToEnd(t *testing.T) {
	t.Parallel()
	now := time.Now()
	first := now.Add(-time.Hour)
	for name, c := range map[string]struct {
		config jetstream.StreamConfig
		bytes  uint64
		want   kept
	}{
		"for ever":         {jetstream.StreamConfig{MaxBytes: -1, MaxMsgs: -1}, 1 << 30, kept{}},
		"a day":            {jetstream.StreamConfig{MaxAge: 24 * time.Hour, MaxBytes: 1000}, 800, kept{since: now.Add(-24*time.Hour + 86400*time.Millisecond)}},
		"less":             {jetstream.StreamConfig{MaxAge: 1000 * time.Second}, 800, kept{now.Add(-999 * time.Second), now.Add(-999 * time.Second)}},
		"near their bound": {jetstream.StreamConfig{MaxAge: 24 * time.Hour, MaxBytes: 1000}, 900, kept{first, first}},
	} {
		got := keptOf(&jetstream.StreamInfo{Config: c.config, State: jetstream.StreamState{Bytes: c.bytes, FirstTime: first}}, now)
		if !got.since.Equal(c.want.since) || !got.sure.Equal(c.want.sure) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
