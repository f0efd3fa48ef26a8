package task_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

func setOf(versions ...string) *task.Set {
	s := &task.Set{Tasks: map[string]*task.Task{}, Models: map[string]*task.Model{"small": {Name: "small", ID: "own"}}}
	for _, v := range versions {
		s.Tasks["toy"] = &task.Task{Name: "toy", Version: v}
	}
	return s
}

func naming(version string) *job.Job { return &job.Job{Task: "toy", TaskVersion: version} }

// versionFor is the version that a job is handled under that names one.
func versionFor(t *testing.T, b *task.Book, named string) string {
	t.Helper()
	got, err := b.For(t.Context(), naming(named))
	if err != nil {
		t.Fatal(err)
	}
	if got == nil {
		return "none"
	}
	return got.Version
}

func TestAJobIsHandledUnderTheVersionThatItNames(t *testing.T) {
	t.Parallel()
	b := task.NewBook(setOf("one"))
	asked := map[string]int{}
	b.SetFetch(func(_ context.Context, name, version string) (*task.Task, error) {
		asked[version]++
		if name == "toy" && version == "zero" {
			return &task.Task{Name: name, Version: version}, nil
		}
		return nil, fmt.Errorf("%s: %w", version, task.ErrNoVersion)
	})
	b.SetLive(setOf("two"), map[string]task.Pause{"toy": {By: "ann"}})
	for named, want := range map[string]string{"": "two", "two": "two", "one": "one", "zero": "zero", "gone": "two"} {
		for range 2 {
			if got := versionFor(t, b, named); got != want {
				t.Errorf("a job that names %q is handled under %s, not %s", named, got, want)
			}
		}
	}
	if asked["zero"] != 1 || asked["one"] != 0 || asked["two"] != 0 {
		t.Errorf("fetched %v", asked)
	}
	if p, ok := b.Paused("toy"); !ok || p.By != "ann" {
		t.Errorf("%+v, %t", p, ok)
	}
	if _, err := b.Version(t.Context(), "toy", "gone"); !errors.Is(err, task.ErrNoVersion) {
		t.Errorf("exactly a version that is gone: %v", err)
	}
	// Taken out: jobs in flight end under their versions, new ones are unknown.
	b.SetLive(setOf(), nil)
	if got, old := versionFor(t, b, ""), versionFor(t, b, "two"); got != "none" || old != "two" {
		t.Errorf("%s, %s", got, old)
	}
	if _, ok := b.Paused("toy"); ok {
		t.Error("it is still paused")
	}
}

func TestWithoutFetchingAnotherVersionIsTheLiveOne(t *testing.T) {
	t.Parallel()
	if got := versionFor(t, task.NewBook(setOf("one")), "zero"); got != "one" {
		t.Error(got)
	}
	if got := versionFor(t, task.NewBook(nil), "zero"); got != "none" {
		t.Error(got)
	}
}

func TestABrokerThatIsAwayIsNoReasonForTheLiveVersion(t *testing.T) {
	t.Parallel()
	b := task.NewBook(setOf("one"))
	away := errors.New("away")
	b.SetFetch(func(context.Context, string, string) (*task.Task, error) { return nil, away })
	if got, err := b.For(t.Context(), naming("zero")); !errors.Is(err, away) || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	// One that waits leaves when its own time is over; the fetch goes on for others.
	started, release := make(chan struct{}), make(chan struct{})
	b.SetFetch(func(_ context.Context, name, version string) (*task.Task, error) {
		close(started)
		<-release
		return &task.Task{Name: name, Version: version}, nil
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("left")
	go func() { <-started; cancel(left) }()
	if _, err := b.For(ctx, naming("zero")); !errors.Is(err, left) {
		t.Errorf("%v", err)
	}
	close(release)
	if got := versionFor(t, b, "zero"); got != "zero" {
		t.Error(got)
	}
}

func TestManyJobsOfAVersionFetchItOnce(t *testing.T) {
	t.Parallel()
	b := task.NewBook(setOf("one"))
	var fetches, waiting atomic.Int64
	release := make(chan struct{})
	b.SetFetch(func(_ context.Context, name, version string) (*task.Task, error) {
		fetches.Add(1)
		<-release
		return &task.Task{Name: name, Version: version}, nil
	})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			waiting.Add(1)
			if got := versionFor(t, b, "zero"); got != "zero" {
				t.Error(got)
			}
		})
	}
	brokertest.Eventually(t, 10*time.Second, "all wait", func() bool { return waiting.Load() == 50 && fetches.Load() > 0 })
	close(release)
	all.Wait()
	if n := fetches.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

func TestTheVersionThatNobodyAskedForLongestIsForgotten(t *testing.T) {
	t.Parallel()
	b := task.NewBook(setOf("live"))
	fetched := map[string]int{}
	b.SetFetch(func(_ context.Context, name, version string) (*task.Task, error) {
		fetched[version]++
		return &task.Task{Name: name, Version: version}, nil
	})
	for i := range 128 {
		versionFor(t, b, fmt.Sprint("v", i))
	}
	versionFor(t, b, "v0") // is asked for again
	versionFor(t, b, "one more")
	for _, version := range []string{"v0", "v2", "v127", "v1"} {
		versionFor(t, b, version)
	}
	if fetched["v0"] != 1 || fetched["v2"] != 1 || fetched["v127"] != 1 || fetched["v1"] != 2 {
		t.Errorf("v0 was fetched %d times, v2 %d, v127 %d, v1 %d", fetched["v0"], fetched["v2"], fetched["v127"], fetched["v1"])
	}
}

func TestAVersionsOwnEntryOfAModelCounts(t *testing.T) {
	t.Parallel()
	b := task.NewBook(setOf("one"))
	old := &task.Task{Name: "toy", Models: map[string]*task.Model{"small": {ID: "version's"}}}
	for want, got := range map[string]*task.Model{
		"version's": b.Model(old, "small"), "own": b.Model(&task.Task{}, "small"),
	} {
		if got == nil || got.ID != want {
			t.Errorf("%+v, not the %s", got, want)
		}
	}
	if got := b.Model(nil, "large"); got != nil {
		t.Errorf("%+v", got)
	}
}

func BenchmarkBookFor(b *testing.B) {
	for name, version := range map[string]string{"live": "two", "kept": "one"} {
		b.Run(name, func(b *testing.B) {
			book := task.NewBook(setOf("one"))
			book.SetLive(setOf("two"), nil)
			j := naming(version)
			b.ReportAllocs()
			for b.Loop() {
				if got, err := book.For(b.Context(), j); err != nil || got.Version != version {
					b.Fatal(got, err)
				}
			}
		})
	}
}

// Another Spillway may be rolled out, whose processes take a version that this one can not.
func TestAJobWhoseVersionDoesNotLoadHereIsLeftToOthersAndThenHandledUnderTheLiveOne(t *testing.T) {
	t.Parallel()
	b, fetched := task.NewBook(setOf("two")), 0
	b.SetFetch(func(context.Context, string, string) (*task.Task, error) {
		fetched++
		return nil, fmt.Errorf("version one %w: unknown key", task.ErrUnfit)
	})
	j, waited := naming("one"), time.Duration(0)
	got, err := b.For(t.Context(), j)
	for ; err != nil; got, err = b.For(t.Context(), j) {
		f := fate.Of(err)
		if f.Fate != fate.Retry || !f.Waits() || waited > 30*time.Second {
			t.Fatalf("after %s: %v", waited, err)
		}
		waited += f.After
		j.History = []job.Event{{Kind: job.KindHop, Stage: "validator", Fate: f.Fate.String(), Detail: f.Message, N: int(waited / f.After)}}
	}
	if got == nil || got.Version != "two" || waited < 5*time.Second || waited > 10*time.Second {
		t.Errorf("%+v after %s", got, waited)
	}
	if fetched > 3 {
		t.Errorf("fetched %d times", fetched)
	}
	got.Sign(j, "validator")
	j.History = append(j.History, job.Event{Kind: job.KindHop, Stage: "validator"})
	if got, err = b.For(t.Context(), j); err != nil || got.Version != "two" {
		t.Errorf("the next stage waits again: %v", err)
	}
	if _, err := b.Version(t.Context(), "toy", "one"); !errors.Is(err, task.ErrUnfit) {
		t.Errorf("exactly that version: %v", err)
	}
}
