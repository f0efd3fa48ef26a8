package ingest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// pause pauses toy since a moment.
func (a *admitting) pause(since time.Time) {
	a.t.Helper()
	a.tasks.SetLive(a.tasks.Live(), map[string]task.Pause{"toy": {Since: since, By: "operator ada@desk", Why: "the prompt is wrong"}})
}

// saysPause checks that a message says all of a pause.
func saysPause(t *testing.T, message string, since time.Time) {
	t.Helper()
	for _, want := range []string{"the task toy", "operator ada@desk", "the prompt is wrong", since.UTC().Format("2006-01-02T15:04:05Z"), "when it is resumed"} {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not say %s", message, want)
		}
	}
}

func TestARequestThatIsPublishedWhileItsTaskIsPausedIsRejectedAndSaysWhy(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		since    time.Duration
		marked   bool
		rejected bool
	}{
		"published while it is paused":      {-time.Minute, false, true},
		"published before":                  {time.Minute, false, false},
		"acknowledged by a desk meanwhile":  {-time.Minute, true, false},
		"stored by a desk that died on it":  {-time.Minute, false, true},
		"acknowledged by a desk before all": {time.Minute, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAdmitting(t)
			var header nats.Header
			if strings.Contains(name, "desk") {
				header = nats.Header{"Spillway-Desk": {"1"}}
			}
			j := a.stored("a", time.Second, header)
			if row.marked {
				a.mark("a", j, time.Minute)
			}
			a.pause(j.AcknowledgedAt.Add(row.since))
			err := a.Handle(t.Context(), j)
			if !row.rejected {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var e *fate.Error
			if !errors.As(err, &e) || e.Fate != fate.Reject || e.Code != fate.TaskPaused || j.ID != "a" {
				t.Fatalf("%v", err)
			}
			if !strings.Contains(e.Message, "under a new id") {
				t.Errorf("%q: its id is taken", e.Message)
			}
			saysPause(t, e.Message, j.AcknowledgedAt.Add(row.since))
		})
	}
}

func TestADeskOfAPausedTaskRefusesNewRequestsAndKnowsOldOnes(t *testing.T) {
	t.Parallel()
	a := newAdmitting(t)
	request := func(id string) Submission { return Submission{Task: "toy", Body: []byte(toyRequest), ID: id} }
	if receipt, held := a.desk.Submit(t.Context(), request("before")); receipt.Status != Acknowledged || held == nil {
		t.Fatalf("%+v", receipt)
	}
	since := time.Now()
	a.pause(since)
	if receipt, held := a.desk.Submit(t.Context(), request("before")); receipt.Status != Duplicate || held == nil {
		t.Errorf("the same again: %+v", receipt)
	}
	receipt, held := a.desk.Submit(t.Context(), request("after"))
	if receipt.Error == nil || receipt.Error.Code != fate.TaskPaused || held != nil || receipt.ID != "after" {
		t.Fatalf("%+v", receipt)
	}
	saysPause(t, receipt.Error.Message, since)
	a.tasks.SetLive(a.tasks.Live(), nil)
	if receipt, _ := a.desk.Submit(t.Context(), request("after")); receipt.Status != Acknowledged {
		t.Errorf("resumed: %+v", receipt)
	}
}

// The task demands more by now, or is taken out: who was told "acknowledged" is not told "rejected" for that.
func TestARequestIsHeldToTheVersionThatAcknowledgedIt(t *testing.T) {
	t.Parallel()
	strict, err := schema.Compile([]byte(`{"type":"object","required":["more"]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, now := range map[string]*task.Set{
		"tightened": {Tasks: map[string]*task.Task{"toy": {Name: "toy", Version: "00000002", Lane: job.Interactive, Input: strict, Model: "other"}}},
		"taken out": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAdmitting(t)
			j := a.stored("a", time.Second, nats.Header{"Spillway-Desk": {"1"}})
			a.mark("a", j, time.Minute)
			a.tasks.SetLive(now, nil)
			if err := a.Handle(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			if j.TaskVersion != "00000001" || j.Model != "small" {
				t.Errorf("version %s, model %q", j.TaskVersion, j.Model)
			}
		})
	}
}
