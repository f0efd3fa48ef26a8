package inference

import (
	"context"
	"strings"
	"testing"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/limit"
)

var oneAtATime = limit.Bounds{Concurrency: 1, BatchShare: 0.5}

func ofGreet() limit.Ask {
	return limit.Ask{Model: "small", Provider: "main", Task: "greet", Lane: job.Interactive, Tokens: 10}
}

// place takes the only place of the model, which must come soon.
func (b *bundle) place(t *testing.T) *limit.Permit {
	t.Helper()
	permit, err := b.limits.Take(t.Context(), ofGreet(), 3*time.Second)
	if err != nil {
		t.Fatalf("the place is not free: %v", err)
	}
	return permit
}

func TestACallThatHasNoTimeLeftWhenItMayBeginLeavesNeitherPlaceNorProbeBehind(t *testing.T) {
	t.Parallel()
	b := shared(t, "http://127.0.0.1:9/v1", oneAtATime)
	b.due(t)
	j := parkedJob()
	c, err := b.prepare(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if c.pass, err = b.breakers.Enter(t.Context(), "small"); err != nil || !c.pass.Probe() {
		t.Fatalf("no probe: %v", err)
	}
	c.permit = b.place(t)
	j.Deadline = time.Now() // what came before took all the time
	wantFate(t, b.start(c), fate.Divert, fate.Deadline)
	if open := b.breakers.Look("small").Open; open == nil || open.State != breaker.Open {
		t.Errorf("after a probe that was not made: %v", open)
	}
	b.place(t).Done(limit.Used{})
}

func TestACallThatIsRefusedAfterItGotItsPlaceGivesItBack(t *testing.T) {
	t.Parallel()
	b := shared(t, "http://127.0.0.1:9/v1", oneAtATime)
	b.due(t)
	c, err := b.prepare(t.Context(), newJob(job.Interactive))
	if err != nil {
		t.Fatal(err)
	}
	b.place(t).Done(limit.Used{}) // the place is here: the next has it at once
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the breaker has to ask the broker for the probe, and can not
	if err := b.enter(ctx, c); err == nil || !strings.Contains(err.Error(), "asking the breaker") {
		t.Fatalf("it was not the breaker that refused: %v", err)
	}
	b.place(t).Done(limit.Used{})
}
