package inference

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"time"

	"github.com/sashabaranov/go-openai"

	"spillway/pkg/job"
	"spillway/pkg/task"
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
		Messages:       c.messages(),
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

func (c *call) messages() []openai.ChatCompletionMessage {
	messages := make([]openai.ChatCompletionMessage, 0, len(c.job.Messages)+len(c.job.Correction))
	for _, part := range [][]job.Message{c.job.Messages, c.job.Correction} {
		for i := range part {
			role := part[i].Role
			if role == openai.ChatMessageRoleSystem && c.model.SystemRole == openai.ChatMessageRoleDeveloper {
				role = openai.ChatMessageRoleDeveloper
			}
			messages = append(messages, openai.ChatCompletionMessage{Role: role, Content: part[i].Content})
		}
	}
	return messages
}

// responseFormat asks for the task's schema where the model can be asked. It is never strict: providers
// take only a part of JSON Schema so, and the validator checks all of it.
func (c *call) responseFormat() *openai.ChatCompletionResponseFormat {
	if c.task.Output.ProviderSchema != "auto" || c.task.Output.Format == task.FormatText || c.task.OutputSchema == nil {
		return nil
	}
	switch kind := openai.ChatCompletionResponseFormatType(c.model.StructuredOutput); kind {
	case openai.ChatCompletionResponseFormatTypeJSONObject:
		return &openai.ChatCompletionResponseFormat{Type: kind}
	case openai.ChatCompletionResponseFormatTypeJSONSchema:
		return &openai.ChatCompletionResponseFormat{Type: kind, JSONSchema: &openai.ChatCompletionResponseFormatJSONSchema{
			Name: c.task.Name, Schema: json.RawMessage(c.task.OutputSchema.Source()),
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

// splice puts head in the place of the first byte, {, of the request's JSON object. The body can be had
// again, as before: the transport sends it a second time when a kept connection turned out to be closed
// before anything was written to it. It is copied once, into one piece: a body of several would cost the
// transport a buffer of 32 KiB for each call.
func splice(req *http.Request, head []byte) error {
	if len(head) == 1 {
		return nil
	}
	rest, err := req.GetBody()
	if err != nil {
		return err
	}
	whole := bytes.NewBuffer(make([]byte, 0, len(head)+int(req.ContentLength)))
	whole.Write(head)
	if _, err := io.CopyN(io.Discard, rest, 1); err != nil {
		return err
	}
	if _, err := io.Copy(whole, rest); err != nil {
		return err
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(whole.Bytes())), nil }
	req.ContentLength = int64(whole.Len())
	req.Body, err = req.GetBody()
	return err
}
