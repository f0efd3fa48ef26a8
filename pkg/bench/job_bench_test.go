package bench

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/rs/zerolog"

	"spillway/pkg/job"
	"spillway/services"
)

// BenchmarkJob measures a job of 1.5 KB on its whole way, in a burst: time a job, and CPU time a job.
func BenchmarkJob(b *testing.B) {
	for _, way := range []struct {
		name    string
		measure func(context.Context, *bench, string) error
	}{
		{"relay", func(ctx context.Context, m *bench, url string) error {
			_, err := m.relayBurst(ctx, url, "", relayWorkload(b, m), 0, PhaseRelay)
			return err
		}},
		{"relay-with-a-call", func(ctx context.Context, m *bench, url string) error {
			_, err := m.relayBurst(ctx, url, m.provider.URL(), relayWorkload(b, m), 0, PhaseRelayWithCall)
			return err
		}},
		{"pipeline", func(ctx context.Context, m *bench, url string) error {
			err := m.pipelineBurst(ctx, url)
			if c := m.report.Checks; err == nil && !c.OK() {
				return fmt.Errorf("the answers are not what was asked for: %+v", c)
			}
			return err
		}},
	} {
		b.Run(way.name, func(b *testing.B) { burstOf(b, way.measure) })
	}
}

// burstOf measures a burst of b.N jobs; what comes before and after it is not measured.
func burstOf(b *testing.B, measure func(context.Context, *bench, string) error) {
	m, err := newBench(Options{
		Stages: services.Pipeline(), Jobs: b.N, PromptBytes: 1500, Window: 1024, Sync: time.Second, Log: zerolog.Nop(),
		Around: func(string) func() {
			cpu := cpuTime()
			b.ResetTimer()
			return func() {
				b.StopTimer()
				b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = m.provider.Close() }() // it ends what hangs; nothing does
	if err := m.onServer(func(url string) error { return measure(b.Context(), m, url) }); err != nil {
		b.Fatal(err)
	}
}

func relayWorkload(b *testing.B, m *bench) *workload {
	b.Helper()
	set, err := benchTask(m.provider.URL())
	if err != nil {
		b.Fatal(err)
	}
	w, err := newWorkload(set.Tasks[TaskName], []byte(sampleInput), m.PromptBytes, 0)
	if err != nil {
		b.Fatal(err)
	}
	return w
}

// jobOf is a job on its way from inference to the validator, with a text of so many bytes.
func jobOf(b *testing.B, size int) *job.Job {
	b.Helper()
	text := strings.Repeat(prose, size/len(prose)+1)[:size]
	at := time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)
	wire := map[string]any{
		"v": job.Version, "id": "01J8ZQ4T5V6W7X8Y9Z0A1B2C3D", "task": TaskName, "task_version": "9f2c41aa", "lane": job.Interactive,
		"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "run": 1, "hop": 3,
		"acknowledged_at": at, "deadline": at, "handed_over_at": at,
		"input": map[string]string{"text": text}, "model": model, "prompt_tokens": 320, "max_output_tokens": 1000,
		"messages": []job.Message{{Role: "system", Content: systemPrompt}, {Role: "user", Content: text}},
		"answer":   job.Answer{Content: strings.Repeat(`{"word": 1}`, 20), FinishReason: "stop", AnsweredBy: modelID},
		"calls":    1, "usage": job.Usage{InputTokens: 320, OutputTokens: 60, Calls: 1}, "cost_usd": 0.00012,
		"history": []job.Event{
			{Kind: job.KindHop, Stage: "one", At: at, QueuedMS: 1},
			{Kind: job.KindHop, Stage: "two", At: at, QueuedMS: 1},
			{Kind: job.KindCall, Stage: "three", At: at, N: 1, Model: model, TookMS: 1840, FirstTokenMS: 310, Outcome: "ok"},
			{Kind: job.KindHop, Stage: "three", At: at, QueuedMS: 1, TookMS: 1841},
		},
	}
	body, err := json.Marshal(wire)
	if err != nil {
		b.Fatal(err)
	}
	j := &job.Job{}
	if err := json.Unmarshal(body, j); err != nil {
		b.Fatal(err)
	}
	return j
}

var sizes = []int{1_500, 30_000, 200_000}

func BenchmarkJobEncode(b *testing.B) {
	for _, size := range sizes {
		j := jobOf(b, size)
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := json.Marshal(j); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkJobDecode(b *testing.B) {
	for _, size := range sizes {
		body, err := json.Marshal(jobOf(b, size))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := json.Unmarshal(body, &job.Job{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
