package stage

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// A stage that makes many inboxes is not done with it when the first leases are due, and may lose its
// connection meanwhile.
func TestAnInboxThatIsNotOpenYetTakesTicksAndReconnects(t *testing.T) {
	t.Parallel()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	m, err := newMetrics(prometheus.NewRegistry(), "one")
	if err != nil {
		t.Fatal(err)
	}
	p := newPuller(conn, Lanes("one", 4)[0], nil, 4, m, nil, func(*held) {})
	p.tick(time.Now())
	p.reset()
	if p.starving(); p.inHand() != 0 || p.isListening() {
		t.Error("an inbox that is not open holds something")
	}
	p.mu.Lock()
	p.pull()
	asked := p.asked()
	p.mu.Unlock()
	if asked != 0 {
		t.Errorf("%d messages were asked for before the inbox was open", asked)
	}
	p.stop()
	p.leave()
}

func TestEachLaneOfAStageHasItsOwnInbox(t *testing.T) {
	t.Parallel()
	in := Lanes("context-builder", 128)
	want := []Inbox{
		{Stream: "LLM_CONTEXT_BUILDER", Subject: "llm.stage.context-builder.interactive", Consumer: "context-builder-interactive", Slots: 128},
		{Stream: "LLM_CONTEXT_BUILDER", Subject: "llm.stage.context-builder.batch", Consumer: "context-builder-batch", Slots: 8},
	}
	for i := range want {
		if in[i].Stream != want[i].Stream || in[i].Subject != want[i].Subject || in[i].Consumer != want[i].Consumer || in[i].Slots != want[i].Slots {
			t.Errorf("inbox %+v, want %+v", in[i], want[i])
		}
	}
	for lane, want := range map[string]string{job.Batch: in[1].Subject, job.Interactive: in[0].Subject, "": in[0].Subject, "x.>": in[0].Subject} {
		if got := broker.StageSubject("context-builder", lane); got != want {
			t.Errorf("lane %q goes to %s, want %s", lane, got, want)
		}
	}
}
