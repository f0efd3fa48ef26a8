package services_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// warnings are the lines of a log that warn.
type warnings struct {
	mu    sync.Mutex
	lines []map[string]any
}

// Write takes one line.
func (w *warnings) Write(line []byte) (int, error) {
	if !bytes.Contains(line, []byte(`"level":"warn"`)) {
		return len(line), nil
	}
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fields)
	return len(line), nil
}

// that are the lines whose message contains text.
func (w *warnings) that(text string) (found []map[string]any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.lines {
		if strings.Contains(line["message"].(string), text) {
			found = append(found, line)
		}
	}
	return found
}

// driftRig runs the whole pipeline, whose models' breakers stay closed, and keeps what it warns of.
func driftRig(t *testing.T) (*rig, *warnings) {
	t.Helper()
	r := setupWith(t, brokertest.Server(t).URL(), 1, func(first, second string) fstest.MapFS {
		fs := folder(first, second)
		closed := defaultLimits + "\n  breaker: {consecutive_failures: 1000000, failure_share: 1, min_calls: 1000000}\n  retry_share: 1"
		as := small("small", "one", first)
		as.rest += ", answers_as: small-1"
		fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(closed, as, large("large", "two", second)))}
		return fs
	})
	w := &warnings{}
	r.log = zerolog.New(w)
	r.run()
	return r, w
}

// endings has n requests of the task toy answered, and returns how they ended.
func (r *rig) endings(n int, what string) map[job.Status]int {
	r.t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = r.ask(job.Batch, "toy", fmt.Sprintf("%s %d", what, i))
	}
	ended := map[job.Status]int{}
	for _, id := range ids {
		ended[r.result(id, 1).Status]++
	}
	return ended
}

// drifted is how often a share doubled, as the stages count it.
func (r *rig) drifted() map[string]float64 {
	return map[string]float64{
		"invalid":  r.counted(broker.Validator, "spillway_drift_total"),
		"degraded": r.counted(broker.ResultWriter, "spillway_drift_total"),
	}
}

func TestATaskWhoseShareOfInvalidAnswersDoublesIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	r, warned := driftRig(t)
	r.first.SetFaults(fakellm.Fault{Kind: fakellm.KindOffSchemaOnceTold, Rate: 0.05})
	r.endings(400, "before")
	if got := r.drifted(); got["invalid"] != 0 || got["degraded"] != 0 || len(warned.that("doubled")) != 0 {
		t.Fatalf("5 %% of invalid answers, as ever: %v, %v", got, warned.lines)
	}
	// Overnight, each answer is off the schema until the model is told.
	r.first.SetFaults(fakellm.Fault{Kind: fakellm.KindOffSchemaOnceTold})
	if ended := r.endings(60, "after"); ended[job.Succeeded] != 60 {
		t.Fatalf("the corrections mend them: %v", ended)
	}
	if got := r.drifted(); got["invalid"] != 1 || got["degraded"] != 0 {
		t.Errorf("counted: %v", got)
	}
	lines := warned.that("the share of bad answers has doubled")
	if len(lines) != 1 {
		t.Fatalf("warned %d times: %v", len(lines), lines)
	}
	line := lines[0]
	if line["task"] != "toy" || line["kind"] != "invalid" || line["stage"] != "validator" || line["task_version"] != r.tasks.Tasks["toy"].Version {
		t.Errorf("the warning: %v", line)
	}
	if usual, now := line["usual_share"].(float64), line["share"].(float64); usual < 0.02 || usual > 0.08 || now < 2*usual {
		t.Errorf("shares %v, then %v", usual, now)
	}
}

func TestATaskWhoseShareOfDegradedAnswersDoublesIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	r, warned := driftRig(t)
	r.endings(300, "before")
	r.first.SetFaults(fakellm.Fault{Kind: fakellm.KindRefusal, Rate: 0.5})
	if ended := r.endings(60, "after"); ended[job.Degraded] < 15 {
		t.Fatalf("refusals have canned answers: %v", ended)
	}
	brokertest.Eventually(t, 10*time.Second, "the drift is counted", func() bool { return r.drifted()["degraded"] == 1 })
	var line map[string]any
	for _, l := range warned.that("doubled") {
		if l["kind"] == "degraded" {
			line = l
		}
	}
	if line["task"] != "toy" || line["stage"] != "result-writer" || line["usual_bad"] != 0.0 || line["task_version"] != r.tasks.Tasks["toy"].Version {
		t.Errorf("the warning: %v of %v", line, warned.lines)
	}
}

func TestASteadyShareOfBadAnswersIsNoDrift(t *testing.T) {
	t.Parallel()
	r, warned := driftRig(t)
	r.first.SetFaults(fakellm.Fault{Kind: fakellm.KindRefusal, Rate: 0.3})
	ended := r.endings(800, "steady")
	if share := float64(ended[job.Degraded]) / 800; share < 0.25 || share > 0.35 {
		t.Fatalf("a share of %v is degraded", share)
	}
	if got := r.drifted(); got["invalid"] != 0 || got["degraded"] != 0 || len(warned.that("doubled")) != 0 {
		t.Errorf("%v, %v", got, warned.lines)
	}
}

func TestAModelThatAnswersUnderAnotherNameIsToldInTheResult(t *testing.T) {
	t.Parallel()
	r, warned := driftRig(t)
	r.endings(3, "before")
	r.first.SetName("small-1", "small-2")
	id := r.ask(job.Interactive, "toy", "Who are you?")
	result := r.result(id, 1)
	if result.Status != job.Succeeded || result.AnsweredBy != "small-2" {
		t.Fatalf("%+v", result)
	}
	remarked := 0
	for _, e := range result.History {
		if e.Kind == job.KindCall && strings.Contains(e.Detail, "small-2 answered, models.yaml names small-1") {
			remarked++
		}
	}
	if n := r.counted(broker.Inference, "spillway_answered_by_another_total"); remarked != 1 || n != 1 || len(warned.that("another model answered")) != 1 {
		t.Errorf("%d remarks, counted %v, warned %v", remarked, n, warned.lines)
	}
}
