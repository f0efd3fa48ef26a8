package fakellm_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sashabaranov/go-openai"

	"spillway/pkg/fakellm"
)

// These tests read the simulator with the client that Spillway uses.

func (b *bundle) openai() *openai.Client {
	config := openai.DefaultConfig("sk-test")
	config.BaseURL, config.HTTPClient = b.URL(), b.client
	return openai.NewClientWithConfig(config)
}

func chatOf(user string) openai.ChatCompletionRequest {
	return openai.ChatCompletionRequest{
		Model:         "m",
		Messages:      []openai.ChatCompletionMessage{{Role: openai.ChatMessageRoleUser, Content: user}},
		Stream:        true,
		StreamOptions: &openai.StreamOptions{IncludeUsage: true},
	}
}

// streamed is what go-openai made of a stream.
type streamed struct {
	content, finish string
	chunks          int
	usage           *openai.Usage
	ids             map[string]bool
	malformed       int
	err             error
}

func (b *bundle) stream(t *testing.T, request openai.ChatCompletionRequest) streamed {
	t.Helper()
	return read(b.openai().CreateChatCompletionStream(b.ctx, request))
}

func read(stream *openai.ChatCompletionStream, err error) streamed {
	if err != nil {
		return streamed{err: err}
	}
	defer stream.Close()
	s := streamed{ids: map[string]bool{}}
	for {
		chunk, err := stream.Recv()
		if _, isSyntax := errors.AsType[*json.SyntaxError](err); isSyntax {
			s.malformed++
			continue
		}
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			s.err = err
			return s
		}
		s.chunks++
		s.ids[chunk.ID] = true
		if chunk.Usage != nil {
			s.usage = chunk.Usage
		}
		for _, c := range chunk.Choices {
			s.content += c.Delta.Content
			if c.FinishReason != "" {
				s.finish = string(c.FinishReason)
			}
		}
	}
}

func TestAStreamIsReadByGoOpenAI(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	s := b.stream(t, chatOf("my card is blocked"))
	if s.err != nil {
		t.Fatal(s.err)
	}
	contains(t, "content", s.content, fakellm.Nonce("my card is blocked"))
	equal(t, "finish reason", s.finish, "stop")
	equal(t, "ids", len(s.ids), 1)
	equal(t, "prompt tokens", s.usage.PromptTokens, len("my card is blocked")/4)
	equal(t, "completion tokens", s.usage.CompletionTokens, len(s.content)/4)
	tokens := (len(s.content) + 3) / 4
	equal(t, "chunks: role, tokens, finish, usage", s.chunks, tokens+3)
}

func TestUsageIsStreamedOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	answer := b.chat(t, ask("x", object{"stream": true, "stream_options": object{"include_usage": true}}))
	with := answer.events(t)
	equal(t, "chunks that say usage null", strings.Count(answer.body, `"usage":null`), with.chunks-1)
	for _, usage := range with.usages[:len(with.usages)-1] {
		equal(t, "usage before the end", usage, nil)
	}
	if with.usages[len(with.usages)-1] == nil {
		t.Error("no usage at the end")
	}
	without := b.chat(t, ask("x", object{"stream": true}))
	equal(t, "chunks that say usage", strings.Count(without.body, `"usage"`), 0)
	equal(t, "chunks less", without.events(t).chunks, with.chunks-1)
	for _, usage := range without.events(t).usages {
		equal(t, "usage", usage, nil)
	}
}

func TestTokensPerChunkMakesFewerChunksOfTheSameText(t *testing.T) {
	t.Parallel()
	fine, coarse := setup(t, fakellm.Options{}), setup(t, fakellm.Options{TokensPerChunk: 10})
	for _, input := range []string{"x", "y"} {
		a, b := fine.stream(t, chatOf(input)), coarse.stream(t, chatOf(input))
		equal(t, "content", a.content, b.content)
		equal(t, "chunks", b.chunks, 3+(len(b.content)+39)/40)
	}
}

func TestLettersOfSeveralBytesAreNotTornApartInAStream(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	const text = "Grüße aus 東京, \"quoted\"\n\ttabbed \\ and 🙂🙂🙂 \u2028 \x01 end"
	b.SetAnswer("m", text)
	equal(t, "streamed", b.stream(t, chatOf("x")).content, text)
	equal(t, "plain", b.content(t, ask("x", nil)), text)
}

func TestGoOpenAISeesFaultsAsItSeesThoseOfProviders(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	b.Script("m", fakellm.Fault{Kind: "429"}, fakellm.Fault{Kind: "malformed_chunk"}, fakellm.Fault{Kind: "comments"},
		fakellm.Fault{Kind: "error_chunk"}, fakellm.Fault{Kind: "cut"}, fakellm.Fault{Kind: "502"})
	limited, isAPI := errors.AsType[*openai.APIError](b.stream(t, chatOf("x")).err)
	if !isAPI || limited.HTTPStatusCode != 429 || limited.Code != "rate_limit_exceeded" {
		t.Errorf("429: %+v", limited)
	}
	malformed := b.stream(t, chatOf("x"))
	equal(t, "malformed lines", malformed.malformed, 1)
	equal(t, "finish reason behind a malformed line", malformed.finish, "stop")
	if err := b.stream(t, chatOf("x")).err; !errors.Is(err, openai.ErrTooManyEmptyStreamMessages) {
		t.Errorf("comments: %v", err)
	}
	upstream, isAPI := errors.AsType[*openai.APIError](b.stream(t, chatOf("x")).err)
	if !isAPI || upstream.Message != "Provider returned error" {
		t.Errorf("error chunk: %+v", upstream)
	}
	cut := b.stream(t, chatOf("x"))
	equal(t, "a cut stream's error", cut.err, nil)
	equal(t, "a cut stream's finish reason", cut.finish, "")
	if gateway, ok := errors.AsType[*openai.RequestError](b.stream(t, chatOf("x")).err); !ok || gateway.HTTPStatusCode != 502 {
		t.Errorf("502: %+v", gateway)
	}
}

func TestAnAzureDeploymentAnswersUnderItsOwnPath(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Keys: []string{"azure-key"}})
	config := openai.DefaultAzureConfig("azure-key", b.Root())
	config.HTTPClient, config.APIVersion = b.client, "2024-10-21"
	config.AzureModelMapperFunc = func(string) string { return "gpt-4o-prod" }
	streamed := read(openai.NewClientWithConfig(config).CreateChatCompletionStream(b.ctx, chatOf("hello")))
	contains(t, "streamed content", streamed.content, fakellm.Nonce("hello"))
	equal(t, "Azure's first chunk has no choices", streamed.chunks, 1+1+(len(streamed.content)+3)/4+1+1)
	request := chatOf("hello")
	request.Stream, request.StreamOptions = false, nil
	r, err := openai.NewClientWithConfig(config).CreateChatCompletion(b.ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "model", r.Model, "gpt-4o-prod")
	contains(t, "content", r.Choices[0].Message.Content, fakellm.Nonce("hello"))
	equal(t, "counted by deployment", b.Counts().Models["gpt-4o-prod"].Outcomes["ok"], 2)
	missing := b.do(t, b.request(t, b.ctx, "POST", "/openai/deployments/gpt-4o-prod/chat/completions", ask("x", nil)))
	equal(t, "without api-version", missing.status, 404)
}
