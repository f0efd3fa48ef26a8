package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/bundle"
	"spillway/pkg/job"
)

func TestASaveIsLiveForNewRequestsAndJobsInFlightEndUnderTheirs(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	l.here.shut()
	early := l.publish("toy")
	brokertest.Eventually(t, 20*time.Second, "the call is under way", func() bool { return l.here.holds(1) })
	l.task("toy", "two")
	if e := l.awaits(filesLive, "toy"); e.Version != l.version("toy") || e.How != bundle.HowSave || e.Record.Versions[1].Version != one {
		t.Errorf("%+v", e)
	}
	late := l.publish("toy")
	brokertest.Eventually(t, 20*time.Second, "both calls are under way", func() bool { return l.here.holds(2) })
	l.here.open()
	l.isAnswered(early(), one)
	l.isAnswered(late(), l.version("toy"))
	var systems []string
	for _, r := range l.here.Requests("small-1") {
		var body struct{ Messages []job.Message }
		if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
			t.Fatal(err)
		}
		systems = append(systems, body.Messages[0].Content)
	}
	slices.Sort(systems) // they end as they like
	if got := strings.Join(systems, ","); got != "one,two" {
		t.Errorf("the model was told %s", got)
	}
}

func TestAFaultySaveChangesNothingAndEveryFaultIsToldOnce(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	l.save("tasks/toy/task.yaml", "model: smal\nnonsense: 1\n")
	e := l.awaits(filesFaulty, "")
	text := strings.Join(e.Faults, "\n")
	for _, want := range []string{"tasks/toy/task.yaml:1:", "did you mean small?", "tasks/toy/task.yaml:2:", `unknown key "nonsense"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not told: %s", want, text)
		}
	}
	if n := l.metric("spillway_task_files_faults", nil); n != float64(len(e.Faults)) || n == 0 {
		t.Errorf("the metric says %v", n)
	}
	l.isAnswered(l.publish("toy")(), one)
	l.task("toy", "one")
	l.awaits(filesMended, "")
	if n := l.metric("spillway_task_files_faults", nil); n != 0 {
		t.Errorf("the metric says %v", n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) != 0 {
		t.Errorf("told besides: %+v", l.events)
	}
}

func TestATaskWhoseFolderIsRemovedIsTakenOut(t *testing.T) {
	t.Parallel()
	l := live(t)
	l.here.shut()
	early := l.publish("other")
	version := l.version("other")
	brokertest.Eventually(t, 20*time.Second, "the call is under way", func() bool { return l.here.holds(1) })
	if err := os.RemoveAll(filepath.Join(l.dir, "tasks", "other")); err != nil {
		t.Fatal(err)
	}
	l.awaits(filesOut, "other")
	brokertest.Eventually(t, 20*time.Second, "the task is not live", func() bool { return l.process.env.Versions.Live().Tasks["other"] == nil })
	if r := l.publish("other")(); r.Status != job.Rejected || r.Error.Code != "unknown_task" {
		t.Errorf("%s, %+v", r.Status, r.Error)
	}
	l.here.open()
	l.isAnswered(early(), version)
	l.task("other", "one")
	l.awaits(filesLive, "other")
	l.isAnswered(l.publish("other")(), version)
}

// A provider is no part of a version: where calls go is this process's own.
func TestChangedModelsAreTakenWhileCallsAreUnderWay(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	inference := prometheus.Labels{"stage": "inference"}
	l.here.shut()
	early := l.publish("toy")
	brokertest.Eventually(t, 20*time.Second, "the call is under way", func() bool {
		return l.here.holds(1) && l.metric("spillway_in_flight", inference) == 1
	})
	l.taskOn("toy", "one", "tiny")
	l.taskOn("other", "one", "tiny")
	l.save("models.yaml", l.models("there", "tiny", 0))
	l.awaits(filesLive, "toy")
	brokertest.Eventually(t, 20*time.Second, "the gauges are those of who took over", func() bool { return l.metric("spillway_in_flight", inference) == 0 })
	if n := l.process.inHand(); n != 1 {
		t.Errorf("%d jobs in hand", n)
	}
	l.there.shut()
	late := l.publish("toy")
	brokertest.Eventually(t, 20*time.Second, "the call is at the other provider", func() bool {
		return l.there.holds(1) && l.metric("spillway_in_flight", inference) == 1
	})
	l.there.open()
	r := late()
	l.isAnswered(r, l.version("toy"))
	if r.Model != "tiny" || r.AnsweredBy != "tiny-1" {
		t.Errorf("answered by %s, %s", r.Model, r.AnsweredBy)
	}
	l.here.open()
	l.isAnswered(early(), one)
	if n := l.metric("spillway_settled_total", prometheus.Labels{"stage": "inference", "fate": "on"}); n != 2 {
		t.Errorf("%v jobs are counted, not both", n)
	}
	brokertest.Eventually(t, 30*time.Second, "the one before has left", func() bool { return len(l.process.replacedNow()) == 0 })
}

func TestASaveThatCouldNotBeStoredIsStoredOnceItCanBe(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	s, err := l.conn.JS.Stream(t.Context(), "OBJ_llm_tasks")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.conn.JS.DeleteStream(t.Context(), "OBJ_llm_tasks"); err != nil {
		t.Fatal(err)
	}
	l.task("toy", "two")
	brokertest.Eventually(t, time.Minute, "the save is owed", func() bool {
		l.process.files.mu.Lock()
		defer l.process.files.mu.Unlock()
		return len(l.process.files.owed) == 1
	})
	l.isAnswered(l.publish("toy")(), one)
	if _, err := l.conn.JS.CreateStream(t.Context(), s.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	if e := l.awaits(filesLive, "toy"); e.Version != l.version("toy") {
		t.Errorf("%+v", e)
	}
	l.isAnswered(l.publish("toy")(), l.version("toy"))
}

// A call that is cut is made, and paid for, again.
func TestChangedModelsCutNoCallHoweverShortTheGrace(t *testing.T) {
	t.Parallel()
	l := liveWith(t, time.Millisecond)
	one := l.version("toy")
	l.here.shut()
	early := l.publish("toy")
	brokertest.Eventually(t, 20*time.Second, "the call is under way", func() bool { return l.here.holds(1) })
	l.taskOn("toy", "one", "tiny")
	l.taskOn("other", "one", "tiny")
	l.save("models.yaml", l.models("there", "tiny", 0))
	l.awaits(filesLive, "toy")
	l.isAnswered(l.publish("toy")(), l.version("toy"))
	l.here.open()
	r := early()
	l.isAnswered(r, one)
	if calls := l.here.Counts().Calls + l.there.Counts().Calls; r.Usage.Calls != 1 || calls != 2 {
		t.Errorf("%d calls of the job, %d of both", r.Usage.Calls, calls)
	}
}

func TestAChangeThatWaitsForAPlaceIsHeldUpNoLongerThanTheGrace(t *testing.T) {
	t.Parallel()
	l := liveWith(t, time.Millisecond)
	l.here.shut()
	var early []func() *job.Result
	for i := range maxReplaced + 1 {
		early = append(early, l.publish("toy"))
		brokertest.Eventually(t, 20*time.Second, "the call is under way", func() bool { return l.here.holds(len(early)) })
		l.save("models.yaml", l.models("here", "small", 10+i))
		l.awaits(filesLive, "toy")
		if i < maxReplaced {
			brokertest.Eventually(t, 20*time.Second, "the stage is replaced", func() bool { return len(l.process.replacedNow()) == i+1 })
		}
	}
	last := fmt.Sprintf(`"Concurrency":%d`, 10+maxReplaced)
	brokertest.Eventually(t, 20*time.Second, "the last save counts while calls are under way", func() bool {
		return slices.ContainsFunc(l.process.working(), func(w *working) bool { return strings.Contains(w.madeOf, last) })
	})
	l.here.open()
	for i, wait := range early {
		if r := wait(); r.Status != job.Succeeded {
			t.Errorf("job %d: %s, %+v", i, r.Status, r.Error)
		}
	}
}

func (p *process) replacedNow() []*working {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replaced
}

func TestManySavesOfModelsKeepFewStagesAtWork(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	l.here.shut()
	var early []func() *job.Result
	most := 0
	for i := range 5 {
		early = append(early, l.publish("toy"))
		l.save("models.yaml", l.models("here", "small", 10+i))
		l.awaits(filesLive, "toy")
		most = max(most, len(l.process.replacedNow()))
	}
	if most > 2 {
		t.Errorf("%d stages finished what they held at once", most)
	}
	brokertest.Eventually(t, 20*time.Second, "all calls are under way", func() bool { return l.here.holds(len(early)) })
	l.here.open()
	for i, wait := range early {
		if r := wait(); r.Status != job.Succeeded || i == 0 && r.TaskVersion != one {
			t.Errorf("job %d: %s, %+v", i, r.Status, r.Error)
		}
	}
	brokertest.Eventually(t, 30*time.Second, "the last save counts", func() bool {
		at := l.process.working()
		for _, w := range at {
			if w.def.MadeOf != nil && !strings.Contains(w.madeOf, `"Concurrency":14`) {
				return false
			}
		}
		return len(l.process.replacedNow()) == 0
	})
	l.isAnswered(l.publish("toy")(), l.version("toy"))
}

func TestASaveThatNeedsAKeyWhichIsMissingIsRefused(t *testing.T) {
	t.Parallel()
	l := live(t)
	one := l.version("toy")
	l.save("models.yaml", strings.Replace(l.models("there", "small", 0), "api_key: none", "api_key_env: THEIR_KEY", 1))
	e := l.awaits(filesRefused, "")
	if text := strings.Join(e.Faults, "\n"); !strings.Contains(text, "THEIR_KEY") || !strings.Contains(text, "provider there") {
		t.Errorf("%q", text)
	}
	l.isAnswered(l.publish("toy")(), one)
	if calls := l.there.Counts().Calls; calls != 0 {
		t.Errorf("%d calls at the other provider", calls)
	}
}

func TestAnotherProcessFollowsASaveOfThisOne(t *testing.T) {
	t.Parallel()
	l := live(t)
	other := &living{rig: l.rig, t: t, dir: t.TempDir(), here: l.here, there: l.there, env: map[string]string{}}
	other.save("models.yaml", other.models("here", "small", 0))
	other.task("toy", "zero")
	other.task("other", "one")
	zero := other.version("toy")
	other.start(l.rig, roleFlags{}) // with files that were never live: they are now
	l.task("toy", "two")
	two := l.version("toy")
	l.awaits(filesLive, "toy")
	brokertest.Eventually(t, 20*time.Second, "the other one has it", func() bool { return other.process.env.Versions.Live().Tasks["toy"].Version == two })
	again := &living{rig: l.rig, t: t, dir: other.dir, here: l.here, there: l.there, env: map[string]string{}}
	again.start(l.rig, roleFlags{}) // an old replica that starts again
	if e := again.awaits(filesLeft, "toy"); e.Version != zero || e.Record.Live != two {
		t.Errorf("%+v", e)
	}
	for range 6 {
		l.isAnswered(l.publish("toy")(), two)
	}
	// What others may have still is not taken out by a folder that is gone here.
	if err := os.RemoveAll(filepath.Join(other.dir, "tasks", "other")); err != nil {
		t.Fatal(err)
	}
	other.awaits(filesGone, "other")
	if other.process.env.Versions.Live().Tasks["other"] == nil {
		t.Error("the task is not live any more")
	}
}
