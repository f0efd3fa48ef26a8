package inference

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"time"

	"github.com/sashabaranov/go-openai"

	"spillway/pkg/job"
)

// open sends the request. What came of it stands in the call; the error tells why nothing came.
func (c *call) open(ctx context.Context) error {
	ctx = httptrace.WithClientTrace(withCall(ctx, c), &httptrace.ClientTrace{GotConn: c.connected})
	request := c.request()
	if !c.model.Stream {
		_, err := c.provider.client.CreateChatCompletion(ctx, request)
		return err
	}
	_, err := c.provider.client.CreateChatCompletionStream(ctx, request) // the body is the call's to close
	return err
}

// connected ends the connect phase. A plain call then has only its whole time.
func (c *call) connected(httptrace.GotConnInfo) {
	limit := c.limits.FirstToken
	if !c.model.Stream {
		limit = 0
	}
	c.watch.enter(time.Now(), limit, &errFirstToken)
}

// request builds the part of the request that go-openai can say.
func (c *call) request() openai.ChatCompletionRequest {
	p := &c.task.Parameters
	r := openai.ChatCompletionRequest{
		Model:          c.model.ID,
		Stream:         c.model.Stream,
		ResponseFormat: c.responseFormat(),
	}
	if c.takes("seed") {
		r.Seed = p.Seed
	}
	if c.takes("stop") {
		r.Stop = p.Stop
	}
	if c.takes("reasoning_effort") {
		r.ReasoningEffort = p.ReasoningEffort
	}
	if c.model.Stream && c.model.StreamUsage {
		r.StreamOptions = &openai.StreamOptions{IncludeUsage: true}
	}
	return r
}

// takes reports whether the model takes a parameter.
func (c *call) takes(parameter string) bool { return !slices.Contains(c.model.Unsupported, parameter) }

// messages is the JSON of the prompt and the correction. The prompt has the form that providers want, so it
// is sent as it came, unless the model wants its system role named otherwise.
func (c *call) messages() ([]byte, error) {
	prompt := c.job.Prompt
	if c.model.SystemRole == openai.ChatMessageRoleDeveloper {
		messages, err := prompt.Messages()
		if err != nil {
			return nil, err
		}
		for i := range messages {
			if messages[i].Role == openai.ChatMessageRoleSystem {
				messages[i].Role = openai.ChatMessageRoleDeveloper
			}
		}
		prompt = job.NewPrompt(messages...)
	}
	correction := job.NewPrompt(c.job.Correction...).Encoded()
	switch {
	case correction == nil && prompt.IsZero():
		return []byte("[]"), nil
	case correction == nil:
		return prompt.Encoded(), nil
	case prompt.IsZero():
		return correction, nil
	}
	whole := bytes.TrimSuffix(prompt.Encoded(), []byte("]"))
	return append(append(bytes.Clone(whole), ','), correction[1:]...), nil
}

// responseFormat asks for the task's schema where the model can be asked, strictly where it can be said so. The
// validator checks all of it all the same.
func (c *call) responseFormat() *openai.ChatCompletionResponseFormat {
	format := c.task.ResponseFormat()
	if format.Schema == nil {
		return nil
	}
	switch kind := openai.ChatCompletionResponseFormatType(c.model.StructuredOutput); kind {
	case openai.ChatCompletionResponseFormatTypeJSONObject:
		return &openai.ChatCompletionResponseFormat{Type: kind}
	case openai.ChatCompletionResponseFormatTypeJSONSchema:
		return &openai.ChatCompletionResponseFormat{Type: kind, JSONSchema: &openai.ChatCompletionResponseFormatJSONSchema{
			Name: c.task.Name, Schema: json.RawMessage(format.Schema), Strict: format.Strict,
		}}
	}
	return nil
}

// parameters returns the start of the request's body, up to go-openai's own part: what go-openai would not
// send when it is 0, would round to float32, or would refuse for the sake of the model's name. "{" is none.
func (c *call) parameters() []byte {
	p := &c.task.Parameters
	b := append(make([]byte, 0, 128), '{')
	for _, f := range []struct {
		name  string
		value *float64
	}{
		{"temperature", p.Temperature},
		{"top_p", p.TopP},
		{"frequency_penalty", p.FrequencyPenalty},
		{"presence_penalty", p.PresencePenalty},
	} {
		if f.value != nil && c.takes(f.name) {
			b = append(strconv.AppendQuote(b, f.name), ':')
			b = append(strconv.AppendFloat(b, *f.value, 'g', -1, 64), ',')
		}
	}
	if most := c.maxTokens(); most > 0 && c.takes("max_output_tokens") {
		field := c.model.MaxTokensField
		if field == "" {
			field = "max_completion_tokens"
		}
		b = append(strconv.AppendQuote(b, field), ':')
		b = append(strconv.AppendInt(b, int64(most), 10), ',')
	}
	return b
}

// maxTokens is the limit of the answer, never above the model's; 0: the provider's own.
func (c *call) maxTokens() int {
	most := c.job.MaxOutputTokens
	if most == 0 {
		most = c.task.Parameters.MaxOutputTokens
	}
	if c.model.MaxOutputTokens > 0 {
		most = min(most, c.model.MaxOutputTokens)
	}
	return most
}

// noMessages is what go-openai writes of a request without messages.
const noMessages = `"messages":null`

// splice puts head in the place of the first byte, {, of the request's JSON object, and the messages in their
// place. The body can be had again, as before: the transport sends it a second time when a kept connection
// turned out to be closed before anything was written to it. It is one piece in memory: a body of several
// would cost the transport a buffer of 32 KiB for each call.
func splice(req *http.Request, head, messages []byte) error {
	rest, err := req.GetBody()
	if err != nil {
		return err
	}
	own, err := io.ReadAll(rest)
	if err != nil {
		return err
	}
	before, after, ok := bytes.Cut(own, []byte(noMessages))
	if !ok || len(before) == 0 {
		return errors.New("go-openai wrote a request without a place for the messages")
	}
	whole := make([]byte, 0, len(head)+len(own)+len(messages))
	whole = append(append(whole, head...), before[1:]...)
	whole = append(append(whole, noMessages[:len(noMessages)-len("null")]...), messages...)
	whole = append(whole, after...)
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(whole)), nil }
	req.ContentLength = int64(len(whole))
	req.Body, err = req.GetBody()
	return err
}
