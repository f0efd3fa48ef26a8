package bundle_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/pkg/bundle"
	"spillway/pkg/task"
)

// rig pushes versions of toy in the name of several processes, and tells them by their words.
type rig struct {
	*testing.T
	store *bundle.Store
	words map[string]string // by version
}

func newRig(t *testing.T) *rig {
	_, store := setup(t)
	return &rig{T: t, store: store, words: map[string]string{"": ""}}
}

func (r *rig) version(word string) string {
	if word == "" {
		return ""
	}
	v := toy(r, word).Tasks["toy"].Version
	r.words[v] = word
	return v
}

// push pushes word, and returns whether it is live then and which word is.
func (r *rig) push(word, by, how string, more func(*bundle.Push)) (bool, string) {
	r.Helper()
	p := bundle.Push{Bundle: bundleOf(toy(r, word)), By: by, How: how}
	r.version(word)
	if more != nil {
		more(&p)
	}
	rec, live, err := r.store.Push(r.Context(), p)
	if err != nil {
		r.Fatal(err)
	}
	return live, r.words[rec.Live]
}

func (r *rig) start(word, by string) (bool, string) {
	r.Helper()
	return r.push(word, by, bundle.HowStart, func(p *bundle.Push) { p.OnlyNew = true })
}

func (r *rig) save(word, replaces, by string) (bool, string) {
	r.Helper()
	return r.push(word, by, bundle.HowSave, func(p *bundle.Push) { p.Replaces = r.version(replaces) })
}

func (r *rig) record() *bundle.Record {
	r.Helper()
	rec, _, err := r.store.Record(r.Context(), "toy")
	if err != nil {
		r.Fatal(err)
	}
	return rec
}

func (r *rig) isLive(word string) {
	r.Helper()
	if got := r.words[r.record().Live]; got != word {
		r.Errorf("%q is live, not %q", got, word)
	}
}

func TestAnOldReplicaTakesNothingBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if live, _ := r.start("one", "a"); !live {
		t.Error("the first version is not live")
	}
	if live, _ := r.start("two", "b"); !live {
		t.Error("a new version is not live")
	}
	if live, now := r.start("one", "a"); live || now != "two" {
		t.Errorf("an old replica that starts again makes %q live", now)
	}
	rec := r.record()
	if len(rec.Versions) != 2 || rec.By != "b" || rec.Versions[0].How != "start" || rec.Versions[1].Until.IsZero() || !rec.Versions[1].Until.Equal(rec.Versions[0].Since) {
		t.Errorf("%+v", rec)
	}
}

func TestARollbackSticks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, word := range []string{"one", "two", "three"} {
		r.start(word, "a")
	}
	from, now, err := r.store.Rollback(t.Context(), "toy", "", "ann")
	if err != nil || r.words[from] != "three" || r.words[now] != "two" {
		t.Fatalf("from %q to %q: %v", r.words[from], r.words[now], err)
	}
	if live, now := r.start("three", "a"); live || now != "two" {
		t.Errorf("a process that starts makes %q live", now)
	}
	own := func(p *bundle.Push) { p.OnlyNew, p.Own = true, true }
	if live, now := r.push("three", "up", bundle.HowStart, own); live || now != "two" {
		t.Errorf("up on its own server makes %q live", now)
	}
	if _, now, err = r.store.Rollback(t.Context(), "toy", "", "ann"); err != nil || r.words[now] != "one" {
		t.Errorf("back once more: %q, %v", r.words[now], err)
	}
	if _, _, err = r.store.Rollback(t.Context(), "toy", "", "ann"); err == nil {
		t.Error("there is nothing before the first version")
	}
	if _, _, err = r.store.Rollback(t.Context(), "toy", r.version("one"), "ann"); err == nil || !strings.Contains(err.Error(), "live already") {
		t.Errorf("to what is live: %v", err)
	}
	if _, _, err = r.store.Rollback(t.Context(), "toy", "ffffffff", "ann"); !errors.Is(err, task.ErrNoVersion) {
		t.Errorf("to what is not stored: %v", err)
	}
	if live, _ := r.push("three", "ann", bundle.HowPush, nil); !live {
		t.Error("a push does not make live what a rollback left")
	}
	if v := r.record().Known(r.version("three")); v.Left != "" || !v.Until.IsZero() || v.How != "push" {
		t.Errorf("%+v", v)
	}
}

func TestUpOnItsOwnServerMakesItsFilesLiveAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	own := func(p *bundle.Push) { p.OnlyNew, p.Own = true, true }
	for _, word := range []string{"one", "two", "one"} {
		if live, now := r.push(word, "up", bundle.HowStart, own); !live {
			t.Errorf("%q starts and %q is live", word, now)
		}
	}
}

func TestAProcessThatSimulatesTakesNoRealVersionsPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	start := func(set *task.Set) bool {
		t.Helper()
		_, live, err := r.store.Push(t.Context(), bundle.Push{Bundle: bundleOf(set), By: "a", How: bundle.HowStart, OnlyNew: true})
		if err != nil {
			t.Fatal(err)
		}
		return live
	}
	for i, step := range []struct {
		set  *task.Set
		live bool
	}{{toy(t, "one").Simulated(), true}, {toy(t, "two").Simulated(), true}, {toy(t, "one"), true}, {toy(t, "three").Simulated(), false}} {
		if got := start(step.set); got != step.live {
			t.Errorf("step %d: live %t", i, got)
		}
	}
}

// Three processes watch one folder.
func TestASaveIsTakenOnceHoweverManyProcessesSeeIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start("one", "a")
	if live, _ := r.save("two", "one", "a"); !live {
		t.Error("a save is not live")
	}
	r.save("three", "two", "a")
	if live, now := r.save("two", "one", "b"); live || now != "three" {
		t.Errorf("a process that sees the first save late makes %q live", now)
	}
	r.save("three", "one", "c")
	r.isLive("three")
	if _, _, err := r.store.Rollback(t.Context(), "toy", "", "ann"); err != nil {
		t.Fatal(err)
	}
	if live, now := r.save("three", "two", "b"); live || now != "two" {
		t.Errorf("a process that sees a save after its rollback makes %q live", now)
	}
	if live, _ := r.save("three", "two", "a"); !live {
		t.Error("the process that pushed it once can not save it again")
	}
}

func TestManyWhoPushAtOnceLeaveOneRecordOfThemAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var all sync.WaitGroup
	words := []string{"one", "two", "three", "four", "five", "six"}
	for _, word := range words {
		b := bundleOf(toy(t, word))
		all.Go(func() {
			if _, _, err := r.store.Push(t.Context(), bundle.Push{Bundle: b, By: word, How: bundle.HowPush}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	rec := r.record()
	var by []string
	for _, v := range rec.Versions {
		by = append(by, v.By)
	}
	if slices.Sort(by); !slices.Equal(by, slices.Sorted(slices.Values(words))) {
		t.Errorf("the record knows the versions of %v", by)
	}
	if rec.Versions[0].Version != rec.Live || !slices.IsSortedFunc(rec.Versions, func(a, b bundle.Version) int { return b.Since.Compare(a.Since) }) {
		t.Errorf("%+v", rec)
	}
}

func TestARecordIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 53 {
		r.start(fmt.Sprint("word", i), "a")
	}
	rec := r.record()
	if len(rec.Versions) != 50 || rec.Versions[0].Version != rec.Live || r.words[rec.Live] != "word52" || r.words[rec.Versions[49].Version] != "word3" {
		t.Errorf("%d versions, %q is live", len(rec.Versions), r.words[rec.Live])
	}
	if live, now := r.start("word1", "a"); live || now != "word52" {
		t.Errorf("a version that was live long ago counts as new: %q is live", now)
	}
	if live, _ := r.push("word1", "a", bundle.HowPush, nil); !live || slices.Contains(r.record().Past, r.version("word1")) {
		t.Errorf("a push of it: live %t, %v", live, r.record().Past)
	}
}

func TestATaskIsPausedResumedAndTakenOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.store.Pause(t.Context(), "toy", "ann", "why"); !errors.Is(err, bundle.ErrNoTask) {
		t.Errorf("a task that nobody knows: %v", err)
	}
	if all, err := r.store.Records(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	r.start("one", "a")
	if err := r.store.Pause(t.Context(), "toy", "ann", "bad answers"); err != nil {
		t.Fatal(err)
	}
	r.push("two", "a", bundle.HowPush, nil)
	if p := r.record().Paused; p == nil || p.By != "ann" || p.Why != "bad answers" || p.Since.IsZero() {
		t.Errorf("a pause ends with a push: %+v", p)
	}
	if err := r.store.Resume(t.Context(), "toy", "bob"); err != nil {
		t.Fatal(err)
	}
	if p := r.record().Paused; p != nil {
		t.Errorf("%+v", p)
	}
	if err := r.store.Remove(t.Context(), "toy", "ann"); err != nil {
		t.Fatal(err)
	}
	if rec := r.record(); rec.Live != "" || rec.By != "ann" || rec.Known(r.version("two")).Until.IsZero() {
		t.Errorf("%+v", rec)
	}
	if live, _ := r.start("two", "a"); live {
		t.Error("a process that starts brings back what was taken out")
	}
	all, err := r.store.Records(t.Context())
	if err != nil || len(all) != 1 || all[0].Task != "toy" {
		t.Errorf("%v, %v", all, err)
	}
	if _, now, err := r.store.Rollback(t.Context(), "toy", "", "ann"); err != nil || r.words[now] != "two" {
		t.Errorf("back from nothing: %q, %v", r.words[now], err)
	}
}

func TestABundleOfWhichAPartIsLostIsUnfitUntilItIsStoredAnew(t *testing.T) {
	t.Parallel()
	conn, store := setup(t)
	b := bundleOf(load(t, folder("one", 1, map[string]string{"tasks/toy/notes/long.txt": strings.Repeat("long ", 60_000)})))
	if err := store.Put(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s, err := conn.JS.Stream(t.Context(), "OBJ_llm_tasks")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), 2); err != nil { // the second chunk
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), "toy", b.Version); !errors.Is(err, task.ErrUnfit) {
		t.Errorf("a part of it is lost: %v", err)
	}
	if err := store.Put(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Get(t.Context(), "toy", b.Version); err != nil || len(got.Files) != len(b.Files) {
		t.Errorf("stored anew: %v", err)
	}
}

// Whoever was held up saves what others have left behind, and then sees what they have.
func TestASaveAfterALateOneIsLive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start("one", "a")
	r.save("three", "one", "a")
	if live, _ := r.save("two", "one", "b"); !live {
		t.Error("a version that was never live is not, after a save")
	}
	if live, now := r.save("three", "two", "b"); !live {
		t.Errorf("the files are those of three, and %s is live", now)
	}
	// A rollback of it counts all the same.
	r.save("four", "three", "b")
	if _, _, err := r.store.Rollback(t.Context(), "toy", "", "ann"); err != nil {
		t.Fatal(err)
	}
	if live, now := r.save("four", "three", "a"); live || now != "three" {
		t.Errorf("after a rollback %s is live", now)
	}
}

func TestASaveThatCouldNotBeStoredForAWhileTakesNothingBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start("one", "a")
	before := time.Now()
	seen := func(at time.Time) func(*bundle.Push) {
		return func(p *bundle.Push) { p.Seen, p.Replaces = at, r.version("one") }
	}
	r.push("two", "ann", bundle.HowPush, nil)
	if live, now := r.push("three", "a", bundle.HowSave, seen(before)); live || now != "two" {
		t.Errorf("%s is live, which was saved before two was pushed", now)
	}
	if live, now := r.push("three", "a", bundle.HowSave, seen(time.Now())); !live {
		t.Errorf("%s is live, and three was saved after it", now)
	}
	if _, _, err := r.store.Rollback(t.Context(), "toy", "", "ann"); err != nil {
		t.Fatal(err)
	}
	if live, now := r.push("four", "a", bundle.HowSave, func(p *bundle.Push) { p.Seen, p.Replaces = before, r.version("two") }); !live {
		t.Errorf("%s is live, and four replaces what is", now)
	}
}
