package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"spillway/pkg/bench"
	"spillway/services"
)

func TestMain(m *testing.M) {
	if providerMain(os.Args[1:]) {
		return
	}
	goleak.VerifyTestMain(m)
}

func options() bench.Options {
	return bench.Options{
		Stages: services.Pipeline(), Jobs: 200, PromptBytes: 1500, Window: 100, Sync: time.Second, Log: zerolog.Nop(),
	}
}

func run(t *testing.T, o bench.Options) *bench.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := bench.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEachJobOfTheEmbeddedPipelineIsAnsweredAndPaidOnce(t *testing.T) {
	t.Parallel()
	o := options()
	o.LatencyJobs, o.Rate = 20, 100
	r := run(t, o)
	const jobs = 200 + 20
	want := bench.Checks{Jobs: jobs, Results: jobs, Calls: jobs, OwnBy: "nonce"}
	if got := r.Checks; got.Jobs != want.Jobs || got.Results != want.Results || got.Calls != want.Calls || !got.OK() || got.PaidTwice != 0 {
		t.Errorf("checks are %+v, want %+v", got, want)
	}
	if r.Pipeline.JobsPerSecond <= 0 || r.Pipeline.CPUPer1000 <= 0 {
		t.Errorf("the burst is %+v", r.Pipeline)
	}
	if l := r.PipelineLatency; l.Jobs != 20 || l.P50 <= 0 || l.P50 > l.P95 || l.P95 > l.P99 {
		t.Errorf("the added latency is %+v", l)
	}
	// A request of 1,500 bytes is stored five times at least, and its result keeps none of it.
	if s := r.Storage; s.Published < 5*1500 || s.KeptTotal <= 0 {
		t.Errorf("storage is %+v", s)
	}
	if r.Relay != nil || r.RatioJobs != 0 {
		t.Errorf("a relay was measured though none was asked for: %+v", r.Relay)
	}
}

func TestTheRelayIsMeasuredBesideThePipeline(t *testing.T) {
	t.Parallel()
	o := options()
	o.Relay, o.ModelLatency = true, 2*time.Millisecond
	o.LatencyJobs, o.Rate = 20, 100
	r := run(t, o)
	if r.Relay.JobsPerSecond <= 0 || r.RelayWithCall.JobsPerSecond <= 0 || r.RatioJobs <= 0 || r.RatioCPU <= 0 {
		t.Errorf("relay %+v, with a call %+v, ratios %g and %g", r.Relay, r.RelayWithCall, r.RatioJobs, r.RatioCPU)
	}
	if n := r.Relay.Redeliveries + r.RelayWithCall.Redeliveries; n != 0 {
		t.Errorf("%d messages of the relay were delivered again", n)
	}
	if r.RelayLatency.Jobs != 20 || r.RelayLatency.P50 <= 0 {
		t.Errorf("the relay's added latency is %+v", r.RelayLatency)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Errorf("the report is no JSON: %v", err)
	}
}

func TestARunEndsSoonAfterItsContext(t *testing.T) {
	t.Parallel()
	stop := errors.New("the user has seen enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	o := options()
	o.Jobs, o.ModelLatency = 100_000, time.Second
	o.Progress = func(string, int, int) { cancel(stop) }
	if _, err := bench.Run(ctx, o); !errors.Is(err, stop) {
		t.Errorf("the run ended with %v", err)
	}
}

func TestOptionsThatMeasureNothingAreRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*bench.Options){
		"no jobs":                   func(o *bench.Options) { o.Jobs = 0 },
		"more jobs than are held":   func(o *bench.Options) { o.Jobs = bench.MaxJobs + 1 },
		"no window":                 func(o *bench.Options) { o.Window = 0 },
		"latencies without a rate":  func(o *bench.Options) { o.LatencyJobs = 1 },
		"a server without its task": func(o *bench.Options) { o.NATS = "nats://127.0.0.1:1" },
	} {
		o := options()
		spoil(&o)
		if _, err := bench.Run(t.Context(), o); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}
