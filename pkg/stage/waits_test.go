package stage_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

func TestAJobThatWaitsIsToldOnceAndWhereNothingFailedNoTryIsCounted(t *testing.T) {
	t.Parallel()
	s := brokertest.Server(t)
	var comes atomic.Int32
	l, got := setup(t, s.URL(), definition("first", 4, func(context.Context, *job.Job) error {
		switch comes.Add(1) {
		case 1:
			return fate.RetryAfter(time.Millisecond, fate.ProviderUnavailable, "it failed", nil)
		case 2, 3:
			return fate.WaitFor(time.Millisecond, "waits for another")
		case 4:
			return fate.WaitFor(time.Millisecond, "waits for a third")
		}
		return nil
	}))
	told := make(chan *nats.Msg, 64)
	if _, err := l.conn.NC.ChanSubscribe(broker.AnyProgress, told); err != nil {
		t.Fatal(err)
	}
	l.run(s.URL(), "first", time.Second)
	l.run(s.URL(), "second", time.Second)
	l.publish("first", job.Job{ID: "a", Model: "small"})
	brokertest.Eventually(t, 5*time.Second, "the job goes on", func() bool { return len(got.at("second")) == 1 })
	j := got.at("second")[0]
	if len(j.History) != 3 {
		t.Fatalf("history %+v", j.History)
	}
	if failed := j.History[0]; failed.Fate != "retry" || failed.Code != fate.ProviderUnavailable || failed.N != 0 {
		t.Errorf("the try that failed: %+v", failed)
	}
	if waits := j.History[1]; waits.Fate != "retry" || waits.Code != "" || waits.N != 3 || waits.Detail != "waits for a third" || j.Attempts != 0 {
		t.Errorf("the waits: %+v, %d attempts", waits, j.Attempts)
	}
	if on := j.History[2]; on.Fate != "" {
		t.Errorf("the way on: %+v", on)
	}
	for {
		var p stage.Progress
		if err := json.Unmarshal((<-told).Data, &p); err != nil {
			t.Fatal(err)
		}
		if p.Message == "waits for another" {
			if p.Fate != "retry" || p.Model != "" || p.NotBefore.IsZero() || p.To != "first" {
				t.Errorf("%+v", p)
			}
			return
		}
	}
}
