package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain runs the program itself where a test, or a command under test, starts this binary with one of its
// commands.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") { // go test has flags alone
		main()
		return
	}
	os.Exit(m.Run())
}

func TestBenchMeasuresCallsAtOnce(t *testing.T) {
	crowd := []string{"bench", "--in-flight=50", "--model-latency=100ms"}
	report := spillway(t, append(crowd, "--json")...).with(exitOK).one()
	bare, pipeline := report["bare_client"].(map[string]any), report["pipeline"].(map[string]any)
	if report["calls_at_once"] != 50.0 || report["ratio_seconds"].(float64) <= 0 || report["redeliveries"] != 0.0 {
		t.Errorf("%v", report)
	}
	if bare["seconds"].(float64) < 0.1 || pipeline["max_in_flight"].(float64) < 2 {
		t.Errorf("%v", report)
	}
	spillway(t, crowd...).with(exitOK, "50 calls at once", "MOST IN FLIGHT", "bare client", "50 results; missing 0", "paid twice 0", "delivered again 0")
}

func TestBenchMeasuresInteractiveJobsInAFlood(t *testing.T) {
	said := spillway(t, "bench", "--flood=200", "--latency-jobs=10", "--rate=100", "--model-latency=50ms")
	said.with(exitOK, "200 batch requests", "INTERACTIVE AT 100 JOBS/S", "alone", "the flood begins", "the flood goes on", "30 results; missing 0", "The flood was over")
}

func TestBenchMeasuresStartsWithUnfinishedRuns(t *testing.T) {
	start := []string{"bench", "--unfinished=0,3000", "--idle=1ms"}
	lines := spillway(t, append(start, "--json")...).with(exitOK).lines()
	if len(lines) != 2 || lines[1]["unfinished_runs"] != 3000.0 || lines[1]["watched_ms"].(float64) < lines[1]["ready_ms"].(float64) {
		t.Errorf("%v", lines)
	}
	spillway(t, start...).with(exitOK, "0 unfinished runs", "3,000 unfinished runs", "all deadlines watched after", "memory, each")
}

func TestBenchMeasuresStartsWithKeptResults(t *testing.T) {
	spillway(t, "bench", "--kept=100", "--idle=1ms").with(exitOK, "100 kept results", "ready in")
}

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	spillway(t, "bench", "--in-flight=10", "--flood=10").with(exitUsage, "can't be used together")
	spillway(t, "bench", "--in-flight=10", "--nats=nats://127.0.0.1:1", "--task=any").with(exitUsage, "server of its own")
	spillway(t, "bench", "--flood=10", "--task=any").with(exitUsage, "server of its own")
	spillway(t, "bench", "--flood=1000000").with(exitFailed, "do not fit")
	spillway(t, "bench", "--in-flight=-1").with(exitFailed, "jobs are 1 to")
	spillway(t, "bench", "--in-flight=10", "--timeout=1ms").with(exitFailed, "--timeout")
}

func TestBenchSaysBeforeItStartsThatFilesWillNotDo(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", `ulimit -n 300 && exec "$0" bench --in-flight=1000`, self).CombinedOutput()
	if err == nil || err.Error() != "exit status 1" || !strings.Contains(string(out), "ulimit -n 1512") {
		t.Errorf("%v: %s", err, out)
	}
}
