package inference

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sashabaranov/go-openai"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// hundredTokens is a usual answer: one token an event, as OpenAI sends it.
func hundredTokens() string {
	const head = `data: {"id":"chatcmpl-9yIqLmnOpQrStUvWxYz0123456789","object":"chat.completion.chunk","created":1723031665,"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_48196bc67a","choices":[{"index":0,"delta":`
	var b strings.Builder
	for range 100 {
		b.WriteString(head + `{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n")
	}
	b.WriteString(head + `{},"logprobs":null,"finish_reason":"stop"}],"usage":null}` + "\n\n")
	b.WriteString(`data: {"choices":[],"usage":{"prompt_tokens":412,"completion_tokens":100,"total_tokens":512}}` + "\n\ndata: [DONE]\n\n")
	return b.String()
}

// canned is a provider without a network: what is measured is this side alone.
type canned struct{ body string }

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body))}, nil
}

func (c canned) Do(req *http.Request) (*http.Response, error) { return c.RoundTrip(req) }

// BenchmarkAHealthyCallOfAHundredTokens is all that a call costs here: guards, breakers, limits, request,
// stream, history, metrics. BenchmarkTheSameCallByTheLibraryAlone is what it is to be compared with.
func BenchmarkAHealthyCallOfAHundredTokens(b *testing.B) {
	h := setup(b, "http://canned/v1", func(env *stage.Env) {
		env.Conn = brokertest.Connect(b, brokertest.Server(b).URL())
		brokertest.Ensure(b, env.Conn, broker.NewTopology(nil, nil, broker.DefaultSizing()))
		m := env.Tasks.Models["small"]
		m.Limits = task.Limits{Concurrency: 1000, RequestsPerMinute: 100_000_000, TokensPerMinute: 100_000_000_000, BatchShare: 0.5}
		m.Breaker = task.Breaker{ConsecutiveFailures: 5, FailureShare: 0.5, MinCalls: 5, Window: time.Minute, HalfOpenAfter: time.Minute, Probes: 1}
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	h.providers["main"].transport.RegisterProtocol("http", canned{hundredTokens()})
	b.ReportAllocs()
	for b.Loop() {
		j := newJob(job.Interactive)
		if err := h.Handle(b.Context(), j); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTheSameCallByTheLibraryAlone(b *testing.B) {
	config := openai.DefaultConfig(secret)
	config.BaseURL, config.HTTPClient = "http://canned/v1", canned{hundredTokens()}
	client := openai.NewClientWithConfig(config)
	b.ReportAllocs()
	for b.Loop() {
		stream, err := client.CreateChatCompletionStream(context.Background(), openai.ChatCompletionRequest{
			Model: "model-1", Stream: true, StreamOptions: &openai.StreamOptions{IncludeUsage: true},
			Messages: []openai.ChatCompletionMessage{{Role: "system", Content: "Be kind."}, {Role: "user", Content: "Greet the world."}},
		})
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		_ = stream.Close()
	}
}
