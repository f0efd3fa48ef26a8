package services_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/tiktoken-go/tokenizer"

	"spillway/pkg/broker"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// The tasks of conversations. Their one model is at a provider that remembers every prompt it was sent.
const (
	chatModels = `providers:
  hearing: {kind: openai, base_url: %q, api_key: none}
  other: {kind: openai, base_url: %q, api_key: none}
defaults: {timeouts: {connect: 5s, first_token: 60s, silence: 60s, call: 90s}}
models:
  talker: {provider: hearing, id: talker-1, context_window: 16000, max_output_tokens: 2000, encoding: o200k_base, prices: {as_of: "2026-11-01", input: 1, output: 2}}
  summer: {provider: other, id: summer-1, context_window: 16000, max_output_tokens: 2000, encoding: o200k_base, prices: {as_of: "2026-11-01", input: 1, output: 2}}
`
	chatTask = `model: talker
deadline: {default: 2m, max: 10m, reserve: 1s}
retry: {attempts: 3, first_delay: 10ms, factor: 1.5, max_delay: 50ms, interactive: {attempts: 3, first_delay: 10ms}}
output: {format: text}
ladder: []
no_ladder: the test wants to see the failure
`
	chatPrompt = `{{define "system"}}You are asked questions.{{end}}{{define "user"}}{{.Input.text}}{{end}}`
	sumTask    = `model: summer
retry: {attempts: 1}
ladder: []
no_ladder: the turns' beginnings stand in
`
	sumInput  = `{"type":"object","properties":{"summary":{"type":"string"},"turns":{"type":"array","items":{"type":"object"}},"max_tokens":{"type":"integer"}},"required":["summary","turns","max_tokens"]}`
	sumOutput = `{"type":"object","properties":{"summary":{"type":"string","minLength":1}},"required":["summary"],"additionalProperties":false}`
	sumPrompt = `{{define "user"}}{{json .Input}}{{end}}`
	// chatAnswer is the model's, with the nonce of the question.
	chatAnswer = "The answer to that, as far as anybody knows, is {{nonce}}."
)

// chatFolder has the task chat with so much context, and sum, which makes summaries on the other provider.
func chatFolder(url, other, context string) fstest.MapFS {
	fs := fstest.MapFS{"models.yaml": {Data: fmt.Appendf(nil, chatModels, url, other)}}
	for name, text := range map[string]string{
		"chat/task.yaml": chatTask + "context: {" + context + "}\n", "chat/prompt.tmpl": chatPrompt, "chat/input.schema.json": inputSchema,
		"sum/task.yaml": sumTask, "sum/prompt.tmpl": sumPrompt, "sum/input.schema.json": sumInput, "sum/output.schema.json": sumOutput,
	} {
		fs["tasks/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fs
}

// hearing is a provider that remembers every prompt whole, in the order in which they came, and counts them with
// the vocabulary's own library.
type hearing struct {
	*fakellm.Server
	t     *testing.T
	codec tokenizer.Codec

	mu      sync.Mutex
	prompts []heardPrompt
	// holds are questions that are not answered until their channel is closed.
	holds map[string]chan struct{}
}

// heardPrompt is what the provider was sent.
type heardPrompt struct {
	messages []job.Message
	tokens   int
}

// question is what the prompt asks: its last message.
func (p heardPrompt) question() string { return p.messages[len(p.messages)-1].Content }

// before is what was said before the question, without the system's part.
func (p heardPrompt) before() []job.Message { return p.messages[1 : len(p.messages)-1] }

func startHearing(t *testing.T) *hearing {
	t.Helper()
	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		t.Fatal(err)
	}
	h := &hearing{t: t, codec: codec, holds: map[string]chan struct{}{}}
	s, err := fakellm.Start(fakellm.Options{Log: zerolog.Nop(), PromptTokens: h.hear})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.release(); _ = s.Close() })
	s.SetAnswer("talker-1", chatAnswer)
	h.Server = s
	return h
}

// hear notes a prompt, and keeps a held one waiting.
func (h *hearing) hear(body []byte) int {
	var asked struct {
		Messages []job.Message `json:"messages"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		h.t.Errorf("a call that is no JSON: %v", err)
		return 1
	}
	p := heardPrompt{messages: asked.Messages, tokens: 3} // the beginning of the reply
	for _, m := range asked.Messages {
		role, roleErr := h.codec.Count(m.Role)
		content, contentErr := h.codec.Count(m.Content)
		if err := errors.Join(roleErr, contentErr); err != nil {
			h.t.Errorf("count: %v", err)
		}
		p.tokens += 3 + role + content
	}
	h.mu.Lock()
	h.prompts = append(h.prompts, p)
	held := h.holds[p.question()]
	h.mu.Unlock()
	if held != nil {
		<-held
	}
	return p.tokens
}

// hold lets a question wait for its answer.
func (h *hearing) hold(question string) (release func()) {
	held := make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holds[question] = held
	return func() { h.let(question) }
}

func (h *hearing) let(question string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if held := h.holds[question]; held != nil {
		close(held)
		delete(h.holds, question)
	}
}

func (h *hearing) release() {
	h.mu.Lock()
	held := make([]string, 0, len(h.holds))
	for question := range h.holds {
		held = append(held, question)
	}
	h.mu.Unlock()
	for _, question := range held {
		h.let(question)
	}
}

// of are the prompts that ask a question; there may be more than one where a process died.
func (h *hearing) of(question string) []heardPrompt {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.prompts), func(p heardPrompt) bool { return p.question() != question })
}

func (h *hearing) all() []heardPrompt {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.prompts)
}

// answerOf is what the model says to a question.
func answerOf(question string) string {
	return strings.ReplaceAll(chatAnswer, "{{nonce}}", fakellm.Nonce(question))
}

// exchanges are turns as a prompt has them.
func exchanges(questions ...string) (messages []job.Message) {
	for _, q := range questions {
		messages = append(messages, job.Message{Role: "user", Content: q}, job.Message{Role: "assistant", Content: answerOf(q)})
	}
	return messages
}

// idChars are those that an id can not have.
var idChars = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// talk is a client of sessions: it hears results by a connection of its own.
type talk struct {
	*rig
	hearing *hearing
	other   *fakellm.Server
}

// newTalk sets up a pipeline without stages, with a context for chat.
func newTalk(t *testing.T, url, context string) *talk {
	t.Helper()
	c := &talk{hearing: startHearing(t), other: provider(t)}
	c.rig = setupWith(t, url, 1, func(string, string) fstest.MapFS { return chatFolder(c.hearing.URL(), c.other.URL(), context) })
	return c
}

// say publishes a question and returns its id and its place in the request stream. It may be called from any
// goroutine, like all of talk.
func (c *talk) say(session, question string, more ...func(map[string]any)) (id string, seq uint64) {
	c.t.Helper()
	body := map[string]any{"input": map[string]string{"text": question}, "session": session}
	for _, change := range more {
		change(body)
	}
	data, err := json.Marshal(body)
	if err != nil {
		c.t.Error(err)
		return "", 0
	}
	id = idChars.ReplaceAllString(question, "-")
	ack, err := c.conn.Publish(c.t.Context(), &nats.Msg{Subject: broker.RequestSubject(job.Interactive, "chat"), Data: data, Header: nats.Header{broker.MsgIDHeader: {id}}})
	if err != nil {
		c.t.Error(err)
		return id, 0
	}
	return id, ack.Sequence
}

// ended waits until the subscriber has heard a result.
func (c *talk) ended(id string) (r job.Result, isHeard bool) {
	c.t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		if heard := c.heard.of(id); len(heard) > 0 {
			return heard[0], true
		}
		select {
		case <-look.C:
		case <-deadline.C:
			c.t.Errorf("no result of %s", id)
			return r, false
		}
	}
}

// answered waits for a result, and checks that it is the model's answer to the question.
func (c *talk) answered(id, question string) bool {
	c.t.Helper()
	r, isHeard := c.ended(id)
	if !isHeard {
		return false
	}
	var text string
	if r.Status != job.Succeeded || json.Unmarshal(r.Output, &text) != nil || text != answerOf(question) {
		c.t.Errorf("%s: %s %s %+v", id, r.Status, r.Output, r.Error)
		return false
	}
	return true
}

// converse says something and waits for the answer.
func (c *talk) converse(session, question string, more ...func(map[string]any)) bool {
	c.t.Helper()
	id, _ := c.say(session, question, more...)
	return c.answered(id, question)
}

// hopsOf counts how often a stage gave a job on, or back to itself.
func (h *heard) hopsOf(id, name string) int {
	return len(slices.DeleteFunc(h.events(id, ""), func(p stage.Progress) bool { return p.Stage != name }))
}
