package fallback

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// stored stores a marker whose header says an answer-by of its own.
func stored(t *testing.T, conn *broker.Conn, id, answerBy string, body []byte) {
	t.Helper()
	h := nats.Header{broker.RunHeader: {"1"}, broker.AnswerByHeader: {answerBy}}
	if _, err := conn.Publish(t.Context(), &nats.Msg{Subject: broker.AdmittedSubject(id), Data: body, Header: h}); err != nil {
		t.Fatal(err)
	}
}

func encoded(t *testing.T, m *job.Marker) []byte {
	t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestARunThatWasToldToBeDueWaitsForTheTimeOfItsMarker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.handler.(*fallback)
	m := marker("a", 1)
	stored(t, b.conn, "a", time.Now().Add(-time.Hour).Format(time.RFC3339Nano), encoded(t, m))
	if err := f.answerOverdue(t.Context(), entry{id: "a", run: 1}); err != nil || !f.index.has(m) {
		t.Errorf("not put back to its time: %v", err)
	}
}

func TestARunThatCouldNotBeAnsweredIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.handler.(*fallback)
	stored(t, b.conn, "a", time.Now().Format(time.RFC3339Nano), []byte(`{"v":"x"}`))
	for run, after := range map[int32]time.Duration{1: triedAgain, anyRun: panickedAgain} {
		f.keepDeadline(t.Context(), entry{id: "a", run: run, unsure: true})
		if runs, _ := f.index.due(time.Now(), 1); len(runs) != 0 {
			t.Errorf("run %d is tried again at once", run)
		}
		runs, _ := f.index.due(time.Now().Add(after), 1)
		if len(runs) != 1 || runs[0].id != "a" || runs[0].run != run || !runs[0].unsure {
			t.Errorf("due again: %+v", runs)
		}
	}
}

func TestAMarkerThatIsGoneBeforeItsDeadlineIsCounted(t *testing.T) {
	t.Parallel()
	f := setup(t).handler.(*fallback)
	f.keepDeadline(t.Context(), entry{id: "gone", run: 1})
	f.keepDeadline(t.Context(), entry{id: "never read", run: anyRun})
	if lost := counted(t, f.m.markersLost); lost != 1 || f.index.size() != 0 {
		t.Errorf("counted %v, %d tried again", lost, f.index.size())
	}
}

func TestAMarkerThatCouldNotBeReadIsWatchedOnceItCanBe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.handler.(*fallback)
	m := marker("a", 3)
	unlabelled(t, b.conn, m)
	f.index.put(entry{id: "a", run: anyRun})
	runs, _ := f.index.due(time.Now(), 1)
	if len(runs) != 1 {
		t.Fatal("it is not due to be read")
	}
	f.keepDeadline(t.Context(), runs[0])
	if !f.index.has(m) {
		t.Error("read, and not watched")
	}
}

func TestTheCannedAnswerOfAnotherVersionIsTheOneForEverything(t *testing.T) {
	t.Parallel()
	f := setup(t).handler.(*fallback)
	toy := f.tasks.Live().Tasks["toy"]
	toy.Ladder = []task.Rung{{Kind: task.RungCanned}}
	toy.Canned = []task.Canned{{Output: []byte(`"sad"`)}, {Output: []byte(`"any"`)}}
	for _, c := range []struct {
		version string
		chosen  int
		status  job.Status
		output  string
		detail  string
	}{
		{toy.Version, 1, job.Degraded, `"sad"`, ""},
		{toy.Version, 0, job.Failed, "", "no canned answer was chosen"},
		{"11111111", 1, job.Degraded, `"any"`, "chosen by another version of the task; the answer for everything else"},
		{"11111111", 7, job.Degraded, `"any"`, "chosen by another version of the task; the answer for everything else"},
	} {
		m := marker("a", 1)
		m.TaskVersion, m.Canned = c.version, c.chosen
		j := f.overdue(t.Context(), m)
		rung := j.History[len(j.History)-1]
		if j.Outcome.Status != c.status || string(j.Outcome.Output) != c.output || rung.Detail != c.detail {
			t.Errorf("%d of %s: %s %s, %q", c.chosen, c.version, j.Outcome.Status, j.Outcome.Output, rung.Detail)
		}
		if isTold := j.History[0].Kind == job.KindVersion; isTold != (c.version != toy.Version) {
			t.Errorf("%d of %s: that another version answers is told: %t", c.chosen, c.version, isTold)
		}
	}
}

func TestARunThatIsOverdueIsAnsweredUnderItsOwnVersion(t *testing.T) {
	t.Parallel()
	f := setup(t).handler.(*fallback)
	own := f.tasks.Live().Tasks["toy"]
	own.Ladder, own.Canned = []task.Rung{{Kind: task.RungCanned}}, []task.Canned{{Output: []byte(`"sad"`)}, {Output: []byte(`"any"`)}}
	next := &task.Task{Name: "toy", Version: "22222222", Ladder: own.Ladder, Canned: []task.Canned{{Output: []byte(`"glad"`)}}}
	f.tasks.SetLive(&task.Set{Tasks: map[string]*task.Task{"toy": next}}, nil)
	m := marker("a", 1)
	m.TaskVersion, m.Canned = own.Version, 1
	if j := f.overdue(t.Context(), m); string(j.Outcome.Output) != `"sad"` || j.TaskVersion != own.Version || j.Mixed {
		t.Errorf("%s under %s", j.Outcome.Output, j.TaskVersion)
	}
}

// counted is the sum of a counter.
func counted(t *testing.T, c prometheus.Collector) (sum float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}
