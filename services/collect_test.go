package services_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/bundle"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// evolving is a pipeline whose task changes while it runs and whose old versions are collected at once, as if each
// minute were a day.
type evolving struct {
	*rig
	parrot *parrot
	store  *bundle.Store
	books  []*task.Book

	mu sync.Mutex
	// gone is when a version's bundle was known to be removed.
	gone map[string]time.Time
}

// runFollowing runs every stage on a connection of its own, following the records.
func (e *evolving) runFollowing() {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	e.t.Cleanup(func() { cancel(); all.Wait() })
	for _, name := range e.stageNames() {
		conn, book := brokertest.Connect(e.t, e.url), task.NewBook(e.tasks)
		if err := conn.WatchCancels(ctx); err != nil {
			e.t.Fatal(err)
		}
		registry := e.registries.add(name)
		keeper, err := bundle.NewKeeper(bundle.Options{Conn: conn, Book: book, Own: e.tasks, Log: zerolog.Nop(), Metrics: registry})
		if err != nil {
			e.t.Fatal(err)
		}
		runner, err := stage.NewRunner(e.defs, name, &stage.Env{
			Conn: conn, Tasks: e.tasks, Versions: book, Log: zerolog.Nop(), Metrics: registry, Getenv: func(string) string { return "" }, Limits: e.limits,
		}, 5*time.Second)
		if err != nil {
			e.t.Fatal(err)
		}
		for what, run := range map[string]func(context.Context) error{"keeper": keeper.Run, "stage": runner.Run} {
			all.Go(func() {
				if err := run(ctx); err != nil {
					e.t.Errorf("%s of %s: %v", what, name, err)
				}
			})
		}
		e.books = append(e.books, book)
	}
}

// push makes the version with a mark live, everywhere, and returns it.
func (e *evolving) push(mark string) string {
	e.t.Helper()
	t := load(e.t, markedFiles(e.parrot.url, mark)).Tasks["parrot"]
	if _, live, err := e.store.Push(e.t.Context(), bundle.Push{Bundle: bundle.Of(t), By: "test", How: bundle.HowPush}); err != nil || !live {
		e.t.Fatalf("push %s: live %v, %v", mark, live, err)
	}
	brokertest.Eventually(e.t, startTimeout, "all stages take "+mark, func() bool {
		for _, b := range e.books {
			if b.Live().Tasks["parrot"].Version != t.Version {
				return false
			}
		}
		return true
	})
	return t.Version
}

// collect collects without a pause until stop is called, each time two hours later than before.
func (e *evolving) collect() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c := bundle.NewCollector(bundle.NewStore(brokertest.Connect(e.t, e.url)))
	var all sync.WaitGroup
	all.Go(func() {
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		for now := time.Now().Add(26 * time.Hour); ctx.Err() == nil; now = now.Add(2 * time.Hour) {
			names, err := c.Collect(ctx, now)
			if err != nil && ctx.Err() == nil {
				e.t.Errorf("collect: %v", err)
			}
			e.mu.Lock()
			for _, n := range names {
				e.gone[n.Version] = time.Now()
			}
			e.mu.Unlock()
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
	})
	stop = func() { cancel(); all.Wait() }
	e.t.Cleanup(stop)
	return stop
}

// expire removes what is stored of a job that has ended: first that it was admitted.
func (e *evolving) expire(id string) {
	e.t.Helper()
	for stream, subject := range map[string]string{"LLM_ADMITTED": "llm.admitted." + id, "LLM_RESULTS": "llm.result.parrot." + id} {
		s, err := e.conn.JS.Stream(e.t.Context(), stream)
		if err == nil {
			err = s.Purge(e.t.Context(), jetstream.WithPurgeSubject(subject))
		}
		if err != nil {
			e.t.Fatal(err)
		}
	}
}

func TestNoVersionIsCollectedWhileAJobNamesIt(t *testing.T) {
	t.Parallel()
	const versions, each = 8, 6
	e := &evolving{parrot: newParrot(t), gone: map[string]time.Time{}}
	e.rig = setupWith(t, brokertest.Server(t).URL(), 1, func(string, string) fstest.MapFS { return markedFiles(e.parrot.url, "own") })
	e.store = bundle.NewStore(e.conn)
	e.runFollowing()
	e.collect()
	e.parrot.latency.Store(int64(300 * time.Millisecond))
	marks, ids := map[string]string{}, []string{}
	mark := func(n int) string { return "v" + string(rune('a'+n)) }
	ask := func(id, text string) {
		e.publish(job.Interactive, "parrot", id, bodyOf(id, text))
		brokertest.Eventually(t, startTimeout, id+" is admitted", func() bool {
			_, _, err := e.conn.Marker(t.Context(), id)
			return err == nil
		})
	}
	for n := range versions {
		marks[e.push(mark(n))] = mark(n)
		// One of each version is replayed much later, and every second version has one that ends much later.
		dead := "dead-" + mark(n)
		ask(dead, markedUnfit+mark(n))
		e.result(dead, 1)
		e.expire(dead)
		if n%2 == 0 {
			ask("slow-"+mark(n), markedSlow+mark(n))
			ids = append(ids, "slow-"+mark(n))
		}
		for k := range each {
			id := fmt.Sprintf("%s-%d", mark(n), k)
			ask(id, "question "+id)
			ids = append(ids, id)
		}
		if n >= 2 {
			for k := range each {
				id := fmt.Sprintf("%s-%d", mark(n-2), k)
				e.result(id, 1)
				e.expire(id)
			}
		}
	}
	e.parrot.lenient.Store(true)
	close(e.parrot.released)
	for n := range versions {
		id := "dead-" + mark(n)
		letter, _, err := e.conn.Dead(t.Context(), id)
		if err != nil || marks[letter.Job.TaskVersion] != mark(n) {
			t.Fatalf("the dead letter of %s: %v, %v", mark(n), letter, err)
		}
		e.replay(t, id, `{"task_version":"`+letter.Job.TaskVersion+`"}`)
		if result := e.result(id, 2); markOf(result) != mark(n) {
			t.Errorf("the replay under %s ended as %s, %s, %+v", mark(n), result.Status, result.Output, result.Error)
		}
		e.expire(id)
	}
	e.holdsAll(ids, marks)
	for _, id := range ids {
		e.expire(id)
	}
	brokertest.Eventually(t, startTimeout, "the old versions go at last", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.gone) == versions-4 // the live one stays, and three before it
	})
}

// holdsAll checks that each job ended under its version, before that was gone.
func (e *evolving) holdsAll(ids []string, marks map[string]string) {
	e.t.Helper()
	for _, id := range ids {
		e.hears(id)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard.mu.Lock()
	defer e.heard.mu.Unlock()
	for id, results := range e.heard.results {
		for _, r := range results {
			if at, gone := e.gone[r.TaskVersion]; gone && r.FinishedAt.After(at) {
				e.t.Errorf("run %d of %s ended under %s, which had been collected", r.Run, id, r.TaskVersion)
			}
			if r.Status == job.Succeeded && markOf(&r) != marks[r.TaskVersion] || r.Status == job.Failed && r.Run > 1 {
				e.t.Errorf("run %d of %s, of %s: %s with %s", r.Run, id, marks[r.TaskVersion], r.Status, r.Output)
			}
		}
	}
}

// hears waits until the result was heard: what is stored may have been expired.
func (e *evolving) hears(id string) {
	e.t.Helper()
	brokertest.Eventually(e.t, startTimeout, "the result of "+id, func() bool { return len(e.heard.of(id)) > 0 })
}
