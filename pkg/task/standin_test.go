package task_test

import (
	"testing"

	"spillway/pkg/job"
	"spillway/pkg/task"
)

func TestOnlyARequestWithoutAMemoryHasItsKeyBeforehand(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		of, session string
		remembers   bool
	}{
		{"", "s", false},
		{task.SessionNone, "s", false},
		{task.SessionNone, "", false},
		{task.SessionOptional, "", false},
		{task.SessionOptional, "s", true},
		{task.SessionRequired, "s", true},
	} {
		toy := &task.Task{Name: "toy", Context: task.Context{Session: row.of}}
		if got := toy.Remembers(row.session); got != row.remembers {
			t.Errorf("session %q of a task with %q: remembers %t", row.session, row.of, got)
		}
		key, _ := toy.StandIns("acme", row.session, "x")
		if want := toy.CacheKey("acme", []byte(`"x"`), ""); row.remembers && key != "" || !row.remembers && key != want {
			t.Errorf("session %q of a task with %q: key %q", row.session, row.of, key)
		}
	}
}

func TestAnotherVersionThanTheJobsIsToldOnceAStage(t *testing.T) {
	t.Parallel()
	toy := &task.Task{Name: "toy", Version: "two"}
	own, foreign, nameless := &job.Job{TaskVersion: "two"}, &job.Job{TaskVersion: "one"}, &job.Job{}
	for _, j := range []*job.Job{own, foreign, nameless} {
		for _, stage := range []string{"inference", "inference", "validator"} {
			toy.Sign(j, stage)
		}
	}
	if own.Mixed || len(own.History) != 0 || !nameless.Mixed || len(nameless.History) != 0 {
		t.Errorf("%+v, %+v", own, nameless)
	}
	if !foreign.Mixed || len(foreign.History) != 2 {
		t.Fatalf("%+v", foreign)
	}
	for i, stage := range []string{"inference", "validator"} {
		e := foreign.History[i]
		if e.Stage != stage || e.Kind != "version" || e.Detail != "version one of the task is stored no more or does not load here, version two is at work" {
			t.Errorf("%+v", e)
		}
	}
}
