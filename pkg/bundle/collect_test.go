package bundle_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/bundle"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// history has six versions of toy, the last one live.
type history struct {
	t        *testing.T
	conn     *broker.Conn
	store    *bundle.Store
	versions []string
}

func newHistory(t *testing.T, words ...string) *history {
	t.Helper()
	h := &history{t: t}
	h.conn, h.store = setup(t)
	for _, word := range words {
		b := bundleOf(toy(t, word))
		if _, live, err := h.store.Push(t.Context(), bundle.Push{Bundle: b, By: "test", How: bundle.HowPush}); err != nil || !live {
			t.Fatalf("push %s: live %v, %v", word, live, err)
		}
		h.versions = append(h.versions, b.Version)
	}
	return h
}

// collect collects until nothing more goes, hour by hour, a day after now, and returns which versions went, by number.
func (h *history) collect(c *bundle.Collector) (gone []int) {
	h.t.Helper()
	for hour := range 3 {
		names, err := c.Collect(h.t.Context(), time.Now().Add(26*time.Hour+time.Duration(hour)*time.Hour))
		if err != nil {
			h.t.Fatal(err)
		}
		for _, n := range names {
			if n.Task != "toy" {
				h.t.Errorf("collected %v", n)
			}
			gone = append(gone, slices.Index(h.versions, n.Version)+1)
		}
	}
	slices.Sort(gone)
	return gone
}

// stored are the versions that can be fetched, by number.
func (h *history) stored() (numbers []int) {
	h.t.Helper()
	for n, version := range h.versions {
		_, err := h.store.Get(h.t.Context(), "toy", version)
		if err == nil {
			numbers = append(numbers, n+1)
		} else if !errors.Is(err, task.ErrNoVersion) {
			h.t.Error(err)
		}
	}
	return numbers
}

func (h *history) put(subject string, header nats.Header) {
	h.t.Helper()
	if _, err := h.conn.Publish(h.t.Context(), &nats.Msg{Subject: subject, Header: header, Data: []byte(`{}`)}); err != nil {
		h.t.Fatal(err)
	}
}

// admit takes the marker of a run under the n-th version.
func (h *history) admit(id string, n, run int) {
	h.t.Helper()
	m := &job.Marker{V: 1, ID: id, Task: "toy", TaskVersion: h.versions[n-1], Run: run, AnswerBy: time.Now().Add(time.Hour)}
	if _, err := h.conn.Admit(h.t.Context(), m); err != nil {
		h.t.Fatal(err)
	}
}

// finish stores the result of a run under the n-th version.
func (h *history) finish(id string, n int, run string) {
	h.t.Helper()
	h.put("llm.write.toy."+id, nats.Header{"Spillway-Run": {run}, "Spillway-Task-Version": {h.versions[n-1]}})
}

func TestVersionsThatNothingNamesAreCollected(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		do   func(h *history)
		gone []int
	}{
		"the live one and the three before stay": {func(*history) {}, []int{1, 2}},
		"one of an unfinished job stays":         {func(h *history) { h.admit("a", 1, 1) }, []int{2}},
		"one of an unfinished replay stays": {func(h *history) {
			h.finish("a", 2, "1")
			h.admit("a", 1, 2)
		}, nil},
		"one of a result stays": {func(h *history) {
			h.admit("a", 2, 1)
			h.finish("a", 2, "1")
		}, []int{1}},
		"one of a result that was superseded goes": {func(h *history) {
			h.finish("a", 2, "1")
			h.finish("a", 6, "2")
		}, []int{1, 2}},
		"one of a dead letter stays": {func(h *history) {
			h.put("llm.dead.inference.toy.a", nats.Header{"Spillway-Task-Version": {h.versions[0]}})
		}, []int{2}},
		"that of another task of the same version says nothing": {func(h *history) {
			h.put("llm.dead.inference.other.a", nats.Header{"Spillway-Task-Version": {h.versions[0]}})
		}, []int{1, 2}},
		"one that was live again stays": {func(h *history) {
			if _, _, err := h.store.Rollback(h.t.Context(), "toy", h.versions[0], "test"); err != nil {
				h.t.Fatal(err)
			}
		}, []int{2, 3}},
		"of a task that was taken out the last three stay": {func(h *history) {
			if err := h.store.Remove(h.t.Context(), "toy", "test"); err != nil {
				h.t.Fatal(err)
			}
		}, []int{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, "one", "two", "three", "four", "five", "six")
			row.do(h)
			gone := h.collect(bundle.NewCollector(h.store))
			if !slices.Equal(gone, row.gone) {
				t.Errorf("%v went, want %v", gone, row.gone)
			}
			stayed := slices.DeleteFunc([]int{1, 2, 3, 4, 5, 6}, func(n int) bool { return slices.Contains(row.gone, n) })
			if got := h.stored(); !slices.Equal(got, stayed) {
				t.Errorf("%v are stored, want %v", got, stayed)
			}
			r, _, err := h.store.Record(t.Context(), "toy")
			if err != nil || len(r.Versions) != len(stayed) {
				t.Errorf("the record knows %+v, %v", r, err)
			}
		})
	}
}

func TestAVersionIsCollectedADayAfterItWasLeftAndAnHourAfterTheRecordForgotIt(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "one", "two", "three", "four", "five")
	c := bundle.NewCollector(h.store)
	now := time.Now()
	for _, step := range []struct {
		after time.Duration
		gone  int
		known bool
	}{{24 * time.Hour, 0, true}, {25*time.Hour + time.Minute, 0, false}, {25*time.Hour + 2*time.Minute, 0, false}, {25*time.Hour + 50*time.Minute, 0, false}, {26*time.Hour + 3*time.Minute, 1, false}} {
		gone, err := c.Collect(t.Context(), now.Add(step.after))
		r, _, recordErr := h.store.Record(t.Context(), "toy")
		if err != nil || recordErr != nil || len(gone) != step.gone || (r.Known(h.versions[0]) != nil) != step.known {
			t.Fatalf("after %s: %v went, %v; the record knows %v, %v", step.after, gone, err, r.Versions, recordErr)
		}
	}
}

func TestAVersionThatIsMadeLiveAgainAfterItsRecordForgotItStays(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "one", "two", "three", "four", "five")
	c, now := bundle.NewCollector(h.store), time.Now()
	for _, after := range []time.Duration{26 * time.Hour, 26*time.Hour + time.Minute} {
		if _, err := c.Collect(t.Context(), now.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	if _, live, err := h.store.Push(t.Context(), bundle.Push{Bundle: bundleOf(toy(t, "one")), By: "test", How: bundle.HowPush}); err != nil || !live {
		t.Fatal(live, err)
	}
	if gone, err := c.Collect(t.Context(), now.Add(28*time.Hour)); err != nil || slices.Contains(gone, bundle.Name{Task: "toy", Version: h.versions[0]}) {
		t.Errorf("%v went, %v", gone, err)
	}
	if got := h.stored(); !slices.Contains(got, 1) {
		t.Errorf("%v are stored", got)
	}
}

func TestAVersionThatIsPushedWhileItIsCollectedIsThereInTheEnd(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "one", "two", "three", "four", "five")
	c, now := bundle.NewCollector(h.store), time.Now().Add(26*time.Hour)
	push := func(word string) {
		if _, live, err := h.store.Push(t.Context(), bundle.Push{Bundle: bundleOf(toy(t, word)), By: "test", How: bundle.HowPush}); err != nil || !live {
			t.Errorf("push %s: live %v, %v", word, live, err)
		}
	}
	for round := range 20 {
		for _, after := range []time.Duration{0, time.Minute} { // the record forgets it, then it is seen to be forgotten
			if _, err := c.Collect(t.Context(), now.Add(after)); err != nil {
				t.Fatal(err)
			}
		}
		var pushing sync.WaitGroup
		pushing.Go(func() { push("one") })
		if _, err := c.Collect(t.Context(), now.Add(2*time.Hour)); err != nil {
			t.Error(err)
		}
		pushing.Wait()
		if got := h.stored(); !slices.Contains(got, 1) {
			t.Fatalf("round %d: what is live is not stored, %v are", round, got)
		}
		for _, word := range []string{"two", "three", "four", "five"} {
			push(word)
		}
		now = now.Add(3 * time.Hour)
	}
}

func TestAProcessThatStartsWithACollectedVersionTakesNothingBack(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "one", "two", "three", "four", "five")
	if gone := h.collect(bundle.NewCollector(h.store)); !slices.Equal(gone, []int{1}) {
		t.Fatalf("%v went", gone)
	}
	old := bundle.Push{Bundle: bundleOf(toy(t, "one")), By: "replica", How: bundle.HowStart, OnlyNew: true}
	if rec, live, err := h.store.Push(t.Context(), old); err != nil || live || rec.Live != h.versions[4] {
		t.Errorf("live %v, %+v, %v", live, rec, err)
	}
}

func TestNothingIsCollectedWhileARecordCannotBeRead(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "one", "two", "three", "four", "five")
	h.put("$KV.llm_versions.other", nil)
	if _, err := bundle.NewCollector(h.store).Collect(t.Context(), time.Now().Add(48*time.Hour)); err == nil {
		t.Error("it was not said")
	}
	if r, _, err := h.store.Record(t.Context(), "toy"); err != nil || len(r.Versions) != 5 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestJobsInFlightAreCountedByTheirVersion(t *testing.T) {
	t.Parallel()
	h := newHistory(t, "one", "two")
	if counts, err := h.store.InFlight(t.Context(), time.Now()); err != nil || len(counts) != 0 {
		t.Fatalf("of none: %v, %v", counts, err)
	}
	for n := range 7 {
		h.admit(fmt.Sprintf("a%d", n), 1+n%2, 1) // four under the first, three under the second
	}
	h.finish("a0", 1, "1")
	h.finish("a1", 2, "1")
	h.finish("b", 2, "1") // not admitted here
	// A replay of one that has its result, under the other version; its old result is there still.
	m, sequence, err := h.conn.Marker(t.Context(), "a0")
	if err != nil {
		t.Fatal(err)
	}
	m.Run, m.TaskVersion = 2, h.versions[1]
	if err := h.conn.Readmit(t.Context(), m, sequence); err != nil {
		t.Fatal(err)
	}
	late := &job.Marker{V: 1, ID: "late", Task: "toy", TaskVersion: h.versions[0], Run: 1, AnswerBy: time.Now().Add(-time.Second)}
	if _, err := h.conn.Admit(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	counts, err := h.store.InFlight(t.Context(), time.Now())
	first, second := bundle.Name{Task: "toy", Version: h.versions[0]}, bundle.Name{Task: "toy", Version: h.versions[1]}
	if err != nil || len(counts) != 2 || counts[first] != 3 || counts[second] != 3 {
		t.Errorf("%v, %v; want 3 and 3", counts, err)
	}
}
