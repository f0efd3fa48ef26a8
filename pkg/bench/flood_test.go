package bench_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"spillway/pkg/bench"
)

func flood(jobs int) bench.Options {
	o := options()
	o.Jobs, o.ModelLatency = jobs, 200*time.Millisecond
	o.LatencyJobs, o.Rate = 20, 100
	return o
}

func TestInteractiveJobsAreMeasuredAloneAndInAFlood(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := bench.Flood(ctx, flood(500))
	if err != nil {
		t.Fatal(err)
	}
	const interactive = 3 * 20
	if c := r.Checks; c.Jobs != interactive || c.Calls != interactive || c.PaidTwice != 0 || !r.OK() {
		t.Errorf("checks are %+v, of the flood %+v", c, r.Batch)
	}
	for name, s := range map[string]bench.Spread{"alone": r.Alone, "begins": r.Begins.Latency, "steady": r.Steady.Latency} {
		if s.Jobs != 20 || s.P50 < 200 || s.P99 < s.P50 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if r.Begins.BatchAnswered == 0 || r.Begins.BatchPerSecond <= 0 {
		t.Errorf("no batch was answered beside the interactive jobs: %+v", r.Begins)
	}
	if b := r.Batch; b.Requests != 500 || b.Answered < r.Begins.BatchAnswered || b.PaidTwice != 0 {
		t.Errorf("the flood is %+v", b)
	}
}

func TestAFloodEndsSoonAfterItsContext(t *testing.T) {
	t.Parallel()
	stop := errors.New("the user has seen enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	o := flood(5000)
	o.Progress = func(phase string, _, _ int) {
		if phase == bench.PhaseFloodBegins {
			cancel(stop)
		}
	}
	if _, err := bench.Flood(ctx, o); !errors.Is(err, stop) {
		t.Errorf("the run ended with %v", err)
	}
}

func TestAFloodThatCannotBeMeasuredIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*bench.Options){
		"no interactive jobs":              func(o *bench.Options) { o.LatencyJobs = 0 },
		"no rate":                          func(o *bench.Options) { o.Rate = 0 },
		"a running pipeline":               func(o *bench.Options) { o.NATS, o.Task = "nats://127.0.0.1:1", "any" },
		"more than the batch stream holds": func(o *bench.Options) { o.Jobs, o.PromptBytes = 6000, 200_000 },
	} {
		o := flood(10)
		spoil(&o)
		if _, err := bench.Flood(t.Context(), o); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}
