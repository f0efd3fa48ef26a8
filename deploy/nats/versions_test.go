package nats_test

import (
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/bundle"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// saying is the task toy, whose prompt says a word.
func saying(t *testing.T, word string) *task.Task {
	t.Helper()
	set, err := task.Load(fstest.MapFS{
		"models.yaml":           {Data: []byte("providers:\n  one: {kind: openai, base_url: \"http://127.0.0.1:1/v1\", api_key: none}\nmodels:\n  small: {provider: one, id: x, context_window: 16000, prices: {input: 1, output: 2}}\n")},
		"tasks/toy/task.yaml":   {Data: []byte("model: small\noutput: {format: text}\nladder: []\nno_ladder: the test needs none\n")},
		"tasks/toy/prompt.tmpl": {Data: []byte(`{{define "user"}}` + word + ` {{.Input.text}}{{end}}`)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set.Tasks["toy"]
}

// An operator changes a task and looks at it; ingest removes what nothing names any more.
func TestVersionsAreChangedByAnOperatorAndCollectedByIngest(t *testing.T) {
	r := setup(t)
	duty, ingest := bundle.NewStore(r.connect(operatorUser)), r.connect(broker.Ingest)
	for n := range 5 {
		b := bundle.Of(saying(t, fmt.Sprint("word", n)))
		if _, live, err := duty.Push(t.Context(), bundle.Push{Bundle: b, By: "test", How: bundle.HowPush}); err != nil || !live {
			t.Fatalf("the operator pushes: live %v, %v", live, err)
		}
	}
	mark := &job.Marker{V: 1, ID: "a", Task: "toy", TaskVersion: "00000000", Run: 1, AnswerBy: time.Now().Add(time.Hour)}
	if _, err := ingest.Admit(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	if counts, err := duty.InFlight(t.Context(), time.Now()); err != nil || counts[bundle.Name{Task: "toy", Version: "00000000"}] != 1 {
		t.Errorf("the operator counts what is in flight: %v, %v", counts, err)
	}
	c, gone := bundle.NewCollector(bundle.NewStore(ingest)), 0
	for hour := range 3 {
		names, err := c.Collect(t.Context(), time.Now().Add(time.Duration(26+hour)*time.Hour))
		if err != nil {
			t.Fatalf("ingest collects: %v", err)
		}
		gone += len(names)
	}
	if gone != 1 {
		t.Errorf("%d versions were collected, want the first of five", gone)
	}
	if _, _, err := duty.Rollback(t.Context(), "toy", "", "test"); err != nil {
		t.Errorf("the operator rolls back: %v", err)
	}
	for _, refusal := range r.refusals(operatorUser, broker.Ingest) {
		t.Error(refusal)
	}
}
