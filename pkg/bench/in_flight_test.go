package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/bench"
	"spillway/pkg/fakellm"
)

// providerWord makes this test binary a simulated provider.
const providerWord = "provider-child"

// providerMain serves until it is killed, if args say so; the file that they name gets its process id.
func providerMain(args []string) bool {
	if len(args) != 3 || args[0] != providerWord {
		return false
	}
	latency, err := time.ParseDuration(args[1])
	if err == nil {
		err = os.WriteFile(args[2], []byte(strconv.Itoa(os.Getpid())), 0o600)
	}
	var s *fakellm.Server
	if err == nil {
		s, err = fakellm.Start(fakellm.Options{Latency: fakellm.Latency{FirstToken: latency}, Log: zerolog.Nop()})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "provider child:", err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"base_url": s.URL(), "control": s.Root() + "/fake/"})
	select {}
}

// inFlight are the options of a crowd, and the file with the process id of its last provider.
func inFlight(t *testing.T, jobs int, latency time.Duration) (bench.Options, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pid := filepath.Join(t.TempDir(), "pid")
	o := options()
	o.Jobs, o.ModelLatency = jobs, latency
	o.Provider = []string{self, providerWord, latency.String(), pid}
	return o, pid
}

// hasEnded fails the test while the provider's process is there.
func hasEnded(t *testing.T, pidFile string) {
	t.Helper()
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the provider's process %d is still there: %v", pid, err)
	}
}

// It is not parallel: the memory that it measures is the process's.
func TestACrowdOfCallsIsMeasuredBesideABareClient(t *testing.T) {
	const jobs = 200
	o, pid := inFlight(t, jobs, 200*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := bench.InFlight(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Checks; c.Jobs != jobs || c.Calls != jobs || c.PaidTwice != 0 || !c.OK() {
		t.Errorf("checks are %+v", c)
	}
	if r.Redeliveries != 0 {
		t.Errorf("%d messages were delivered again", r.Redeliveries)
	}
	for name, a := range map[string]bench.AtOnce{"pipeline": r.Pipeline, "bare client": r.Bare} {
		if a.Seconds < 0.2 || a.MaxInFlight < 2 || a.MaxInFlight > jobs {
			t.Errorf("%s: %+v", name, a)
		}
		if a.Live.PerCall <= 0 || a.Live.Peak <= a.Live.Before {
			t.Errorf("%s: live memory is %+v", name, a.Live)
		}
	}
	if r.Ratio <= 0 {
		t.Errorf("the ratio is %g", r.Ratio)
	}
	hasEnded(t, pid)
}

func TestACrowdEndsSoonAfterItsContextAndItsProviderWithIt(t *testing.T) {
	t.Parallel()
	stop := errors.New("the user has seen enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	o, pid := inFlight(t, 50, time.Second)
	o.Progress = func(string, int, int) { cancel(stop) }
	if _, err := bench.InFlight(ctx, o); !errors.Is(err, stop) {
		t.Errorf("the run ended with %v", err)
	}
	hasEnded(t, pid)
}

func TestACrowdThatCannotBeMeasuredIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*bench.Options){
		"more calls than ports":   func(o *bench.Options) { o.Jobs = bench.MaxInFlight + 1 },
		"a running pipeline":      func(o *bench.Options) { o.NATS, o.Task = "nats://127.0.0.1:1", "any" },
		"no provider":             func(o *bench.Options) { o.Provider = nil },
		"a provider that is none": func(o *bench.Options) { o.Provider = []string{"/bin/echo", "no provider"} },
	} {
		o, _ := inFlight(t, 10, 0)
		spoil(&o)
		if _, err := bench.InFlight(t.Context(), o); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}
