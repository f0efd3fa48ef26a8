package stage

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"spillway/pkg/job"
)

// sample is a job on its way from inference to the validator, with a text of so many bytes.
func sample(size int) *job.Job {
	const prose = "The customer writes that the parcel arrived on Tuesday with a torn label. "
	text := strings.Repeat(prose, size/len(prose)+1)[:size]
	at := time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)
	j := &job.Job{
		V: job.Version, ID: "01J8ZQ4T5V6W7X8Y9Z0A1B2C3D", Task: "toy", TaskVersion: "9f2c41aa", Lane: job.Interactive,
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Run: 1, Hop: 3,
		AcknowledgedAt: at, Deadline: at.Add(time.Minute), HandedOverAt: at, Model: "small", PromptTokens: 320,
		Input: json.RawMessage(`{"text":"` + text + `"}`), Metadata: json.RawMessage(`{"any":"thing"}`),
		Prompt: job.NewPrompt(job.Message{Role: "system", Content: "Sort the letters."}, job.Message{Role: "user", Content: text}),
		Answer: &job.Answer{Content: strings.Repeat(`{"word": 1}`, 20), FinishReason: "stop", AnsweredBy: "small-1"},
		Calls:  1, Usage: job.Usage{InputTokens: 320, OutputTokens: 60, Calls: 1}, CostUSD: 0.00012,
	}
	for _, stage := range []string{"one", "two", "three"} {
		j.Record(job.Event{Kind: job.KindHop, Stage: stage, At: at, QueuedMS: 1})
	}
	j.Record(job.Event{Kind: job.KindCall, Stage: "three", At: at, N: 1, Model: "small", TookMS: 1840, FirstTokenMS: 310, Outcome: "ok"})
	return j
}

// BenchmarkHandOver is what a hop takes of the codec: a job is decoded, and encoded again.
func BenchmarkHandOver(b *testing.B) {
	for _, size := range []int{1_500, 30_000, 200_000} {
		message, err := encode(sample(size))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				j, err := decode(message)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := encode(j); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
