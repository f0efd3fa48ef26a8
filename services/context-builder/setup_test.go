package contextbuilder

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// The prompt of the second article's task, with examples.
const promptText = `{{define "system"}}You route new customers. Answer with one JSON object that satisfies this schema:
{{.Schema}}
{{end}}
{{define "user.1"}}I want euros.{{end}}{{define "assistant.1"}}{"intent":"exchange"}{{end}}
{{define "user.2"}}Who are you?{{end}}{{define "assistant.2"}}{"intent":"inquiry"}{{end}}
{{define "user"}}{{.Input.message}}{{end}}`

const modelsText = `providers:
  main: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}
models:
  small: {provider: main, id: s, context_window: 1000, max_output_tokens: 400, encoding: o200k_base, structured_output: none, prices: {input: 0, output: 0}}
  strict: {provider: main, id: s, context_window: 1000, max_output_tokens: 400, encoding: o200k_base, structured_output: json_schema, prices: {input: 0, output: 0}}
  abroad: {provider: main, id: a, context_window: 2000, max_output_tokens: 100, encoding: cl100k_base, token_safety: 1.5, structured_output: none, prices: {input: 0, output: 0}}
  wide8: {provider: main, id: w8, context_window: 128000, encoding: o200k_base, prices: {input: 0, output: 0}}
  wide: {provider: main, id: w, context_window: 2000000, max_output_tokens: 16384, encoding: none, structured_output: none, prices: {input: 0, output: 0}}
`

const schemaText = `{"type":"object","properties":{"intent":{"enum":["exchange","inquiry","support"]}},"required":["intent"]}`

// shownText is what a model that takes schemas sees of its strict form.
const shownText = `{"type":"object","properties":{"intent":{"enum":["exchange","inquiry","support"],"type":"string"}}}`

// load reads a folder with one task, written as a user would write it.
func load(t testing.TB, manifest string, files map[string]string) *task.Set {
	t.Helper()
	folder := fstest.MapFS{
		"models.yaml":                     {Data: []byte(modelsText)},
		"tasks/sample/task.yaml":          {Data: []byte(manifest)},
		"tasks/sample/prompt.tmpl":        {Data: []byte(promptText)},
		"tasks/sample/output.schema.json": {Data: []byte(schemaText)},
		"tasks/sample/input.schema.json":  {Data: []byte(`{"type":"object","properties":{"message":{"type":"string"}},"required":["message"]}`)},
		"tasks/sample/canned.yaml":        {Data: []byte("- output: {intent: inquiry}\n")},
	}
	for name, text := range files {
		at := path.Join("tasks/sample", name) // ../other/… is another task's
		folder[at] = &fstest.MapFile{Data: []byte(text)}
		if text == "" {
			delete(folder, at)
		}
	}
	set, err := task.Load(folder, nil)
	if err != nil {
		t.Fatalf("%v: %v", slices.Sorted(maps.Keys(folder)), err)
	}
	return set
}

func handlerOf(t testing.TB, set *task.Set) *Handler {
	t.Helper()
	h, err := New(&stage.Env{Tasks: set})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func admitted(t testing.TB, input any) *job.Job {
	t.Helper()
	text, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	return &job.Job{
		V: job.Version, ID: "j1", Task: "sample", Lane: job.Interactive, Run: 1, Input: text,
		AcknowledgedAt: now, Deadline: now.Add(time.Minute),
	}
}

func message(text string) any { return map[string]any{"message": text} }

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
