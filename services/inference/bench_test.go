package inference

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sashabaranov/go-openai"

	"spillway/pkg/job"
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

func BenchmarkAHealthyCallOfAHundredTokens(b *testing.B) {
	h := setup(b, "http://canned/v1")
	h.providers["main"].transport.RegisterProtocol("http", canned{hundredTokens()})
	b.ReportAllocs()
	for b.Loop() {
		j := newJob(job.Interactive)
		if err := h.Handle(b.Context(), j); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTheSameCallByTheLibraryAlone is what the call above is to be compared with.
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
