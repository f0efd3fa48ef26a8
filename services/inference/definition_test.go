package inference

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/stage"
	"spillway/pkg/task"
)

func TestTheStagePullsFromBothLanesAndFromWhatIsParked(t *testing.T) {
	t.Parallel()
	d := Definition()
	want := []stage.Inbox{
		{Stream: "LLM_INFERENCE", Subject: "llm.stage.inference.interactive", Consumer: "inference-interactive", Slots: 256},
		{Stream: "LLM_INFERENCE", Subject: "llm.stage.inference.batch", Consumer: "inference-batch", Slots: 64},
		{Stream: "LLM_PARKED", Subject: "llm.parked.*.*", Consumer: "inference-parked", Slots: 64},
	}
	if d.Name != "inference" || !d.ConfirmsAcks || d.Aside || d.FinishesLate || len(d.SendsOn) != 0 || len(d.Inboxes) != len(want) {
		t.Fatalf("definition %+v", d)
	}
	for i, in := range d.Inboxes {
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
