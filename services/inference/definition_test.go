package inference

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

func TestTheStagePullsFromBothLanesAndFromWhatIsParkedForEachModel(t *testing.T) {
	t.Parallel()
	d := Definition()
	lanes := []stage.Inbox{
		{Stream: "LLM_INFERENCE", Subject: "llm.stage.inference.interactive", Consumer: "inference-interactive", Slots: 12000},
		{Stream: "LLM_INFERENCE", Subject: "llm.stage.inference.batch", Consumer: "inference-batch", Slots: 64},
	}
	if d.Name != "inference" || !d.ConfirmsAcks || d.Aside || d.FinishesLate || len(d.SendsOn) != 0 {
		t.Fatalf("definition %+v", d)
	}
	compareInboxes(t, d.Inboxes, lanes)

	env := minimalEnv(&task.Provider{Name: "main", Kind: task.KindOpenAI, APIKey: "none", BaseURL: "http://127.0.0.1:9"})
	env.Tasks.Models["small"].Breaker = task.Breaker{ConsecutiveFailures: 5, FailureShare: 0.5, MinCalls: 5, Window: time.Minute, HalfOpenAfter: time.Minute, Probes: 1}
	env.Conn = brokertest.Connect(t, brokertest.Server(t).URL())
	h, err := New(env)
	if err != nil {
		t.Fatal(err)
	}
	compareInboxes(t, h.Inboxes(), []stage.Inbox{
		{Stream: "LLM_PARKED", Subject: "llm.parked.interactive.small", Consumer: "inference-parked-interactive-small", Slots: 12000},
		{Stream: "LLM_PARKED", Subject: "llm.parked.batch.small", Consumer: "inference-parked-batch-small", Slots: 64},
	})
}

func compareInboxes(t *testing.T, got, want []stage.Inbox) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("inboxes %+v, want %+v", got, want)
	}
	for i, in := range got {
		if in.Stream != want[i].Stream || in.Subject != want[i].Subject || in.Consumer != want[i].Consumer || in.Slots != want[i].Slots {
			t.Errorf("inbox %+v, want %+v", in, want[i])
		}
	}
}

func TestTheStageStartsWithoutMetricsAndTwiceWithTheSame(t *testing.T) {
	t.Parallel()
	env := minimalEnv(&task.Provider{Name: "main", Kind: task.KindOpenAI, APIKey: "none", BaseURL: "http://127.0.0.1:9"})
	for _, r := range []prometheus.Registerer{nil, prometheus.NewRegistry()} {
		env.Metrics = r
		for range 2 {
			if _, err := Definition().New(env); err != nil {
				t.Error(err)
			}
		}
	}
}
