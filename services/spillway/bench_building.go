package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing/fstest"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/bench"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	contextbuilder "spillway/services/context-builder"
)

// building is how long a prompt takes to be made: from the job to its messages, without the broker.
type building struct {
	Tokens int `json:"tokens"`
	Turns  int `json:"turns"`
	// Kept is with counts of texts that came before, First with texts that nobody has counted yet. In milliseconds.
	Kept  bench.Spread `json:"kept_counts_ms"`
	First bench.Spread `json:"first_time_ms"`
}

const (
	buildingTurns = 60
	buildingTimes = 100
	// letterBytes makes a letter of it, of which there are two a turn.
	letterBytes    = 245
	buildingModels = `providers:
  bench: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}
models:
  bench: {provider: bench, id: bench-1, context_window: 128000, max_output_tokens: 16384, encoding: o200k_base, prices: {as_of: "2026-11-01", input: 0.15, output: 0.6}}
`
	buildingTask = `model: bench
output: {format: text}
ladder: []
no_ladder: nothing is asked
context: {turns_from: /turns, recent_turns: 1000}
redaction: {log_content: never}
`
	buildingPrompt = `{{define "system"}}You answer the letters that customers write to a shop.{{end}}{{define "user"}}{{.Input.text}}{{end}}`
	buildingInput  = `{"type":"object","properties":{"text":{"type":"string"},"turns":{"type":"array","items":{"type":"object"}}},"required":["text","turns"]}`
)

// measureBuilding makes prompts of a conversation of about 8,000 tokens, as the stage does.
func measureBuilding(ctx context.Context) (*building, error) {
	set, err := task.Load(fstest.MapFS{
		"models.yaml": {Data: []byte(buildingModels)}, "tasks/letters/task.yaml": {Data: []byte(buildingTask)},
		"tasks/letters/prompt.tmpl": {Data: []byte(buildingPrompt)}, "tasks/letters/input.schema.json": {Data: []byte(buildingInput)},
	}, func(string) string { return "" })
	if err != nil {
		return nil, fmt.Errorf("load the task of the bench: %w", err)
	}
	h, err := contextbuilder.New(&stage.Env{Tasks: set, Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	b := &building{Turns: buildingTurns}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // which words a letter has is no secret
	var first, kept []time.Duration
	for range buildingTimes + 1 { // the first loads the vocabulary
		input, err := letters(random)
		if err != nil {
			return nil, err
		}
		for _, into := range []*[]time.Duration{&first, &kept} {
			j := &job.Job{V: job.Version, ID: "bench", Task: "letters", Lane: job.Interactive, Run: 1, Input: input}
			began := time.Now()
			if err := h.Handle(ctx, j); err != nil {
				return nil, fmt.Errorf("build a prompt: %w", err)
			}
			*into = append(*into, time.Since(began))
			b.Tokens = j.PromptTokens
		}
	}
	b.First, b.Kept = bench.SpreadOf(first[1:]), bench.SpreadOf(kept[1:])
	return b, nil
}

// letters is a conversation that nobody has had before.
func letters(random *rand.Rand) (json.RawMessage, error) {
	words := strings.Fields("the customer writes that her parcel arrived with a torn label and without two spare filters which were on invoice she has called " +
		"twice was promised an answer within one day but heard nothing since would like to know whether replacement can be sent before end of month")
	text := func() string {
		var b strings.Builder
		for b.Len() < letterBytes {
			for range 4 {
				b.WriteString(words[random.IntN(len(words))] + " ")
			}
			fmt.Fprintf(&b, "%d ", random.IntN(1_000_000)) // a number that nobody wrote before
		}
		return b.String()
	}
	turns := make([]job.Message, 0, 2*buildingTurns)
	for range buildingTurns {
		turns = append(turns, job.Message{Role: "user", Content: text()}, job.Message{Role: "assistant", Content: text()})
	}
	return json.Marshal(map[string]any{"text": text(), "turns": turns})
}
