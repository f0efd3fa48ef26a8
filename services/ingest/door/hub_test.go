package door

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
)

// hears waits for the next events, and returns their bodies.
func hears(t *testing.T, l *listener) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	events, err := l.next(ctx)
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	var bodies []string
	for _, e := range events {
		bodies = append(bodies, string(e.msg.Data))
	}
	return bodies
}

// hearsUntil collects bodies until one is last.
func hearsUntil(t *testing.T, l *listener, last string) []string {
	t.Helper()
	var all []string
	for !slices.Contains(all, last) {
		all = append(all, hears(t, l)...)
	}
	return all
}

func TestAListenerHearsOfItsJobAndOfNoOther(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	h := w.hub(w.conn)
	one, other := h.watchJob("a"), h.watchJob("b")
	again := h.watchJob("a")
	w.tell("llm.progress.toy.a", nil, `{"id":"a","hop":1}`)
	w.tell("llm.progress.toy.b", nil, `{"id":"b","hop":1}`)
	w.tell("llm.delta.toy.a", nil, `draft a`)
	w.store("llm.write.toy.a", nil, `result a`)
	w.store("llm.write.toy.b", nil, `result b`)
	// The three subscriptions are not in step with one another.
	for name, l := range map[string]*listener{"one": one, "again": again} {
		got := hearsUntil(t, l, "result a")
		for len(got) < 3 {
			got = append(got, hears(t, l)...)
		}
		slices.Sort(got)
		if strings.Join(got, "|") != `draft a|result a|{"id":"a","hop":1}` {
			t.Errorf("%s heard %q", name, got)
		}
	}
	got := hearsUntil(t, other, "result b")
	for len(got) < 2 {
		got = append(got, hears(t, other)...)
	}
	slices.Sort(got)
	if strings.Join(got, "|") != `result b|{"id":"b","hop":1}` {
		t.Errorf("the other heard %q", got)
	}
	one.close()
	one.close()
	again.close()
	other.close()
	if len(h.jobs) != 0 || h.waiting != 0 {
		t.Errorf("%d listeners are left, %d are counted", len(h.jobs), h.waiting)
	}
}

func TestASessionOfTheSameNameIsAnotherTenants(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	h := w.hub(w.conn)
	acme, other := h.watchSession("acme", "s"), h.watchSession("other", "s")
	w.store("llm.write.toy.a", whose("acme", "s"), "of acme")
	w.store("llm.write.toy.n", nil, "of nobody")
	w.store("llm.write.toy.t", whose("acme", "t"), "of another session")
	w.store("llm.write.toy.b", whose("other", "s"), "of other")
	if got := hearsUntil(t, other, "of other"); len(got) != 1 {
		t.Errorf("other heard %q", got)
	}
	if got := hears(t, acme); len(got) != 1 || got[0] != "of acme" {
		t.Errorf("acme heard %q", got)
	}
	if got := h.recent.of(session{"acme", "s"}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("acme's session has %q", got)
	}
	if got := h.recent.of(session{"other", "s"}); !slices.Equal(got, []string{"b"}) {
		t.Errorf("other's session has %q", got)
	}
}

func TestWhoDoesNotReadLosesDraftsButNoResult(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	h := w.hub(w.conn)
	slow, fence := h.watchJob("a"), h.watchJob("z")
	w.store("llm.write.toy.a", nil, "result")
	for range 50 {
		w.tell("llm.delta.toy.a", nil, strings.Repeat("x", 100_000))
	}
	w.tell("llm.delta.toy.z", nil, "last")
	hearsUntil(t, fence, "last")
	hearsUntil(t, h.heardResult(w, "y"), "result of y")
	events, err := slow.take()
	if err != nil || !slow.lagged() || slow.lagged() {
		t.Errorf("the listener does not know that it lagged: %v", err)
	}
	bytes := 0
	for _, e := range events {
		bytes += len(e.msg.Data)
	}
	if bytes > 1<<20 || !slices.ContainsFunc(events, func(e event) bool { return string(e.msg.Data) == "result" }) {
		t.Errorf("%d events with %d bytes waited", len(events), bytes)
	}
}

// heardResult stores a result that comes after all that were stored before, and listens for it.
func (h *hub) heardResult(w *wire, id string) *listener {
	l := h.watchJob(id)
	w.store("llm.write.toy."+id, nil, "result of "+id)
	return l
}

func TestWhoDoesNotReadResultsIsCut(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	h := w.hub(w.conn)
	slow := h.watchSession("acme", "s")
	for i := range 300 {
		w.store(fmt.Sprintf("llm.write.toy.j%d", i), whose("acme", "s"), "result")
	}
	hearsUntil(t, h.heardResult(w, "y"), "result of y")
	if events, err := slow.take(); !errors.Is(err, errSlow) || len(events) != 0 {
		t.Errorf("%d events wait, %v", len(events), err)
	}
	if ids := h.recent.of(session{"acme", "s"}); len(ids) != 64 || ids[63] != "j299" {
		t.Errorf("the session has %d jobs: %q", len(ids), ids)
	}
}

func TestALostConnectionMakesAllReadAnew(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	link := brokertest.Proxy(t, w.url)
	own := brokertest.Connect(t, link.URL())
	h := w.hub(own)
	job, of := h.watchJob("a"), h.watchSession("acme", "s")
	link.Cut()
	w.store("llm.write.toy.a", whose("acme", "s"), "missed")
	link.Heal()
	for _, l := range []*listener{job, of} {
		if got := hears(t, l); len(got) != 0 || !l.lagged() {
			t.Errorf("heard %q and does not know that it lagged", got)
		}
	}
	if err := own.NC.Flush(); err != nil { // as whoever reads anew does
		t.Fatal(err)
	}
	w.store("llm.write.toy.b", whose("acme", "s"), "heard")
	if got := hears(t, of); len(got) != 1 || got[0] != "heard" {
		t.Errorf("after the reconnect: %q", got)
	}
}

func TestTheLastProgressIsKnownUntilTheResult(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	h := w.hub(w.conn)
	l := h.watchJob("a")
	for _, body := range []string{
		`{"id":"a","task":"toy","run":1,"hop":1,"stage":"ingest","to":"context-builder"}`,
		`{"id":"a","task":"toy","run":1,"hop":2,"stage":"context-builder","to":"inference"}`,
		`{"id":"a","task":"toy","run":1,"stage":"ingest","event":"duplicate"}`, // of a repeated request, not of the job
	} {
		w.tell("llm.progress.toy.a", nil, body)
	}
	w.tell("llm.progress.toy.z", nil, `{"hop":9}`)
	hearsUntil(t, l, `{"id":"a","task":"toy","run":1,"hop":2,"stage":"context-builder","to":"inference"}`)
	brokertest.Eventually(t, 10*time.Second, "all is heard", func() bool { _, ok := h.lastProgress("z"); return ok })
	if p, ok := h.lastProgress("a"); !ok || p.Hop != 2 || p.To != "inference" {
		t.Errorf("%v %+v", ok, p)
	}
	if events, _ := l.take(); len(events) != 0 {
		t.Errorf("the job's listener was told what a repeated request is told")
	}
	w.store("llm.write.toy.a", nil, "result")
	hearsUntil(t, l, "result")
	if p, ok := h.lastProgress("a"); ok {
		t.Errorf("there is a result, yet %+v", p)
	}
}

func TestProgressOfMoreJobsThanAreKeptIsForgottenOldestFirst(t *testing.T) {
	t.Parallel()
	l := newLastHeard()
	const n = 3 * maxLastHeard
	for i := range n {
		l.put(fmt.Sprint(i), []byte("x"))
	}
	l.put("large", make([]byte, 1<<20))
	known := 0
	for i := range n {
		if _, ok := l.get(fmt.Sprint(i)); ok {
			known++
		} else if i >= n-maxLastHeard {
			t.Fatalf("%d of %d is forgotten", i, n)
		}
	}
	if _, ok := l.get("large"); ok || known > 2*maxLastHeard {
		t.Errorf("%d are known", known)
	}
}

func TestSessionsOfBeforeAreKnownAndTheirConsumerIsNotKept(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	for i := range 70 {
		w.store(fmt.Sprintf("llm.admitted.j%02d", i), whose("acme", "s"), `{}`)
	}
	w.store("llm.admitted.other", whose("other", "s"), `{}`)
	w.store("llm.admitted.none", nil, `{}`)
	h := w.hub(w.conn)
	<-h.filled
	ids := h.recent.of(session{"acme", "s"})
	if len(ids) != 64 || ids[0] != "j06" || ids[63] != "j69" {
		t.Errorf("%d jobs: %q", len(ids), ids)
	}
	if ids := h.recent.of(session{"other", "s"}); !slices.Equal(ids, []string{"other"}) {
		t.Errorf("the other tenant's: %q", ids)
	}
	s, err := w.conn.JS.Stream(t.Context(), "LLM_ADMITTED")
	if err != nil {
		t.Fatal(err)
	}
	if s.CachedInfo().State.Consumers != 0 {
		t.Errorf("%d consumers are left", s.CachedInfo().State.Consumers)
	}
}

func TestTheHubNeedsNoJetStreamConsumer(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	h := w.hub(w.conn)
	<-h.filled
	for i := range 100 {
		h.watchJob(fmt.Sprint(i))
	}
	for info := range w.conn.JS.ListStreams(t.Context()).Info() {
		if info.State.Consumers != 0 {
			t.Errorf("%s has %d consumers", info.Config.Name, info.State.Consumers)
		}
	}
}

func TestWhatIsKnownOfSessionsIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 0)
	r := newRecent()
	r.now = func() time.Time { return now }
	for i := range maxRecentJobs + 1000 {
		r.note(session{"t", fmt.Sprint(i / 10)}, fmt.Sprint(i), now)
	}
	if r.jobs > maxRecentJobs || len(r.sessions) > maxRecentJobs/10 || r.order.Len() != len(r.sessions) {
		t.Errorf("%d jobs of %d sessions are known", r.jobs, len(r.sessions))
	}
	if got := r.of(session{"t", "0"}); got != nil {
		t.Errorf("the oldest session is known: %q", got)
	}
	now = now.Add(14 * time.Minute)
	r.note(session{"t", "5050"}, "late", now)
	now = now.Add(2 * time.Minute)
	if got := r.of(session{"t", "5050"}); len(got) != 11 || got[10] != "late" || r.jobs != 11 {
		t.Errorf("%q, %d jobs in all", got, r.jobs)
	}
}

func TestWhoWaitsAtAHubThatClosesIsTold(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	h := w.hub(w.conn)
	l := h.watchJob("a")
	h.close()
	if _, err := l.next(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("before: %v", err)
	}
	if _, err := h.watchJob("b").next(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("after: %v", err)
	}
}

func TestWhoLeavesTakesNobodyWithHim(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	h := w.hub(w.conn)
	for _, leaving := range [][]int{{0}, {1}, {2}, {0, 1}, {2, 1}, {0, 2}, {1, 0, 2}, {2, 2, 0}} {
		id := "of" + strings.Trim(strings.ReplaceAll(fmt.Sprint(leaving), " ", ""), "[]")
		all := []*listener{h.watchJob(id), h.watchJob(id), h.watchJob(id)}
		for _, n := range leaving {
			all[n].close()
		}
		w.tell("llm.delta.toy."+id, nil, "draft")
		for n, l := range all {
			if slices.Contains(leaving, n) {
				continue
			}
			if got := hears(t, l); len(got) != 1 || got[0] != "draft" {
				t.Errorf("%v left, %d hears %q", leaving, n, got)
			}
			l.close()
		}
		if h.jobs[id] != nil {
			t.Errorf("%v left, and somebody is still there", leaving)
		}
	}
}

func TestThatManyListenToTheSameMakesLeavingNoSlower(t *testing.T) {
	t.Parallel()
	const many = 60_000
	w := newWire(t)
	h := w.hub(w.conn)
	leave := func(name func(int) string) time.Duration {
		all := make([]*listener, many)
		for n := range all {
			all[n] = h.watchJob(name(n))
		}
		began := time.Now()
		for _, l := range all { // the oldest first
			l.close()
		}
		return time.Since(began)
	}
	apart, together := leave(func(n int) string { return fmt.Sprint(n) }), leave(func(int) string { return "one" })
	if together > 20*apart {
		t.Errorf("of one job they need %s, of many %s", together, apart)
	}
}
