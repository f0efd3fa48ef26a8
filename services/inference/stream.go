package inference

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/sashabaranov/go-openai"
)

// maxLine bounds one event of a stream: the largest answer in one chunk, escaped.
const maxLine = 8 * maxAnswer

var (
	dataField = []byte("data:")
	endMark   = []byte("[DONE]")
)

// chunk is an event of a stream, or a whole response: the parts of both that are used.
type chunk struct {
	Model   string          `json:"model"`
	Choices []choice        `json:"choices"`
	Usage   *usage          `json:"usage"`
	Error   json.RawMessage `json:"error"`
}

type choice struct {
	Index        int    `json:"index"`
	Delta        said   `json:"delta"`
	Message      said   `json:"message"`
	FinishReason string `json:"finish_reason"`
}

type said struct {
	Content string `json:"content"`
	Refusal string `json:"refusal"`
	// The two names under which providers show that a model thinks. It is kept nowhere, but it is a sign
	// of life.
	ReasoningContent string `json:"reasoning_content"`
	Reasoning        string `json:"reasoning"`
}

var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// readStream reads events until the end mark or the end of the body. go-openai's own reader is passed by:
// it loses an error that follows a comment or an event line, and holds every line that is no data in memory.
func (c *call) readStream(ctx context.Context) *failure {
	r := readers.Get().(*bufio.Reader)
	r.Reset(c.body)
	defer func() {
		r.Reset(nil)
		readers.Put(r)
	}()
	if isWhole(r) {
		c.whole, c.wholeErr = io.ReadAll(io.LimitReader(r, maxWhole))
		return c.readWhole(ctx)
	}
	var (
		lines  = lineReader{r: r}
		event  chunk
		known  pieces
		failed *failure
		line   []byte
		err    error
	)
	for err == nil && failed == nil && !c.done {
		line, err = lines.next()
		if data, ok := bytes.CutPrefix(line, dataField); ok {
			failed = c.take(bytes.TrimSpace(data), &event, &known)
		}
	}
	switch {
	case c.finish == "" && failed != nil:
		return failed
	case errors.Is(err, errLine):
		return tooLarge()
	case c.done && err == nil:
		c.drain(r)
	}
	return c.verdict(ctx, err)
}

// isWhole reports whether the body begins like JSON or HTML: no line of a stream does.
func isWhole(r *bufio.Reader) bool {
	for {
		first, err := r.Peek(1)
		switch {
		case err != nil:
			return false
		case bytes.IndexByte([]byte("{[<"), first[0]) >= 0:
			return true
		case bytes.IndexByte([]byte(" \t\r\n"), first[0]) < 0:
			return false
		}
		_, _ = r.Discard(1) // it was peeked at
	}
}

// drain reads the end of a stream that is complete, so that its connection can serve another call.
func (c *call) drain(r *bufio.Reader) {
	c.watch.enter(time.Now(), drainTime, &errTail)
	_, _ = r.Discard(maxErrorBody) // whatever it is, the answer is complete
}

// take adds one event to the answer.
func (c *call) take(data []byte, event *chunk, known *pieces) *failure {
	if text, ok := known.of(data); ok {
		return c.hearText(text)
	}
	if bytes.Equal(data, endMark) {
		c.done = true
		return nil
	}
	// Elements of a reused slice keep what the next event does not name.
	clear(event.Choices[:cap(event.Choices)])
	*event = chunk{Choices: event.Choices[:0]}
	if err := json.Unmarshal(data, event); err != nil {
		if isSyntax(err) {
			c.malformed++
			return nil
		}
	}
	if isError(event.Error) {
		return c.complaint(event.Error)
	}
	c.note(event)
	if len(event.Choices) == 0 || event.Choices[0].Index != 0 {
		return nil
	}
	c.choices = true
	first := &event.Choices[0]
	if failed := c.hear(&first.Delta); failed != nil {
		return failed
	}
	if first.FinishReason != "" && c.finish == "" {
		c.finish = finishOf(first.FinishReason)
		c.watch.enter(time.Now(), tailTime, &errTail)
	}
	if event.isText() {
		known.learn(data, first.Delta.Content)
	}
	return nil
}

// isText reports whether the event holds some of the answer's text and nothing else that is looked at.
func (e *chunk) isText() bool {
	return len(e.Choices) == 1 && e.Usage == nil && e.Choices[0].FinishReason == "" &&
		e.Choices[0].Delta == said{Content: e.Choices[0].Delta.Content} && e.Choices[0].Delta.Content != ""
}

// note keeps what an event says beside the answer.
func (c *call) note(event *chunk) {
	if event.Model != "" && event.Model != c.answeredBy {
		c.answeredBy = event.Model
	}
	if event.Usage != nil {
		c.usage = *event.Usage
	}
}

// hear adds one delta to the answer.
func (c *call) hear(d *said) *failure {
	size := len(d.Content) + len(d.Refusal)
	life := size + len(d.ReasoningContent) + len(d.Reasoning)
	if life == 0 {
		return nil
	}
	if len(c.content)+len(c.refusal)+size > maxAnswer {
		return tooLarge()
	}
	c.content = append(c.content, d.Content...)
	c.refusal = append(c.refusal, d.Refusal...)
	return c.alive(life)
}

// hearText adds a piece of text to the answer, as hear does.
func (c *call) hearText(text []byte) *failure {
	if len(text) == 0 {
		return nil
	}
	if len(c.content)+len(c.refusal)+len(text) > maxAnswer {
		return tooLarge()
	}
	c.content = append(c.content, text...)
	return c.alive(len(text))
}

// alive notes that the model said so many bytes, and starts the wait for the next.
func (c *call) alive(life int) *failure {
	c.heard += life
	c.deltas++
	now := time.Now()
	since := now.Sub(c.started)
	if c.firstToken == 0 {
		c.firstToken = max(since, 1)
	}
	if !c.pace.allows(max(c.deltas, c.heard/bytesPerToken), since-c.firstToken) {
		return overrun(errDrip)
	}
	c.watch.enter(now, c.limits.Silence, &errSilence)
	c.drafts.heard(now, c.content)
	return nil
}

// readWhole takes a body that is one JSON object: a plain call's, or that of a provider that does not stream.
func (c *call) readWhole(ctx context.Context) *failure {
	switch {
	case c.wholeErr != nil && ctx.Err() != nil:
		return overrun(context.Cause(ctx))
	case c.wholeErr != nil:
		return cutOff("the connection ended within the answer", c.wholeErr)
	case len(c.whole) == maxWhole:
		return tooLarge()
	}
	var body chunk
	switch err := json.Unmarshal(c.whole, &body); {
	case isCut(err, c.whole):
		return cutOff("the answer ends in its middle", err)
	case isSyntax(err):
		return c.noAnswer(c.whole)
	case isError(body.Error):
		return c.complaint(body.Error)
	}
	c.note(&body)
	if len(body.Choices) > 0 {
		c.choices = true
		first := &body.Choices[0]
		if len(first.Message.Content)+len(first.Message.Refusal) > maxAnswer {
			return tooLarge()
		}
		c.content, c.refusal = []byte(first.Message.Content), []byte(first.Message.Refusal)
		c.heard = len(c.content) + len(c.refusal)
		c.finish = finishOf(first.FinishReason)
	}
	return c.verdict(ctx, io.EOF)
}

// verdict says what an answer is worth that has ended, by err or by its end mark. Only a finish reason
// makes it one: a connection that was cut looks like a stream that is over.
func (c *call) verdict(ctx context.Context, err error) *failure {
	spoke := len(c.content)+len(c.refusal) > 0
	switch reason := openai.FinishReason(c.finish); {
	case isBrokenOff(c.finish):
		return cutOff("the provider ended the answer before the model did (finish reason "+c.finish+")", nil)
	case reason != "" && (spoke || reason == openai.FinishReasonLength || reason == openai.FinishReasonContentFilter):
		return nil // an empty answer that was cut or filtered is the validator's to judge
	case reason != "":
		return c.noAnswer(nil)
	case ctx.Err() != nil:
		return overrun(context.Cause(ctx))
	case err != nil && !errors.Is(err, io.EOF):
		return cutOff("the stream broke off before a finish reason", err)
	case spoke, c.choices && !c.done:
		return cutOff("the stream ended before a finish reason", nil)
	}
	return c.noAnswer(nil)
}

// isError reports whether the field error of a response holds one: null and "" are none.
func isError(raw json.RawMessage) bool {
	return len(raw) > len(`""`) && (raw[0] == '{' || raw[0] == '"')
}

// isSyntax reports whether err means that there is no JSON: a field of an unexpected type leaves the others
// readable.
func isSyntax(err error) bool {
	_, mistyped := errors.AsType[*json.UnmarshalTypeError](err)
	return err != nil && !mistyped
}

// isCut reports whether body is the beginning of a JSON object.
func isCut(err error, body []byte) bool {
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	return ok && syntax.Offset >= int64(len(body)) && bytes.HasPrefix(body, []byte("{"))
}

// errLine is a line beyond maxLine.
var errLine = errors.New("a line of the stream is too long")

// lineReader reads lines of any length up to maxLine.
type lineReader struct {
	r    *bufio.Reader
	long []byte
}

// next returns a line that is valid until the next call. The last one comes with the error that ended it.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	l.long = append(l.long[:0], line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(l.long) > maxLine {
			return nil, errLine
		}
		line, err = l.r.ReadSlice('\n')
		l.long = append(l.long, line...)
	}
	return l.long, err
}
