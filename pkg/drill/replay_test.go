package drill_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// again answers replays in place of a pipeline.
func (s *scene) again(answer func(id string)) {
	s.t.Helper()
	_, err := s.conn.NC.Subscribe(broker.AllReplays, func(m *nats.Msg) { answer(broker.Token(m.Subject, 2)) })
	if err != nil {
		s.t.Fatal(err)
	}
}

// bury keeps a dead letter of a first run.
func (s *scene) bury(a asked) {
	body, err := json.Marshal(job.Letter{V: job.Version, Stage: "inference", Code: fate.Internal, Job: &job.Job{V: job.Version, ID: a.ID, Task: "toy", Run: 1, Input: a.Input}})
	if err == nil {
		err = s.conn.NC.Publish(broker.DeadSubject("inference", "toy", a.ID), body)
	}
	if err != nil {
		s.t.Error(err)
	}
}

func TestOneThatFailsAndSaysWhyAndIsReplayedBreaksNoPromise(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	failed := make(chan asked, 1)
	s.pipe(func(a asked) {
		if a.Number != 5 {
			s.result(a.ID, a.Number, string(a.Input), "succeeded", "")
			return
		}
		s.bury(a)
		s.result(a.ID, a.Number, string(a.Input), "failed", `,"error":{"code":"internal","message":"x"}`)
		failed <- a
	})
	s.again(func(id string) {
		a := <-failed
		s.resultOf(2, id, a.Number, string(a.Input), "succeeded", "")
	})
	if r, faults := s.faults(); r.All.Failed != 1 || r.Replay.Answered != 1 || faults != "" {
		t.Errorf("%+v, %+v, %q", r.All, r.Replay, faults)
	}
}

func TestAReplayBreaksThePromiseAsARequestDoes(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	failed := map[string]asked{}
	ready := make(chan struct{})
	s.pipe(func(a asked) {
		switch {
		case a.Number < 4:
			s.bury(a)
			failed[a.ID] = a
			s.result(a.ID, a.Number, string(a.Input), "failed", `,"error":{"code":"internal","message":"x"}`)
		default:
			s.result(a.ID, a.Number, string(a.Input), "succeeded", "")
		}
		if a.Number == 19 {
			close(ready)
		}
	})
	s.again(func(id string) {
		<-ready
		switch a := failed[id]; a.Number {
		case 0:
			s.resultOf(2, id, a.Number, string(a.Input), "succeeded", "")
		case 1:
			s.resultOf(2, id, a.Number, "another's input", "succeeded", "")
		case 2:
			s.resultOf(2, id, a.Number, string(a.Input), "failed", `,"error":{"code":"internal","message":"again"}`)
		default: // lost
		}
	})
	if r, faults := s.faults(); r.Replay.Answered != 1 || faults != "1 lost; 1 given another's answer; 3 have no live answer after the replay either" {
		t.Errorf("%+v, %q", r.Replay, faults)
	}
}
