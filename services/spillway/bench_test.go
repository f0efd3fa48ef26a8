package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"spillway/pkg/bench"
	"spillway/pkg/job"
	"spillway/services/validator/corpus"
)

// TestMain runs the program itself where a test, or a command under test, starts this binary with one of its
// commands.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"fakellm", "bench", "up"}, os.Args[1]) {
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

func TestBenchPlaysTheRecordedAnswersThroughAPipeline(t *testing.T) {
	o := spillway(t, "bench", "validity", "--json").with(exitOK)
	var report struct {
		Classes []bench.ValidityClass `json:"classes"`
		Wrong   []string              `json:"wrong"`
		Hostile []struct{ Verdict string }
	}
	if err := json.Unmarshal([]byte(o.out), &report); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	lines, err := corpus.Lines()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if !l.Base64 {
			want[l.Class]++
		}
	}
	for _, c := range report.Classes {
		if c.Answers != want[c.Class] || c.Calls < c.Answers+c.Steps[job.RecoveryCorrected] || c.OutputTokens <= c.Calls {
			t.Errorf("%+v, want %d answers", c, want[c.Class])
		}
		if accepted := c.Answers - c.Steps[job.RecoveryCorrected] - c.Steps[bench.StepNone]; c.Class == "trap" && accepted > 0 {
			t.Errorf("%d traps are accepted", accepted)
		}
		if c.Class == "trap" && c.Steps[job.RecoveryCorrected] < c.Answers/2 {
			t.Errorf("%d traps are corrected by a model that is right when it is told", c.Steps[job.RecoveryCorrected])
		}
		delete(want, c.Class)
	}
	if len(want) > 0 || len(report.Wrong) > 0 || len(report.Hostile) != 4 {
		t.Errorf("left %v, wrong %q, hostile %v", want, report.Wrong, report.Hostile)
	}
	for _, args := range [][]string{{"--task=x"}, {"--live", "--requests=0"}} {
		spillway(t, append([]string{"bench", "validity"}, args...)...).with(exitUsage)
	}
	spillway(t, "bench", "validity", "--live").with(exitUsage, "there is no key", "OPENAI_API_KEY")
}
