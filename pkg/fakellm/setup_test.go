package fakellm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"spillway/pkg/fakellm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a running provider and a client of its own.
type bundle struct {
	*fakellm.Server
	client *http.Client
	ctx    context.Context
}

func setup(t *testing.T, o fakellm.Options) *bundle {
	t.Helper()
	s, err := fakellm.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 300}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(func() {
		cancel()
		transport.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bundle{Server: s, client: &http.Client{Transport: transport}, ctx: ctx}
}

type object = map[string]any

// ask returns a request body: model "m", one user message, and what more says.
func ask(user string, more object) object {
	body := object{"model": "m", "messages": []object{{"role": "user", "content": user}}}
	maps.Copy(body, more)
	return body
}

func say(role, content string) object { return object{"role": role, "content": content} }

func (b *bundle) request(t *testing.T, ctx context.Context, method, path string, body any) *http.Request {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, method, b.Root()+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// send returns the answer with its headers only read.
func (b *bundle) send(t *testing.T, ctx context.Context, body any) (*http.Response, error) {
	t.Helper()
	return b.client.Do(b.request(t, ctx, http.MethodPost, "/v1/chat/completions", body))
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   string
	// err is how reading the body ended, if not well.
	err error
}

func (b *bundle) do(t *testing.T, r *http.Request) reply {
	t.Helper()
	response, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(body), err}
}

func (b *bundle) chat(t *testing.T, body any) reply {
	t.Helper()
	return b.do(t, b.request(t, b.ctx, http.MethodPost, "/v1/chat/completions", body))
}

// completion is what the tests read of a plain answer.
type completion struct {
	ID      string
	Object  string
	Model   string
	Choices []struct {
		Message struct {
			Role, Content string
			Refusal       *string
		}
		FinishReason string `json:"finish_reason"`
	}
	Usage struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
		TotalTokens      int `json:"total_tokens"`
	}
}

func (r reply) completion(t *testing.T) completion {
	t.Helper()
	var c completion
	if r.status != http.StatusOK || json.Unmarshal([]byte(r.body), &c) != nil || len(c.Choices) != 1 {
		t.Fatalf("not a completion: %d %s (%v)", r.status, r.body, r.err)
	}
	return c
}

func (r reply) content(t *testing.T) string {
	t.Helper()
	return r.completion(t).Choices[0].Message.Content
}

// content asks plainly and returns what was answered.
func (b *bundle) content(t *testing.T, body any) string {
	t.Helper()
	return b.chat(t, body).content(t)
}

// errorCode returns the code of an OpenAI error body.
func (r reply) errorCode(t *testing.T) any {
	t.Helper()
	var e struct {
		Error map[string]any `json:"error"`
	}
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Error == nil {
		t.Fatalf("not an error body: %s", r.body)
	}
	for _, key := range []string{"message", "type", "param", "code"} {
		if _, ok := e.Error[key]; !ok {
			t.Errorf("the error lacks %q, which OpenAI's schema requires: %s", key, r.body)
		}
	}
	return e.Error["code"]
}

// events are the data lines of a stream, read without any client library.
type events struct {
	content, refusal string
	finish           string
	chunks           int
	malformed        int
	errors           int
	comments         int
	usages           []any
	done             bool
}

func (r reply) events(t *testing.T) events {
	t.Helper()
	if got := r.header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("not a stream: %d %q %s", r.status, got, r.body)
	}
	return readEvents(r.body)
}

func readEvents(body string) events {
	var e events
	for line := range strings.SplitSeq(body, "\n") {
		data, isData := strings.CutPrefix(line, "data: ")
		switch {
		case strings.HasPrefix(line, ":"):
			e.comments++
		case data == "[DONE]":
			e.done = true
		case isData:
			e.add(data)
		}
	}
	return e
}

func (e *events) add(data string) {
	e.chunks++
	var chunk struct {
		Error   any
		Usage   any
		Choices []struct {
			Delta        struct{ Content, Refusal string }
			FinishReason string `json:"finish_reason"`
		}
	}
	if json.Unmarshal([]byte(data), &chunk) != nil {
		e.malformed++
		return
	}
	if chunk.Error != nil {
		e.errors++
	}
	e.usages = append(e.usages, chunk.Usage)
	for _, c := range chunk.Choices {
		e.content += c.Delta.Content
		e.refusal += c.Delta.Refusal
		if c.FinishReason != "" {
			e.finish = c.FinishReason
		}
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func contains(t *testing.T, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s: %q does not contain %q", what, got, want)
	}
}

// routing is the output schema of a task.
func routing() object {
	return object{
		"type":     "object",
		"required": []string{"intent", "urgency"},
		"properties": object{
			"intent":         object{"type": "string", "enum": []string{"exchange", "inquiry", "support"}},
			"urgency":        object{"type": "number", "minimum": 0, "maximum": 1},
			"suggestedRoute": object{"type": "string"},
		},
		"additionalProperties": false,
	}
}

// numeric is a schema in which no string has room for a nonce.
func numeric() object {
	return object{"type": "object", "required": []string{"n"}, "properties": object{"n": object{"type": "integer"}}}
}

func formatOf(schema any) object {
	return object{"type": "json_schema", "json_schema": object{"name": "out", "strict": false, "schema": schema}}
}

func mustPanic(t *testing.T, what string, do func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: it is taken", what)
		}
	}()
	do()
}
