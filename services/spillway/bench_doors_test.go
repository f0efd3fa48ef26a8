package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"spillway/pkg/bench"
)

func TestBenchMeasuresADoor(t *testing.T) {
	args := []string{"bench", "doors", "--rate=50", "--for=2s", "--model-latency=100ms"}
	report := spillway(t, append(args, "--json")...).with(exitOK).one()
	of := func(name string) map[string]any { return report[name].(map[string]any) }
	checks, accepted, bare, quiet := of("checks"), of("accepted_ms"), of("bare_publish_ms"), of("quiet_publish_ms")
	if checks["results"] != 100.0 || checks["calls"] != 100.0 || accepted["jobs"] != 100.0 || bare["jobs"] != 100.0 || quiet["jobs"] != 100.0 {
		t.Errorf("%v", report)
	}
	if ratio := report["ratio_p99"].(float64); ratio != accepted["p99"].(float64)/bare["p99"].(float64) || report["posts_per_second"].(float64) > 60 {
		t.Errorf("%v", report)
	}
	if ratio := report["ratio_quiet_p99"].(float64); ratio != accepted["p99"].(float64)/quiet["p99"].(float64) {
		t.Errorf("%v", report)
	}
	for _, who := range []string{"door", "clients", "provider", "server and stages"} {
		if used := of("cpu_seconds")[who].(float64); used <= 0 {
			t.Errorf("%s used %g s", who, used)
		}
	}
	for _, at := range report["door_memory"].([]any) {
		if at.(map[string]any)["heap_and_stack_bytes"].(float64) < 1<<20 {
			t.Errorf("%v", report["door_memory"])
		}
	}
	spillway(t, append(args, "--stopped=inference")...).with(exitOK, "100 POSTs of 30 KB", "without inference", "beside the posts", "before them, all quiet", "after inference started", "100 results; missing 0", "paid twice 0")
}

func TestBenchLetsClientsWaitAtADoor(t *testing.T) {
	report := spillway(t, "bench", "doors", "--clients=40", "--rate=100", "--model-latency=100ms", "--json").with(exitOK).one()
	clients := report["clients"].(map[string]any)
	if clients["own"] != 80.0 || clients["wrong"] != 0.0 || clients["consumers"] != 0.0 || report["stopped"] != "inference" {
		t.Errorf("%v", report)
	}
}

func TestATimeoutIsNamedWhateverItCutsShort(t *testing.T) {
	g := &globals{cli: newCLI(), stdout: io.Discard, stderr: io.Discard}
	for name, cut := range map[string]func(context.Context) error{
		"one that says why":   context.Cause,
		"one that does not":   context.Context.Err,
		"one of its children": func(context.Context) error { return errors.New("signal: killed") },
	} {
		_, err := measure(t.Context(), time.Millisecond, g, bench.Options{}, func(ctx context.Context, _ bench.Options) (int, error) {
			<-ctx.Done()
			return 0, fmt.Errorf("start the simulated provider: %w", cut(ctx))
		})
		if err == nil || strings.Count(err.Error(), "not done within --timeout 1ms") != 1 || !strings.Contains(err.Error(), "start the simulated provider") {
			t.Errorf("%s: %v", name, err)
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	_, err := measure(stopped, time.Hour, g, bench.Options{}, func(ctx context.Context, _ bench.Options) (int, error) { return 0, ctx.Err() })
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "--timeout") {
		t.Errorf("ended by who runs it: %v", err)
	}
}

func TestBenchRefusesDoorsThatItCannotMeasure(t *testing.T) {
	spillway(t, "bench", "doors", "--stopped=nobody").with(exitFailed, `no stage "nobody"`)
	spillway(t, "bench", "doors", "--rate=0").with(exitFailed, "jobs are 1 to", "rate is above zero")
	spillway(t, "bench", "doors", "--clients=1000000").with(exitFailed, "clients of each kind are at most")
	o := spillway(t, "bench", "doors", "--timeout=1ms").with(exitFailed, "--timeout")
	if strings.Contains(o.out, "202") {
		t.Errorf("figures of a run that did not end: %s", o.out)
	}
}
