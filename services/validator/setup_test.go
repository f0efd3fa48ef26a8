package validator

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"spillway/pkg/expr"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// The schemas are those of the two articles that the project comes from, and one that allows everything, so
// that only the validator itself stands between a wrong reading and the client.
const (
	onboarding = `{"type":"object","properties":{"intent":{"type":"string","enum":["exchange","inquiry","support"]},
		"urgency":{"type":"number","minimum":0,"maximum":1},"suggestedRoute":{"type":"string"}},
		"required":["intent","urgency"],"additionalProperties":false}`
	analysis = `{"type":"object","properties":{"sentiment":{"enum":["positive","negative","neutral"]},
		"confidence":{"type":"number","minimum":0,"maximum":1},"summary":{"type":"string","minLength":10,"maxLength":500},
		"topics":{"type":"array","items":{"type":"string"},"minItems":1,"maxItems":10}},
		"required":["sentiment","confidence","summary","topics"],"additionalProperties":false}`
	permissive = `{"type":"object"}`
	list       = `{"type":"array","items":{"type":"object"}}`
)

const (
	good        = `{"intent":"support","urgency":0.9,"suggestedRoute":"/support"}`
	firstModel  = "first"
	secondModel = "second"
)

// now is when every handler of the tests lives.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func compile(t testing.TB, source string) *schema.Schema {
	t.Helper()
	s, err := schema.Compile([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rule(t testing.TB, source, say string) task.Rule {
	t.Helper()
	p, err := expr.Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	return task.Rule{Name: "rule", Expr: p, Say: say}
}

// taskOf is a task with the defaults of the reference.
func taskOf(t testing.TB, outputSchema string) *task.Task {
	t.Helper()
	tk := &task.Task{
		Name: "sample", Model: firstModel, KeepDegraded: true,
		Deadline:   task.Deadline{Default: time.Minute, Reserve: 2 * time.Second},
		Retry:      task.Retry{MaxCalls: 6},
		Correction: task.Correction{Times: 2, MaxTokens: 4000, OnTruncation: "raise_once"},
		Output: task.Output{
			Format: task.FormatJSON, MaxBytes: 64 << 10, AdditionalProperties: "reject", OptionalNull: "drop", Repair: true,
		},
	}
	if outputSchema != "" {
		tk.OutputSchema = compile(t, outputSchema)
	}
	return tk
}

func handlerOf(t testing.TB, tk *task.Task) *Handler {
	t.Helper()
	h, err := New(&stage.Env{Tasks: &task.Set{
		Tasks: map[string]*task.Task{tk.Name: tk},
		Models: map[string]*task.Model{
			firstModel:  {Name: firstModel, ContextWindow: 8000, MaxOutputTokens: 1000},
			secondModel: {Name: secondModel, ContextWindow: 8000, MaxOutputTokens: 1000},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.now = func() time.Time { return now }
	return h
}

// answered is a job as inference hands it over after its first call.
func answered(content, finish string) *job.Job {
	return &job.Job{
		V: job.Version, ID: "j1", Task: "sample", Run: 1, Lane: job.Interactive, Model: firstModel,
		AcknowledgedAt: now.Add(-10 * time.Second), Deadline: now.Add(50 * time.Second),
		Input:  json.RawMessage(`{"message":"My card is blocked!!"}`),
		Prompt: job.NewPrompt(job.Message{Role: "user", Content: "My card is blocked!!"}), PromptTokens: 100, MaxOutputTokens: 300,
		Answer: &job.Answer{Content: content, FinishReason: finish, AnsweredBy: "first-2026-01-01"},
		Calls:  1,
		History: []job.Event{
			{Kind: job.KindHop, Stage: "ingest"},
			{Kind: job.KindCall, N: 1, Model: firstModel, Outcome: "ok", InputTokens: 100, OutputTokens: 40},
		},
	}
}

func judged(t testing.TB, tk *task.Task, content string) Verdict {
	t.Helper()
	return Judge(tk, []byte(`{}`), &job.Answer{Content: content, FinishReason: "stop"})
}

// handle runs the handler and returns the fate, nil for none.
func handle(t testing.TB, h *Handler, j *job.Job) *fate.Error {
	t.Helper()
	err := h.Handle(context.Background(), j)
	if err == nil {
		return nil
	}
	f, ok := errors.AsType[*fate.Error](err)
	if !ok {
		t.Fatalf("an error without a fate: %v", err)
	}
	return f
}

// same compares JSON texts by value.
func same(t testing.TB, got []byte, want string) bool {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("the output is not JSON: %v: %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("the test is wrong: %v: %s", err, want)
	}
	return reflect.DeepEqual(g, w)
}

func lastVerdict(t testing.TB, j *job.Job) job.Event {
	t.Helper()
	e := j.History[len(j.History)-1]
	if e.Kind != job.KindVerdict || e.Stage != "validator" || e.Model == "" || !e.At.Equal(now) {
		t.Fatalf("the last event is no verdict: %+v", e)
	}
	return e
}
