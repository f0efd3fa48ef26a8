package bench

import (
	"fmt"
	"testing/fstest"

	"spillway/pkg/task"
)

// TaskName is the task of a bench that names none. It is made in memory and is like one that is in use: a
// system prompt, an input schema, an output schema that the provider is asked for, a ladder, a cache.
const TaskName = "bench"

// model is what the bench's task calls, under the provider's id modelID.
const (
	model   = "bench"
	modelID = "bench-1"
)

const taskYAML = `model: bench
parameters: {temperature: 0, max_output_tokens: 1000}
deadline: {default: 30m, max: 4h, reserve: 2s}
context: {max_input_tokens: 120000}
ladder:
  - {rung: cache, max_age: 24h}
  - {rung: canned}
`

const modelsYAML = `defaults:
  timeouts: {connect: 10s, first_token: 60s, silence: 30s, call: 120s}
providers:
  bench: {kind: openai, base_url: %q, api_key: none}
models:
  bench: {provider: bench, id: bench-1, context_window: 128000, max_output_tokens: 16384, encoding: o200k_base, structured_output: json_schema, prices: {as_of: "2026-11-01", input: 0.15, output: 0.6}}
`

const (
	systemPrompt = "You sort letters that customers write to a shop. Say in one sentence what the letter is about, how urgent it is, and where it should go."
	promptTmpl   = `{{define "system"}}` + systemPrompt + `{{end}}{{define "user"}}{{.Input.text}}{{end}}`
	inputSchema  = `{"type":"object","properties":{"text":{"type":"string","minLength":1}},"required":["text"],"additionalProperties":false}`
	// outputSchema makes the provider say about 60 tokens.
	outputSchema = `{"type":"object","properties":{"about":{"type":"string","minLength":160},"urgency":{"enum":["low","normal","high"]},"route":{"enum":["sales","support","billing"]},"confidence":{"type":"number","minimum":0,"maximum":1}},"required":["about","urgency","route","confidence"],"additionalProperties":false}`
	cannedYAML   = "- output: {about: \"A person will read this letter. Nothing more is known of it yet, so it waits in the general queue of the shop until somebody has the time to read it with the care it needs.\", urgency: normal, route: support, confidence: 0}\n"
	sampleInput  = `{"text":"?"}`
)

// benchFiles are the task's, with its model at the provider's URL.
func benchFiles(provider string) fstest.MapFS {
	folder := fstest.MapFS{"models.yaml": {Data: fmt.Appendf(nil, modelsYAML, provider)}}
	for name, text := range map[string]string{
		"task.yaml": taskYAML, "prompt.tmpl": promptTmpl, "input.schema.json": inputSchema,
		"output.schema.json": outputSchema, "canned.yaml": cannedYAML,
	} {
		folder["tasks/"+TaskName+"/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	return folder
}

// benchTask loads the task.
func benchTask(provider string) (*task.Set, error) {
	set, err := task.Load(benchFiles(provider), func(string) string { return "" })
	if err != nil {
		return nil, fmt.Errorf("load the task of the bench: %w", err)
	}
	return set, nil
}
