package fakellm

import (
	"time"
	"unicode/utf8"
)

// comment is what OpenRouter sends to keep a connection alive while its provider thinks.
const comment = ": PROCESSING\n\n"

const (
	// defaultComments are more than the empty lines that go-openai suffers (300).
	defaultComments = 400
	defaultDrip     = time.Second
	// hugeChunk is the size, in characters, of the chunks of a huge answer.
	hugeChunk = 4096
	// writeAt is how many bytes of an unpaced stream are gathered before they are written.
	writeAt = 32 << 10
)

// stream answers with server-sent events.
func (c *call) stream(a answer) {
	if !c.pause(c.first) {
		return
	}
	c.setHeaders()
	h := c.w.Header()
	h["Content-Type"] = []string{"text/event-stream; charset=utf-8"}
	h["Cache-Control"] = []string{"no-cache"}
	e := events{out: c.out, usage: c.req.StreamOptions.IncludeUsage}
	e.prepare(c.id, c.plan.name(c.req.Model), c.started)

	if c.isAzure && c.fault.Kind != KindHangHeaders {
		e.empty() // there Azure says what its filter made of the prompt
	}
	switch {
	case c.fault.Kind == KindHangHeaders:
		if c.flush() {
			c.holdForever(c.fault.Every)
		}
		return
	case c.fault.Kind == KindComments && !c.comments():
		return
	case c.fault.Kind == KindEmptyChoices:
		e.empty()
	default:
		e.delta("role", "assistant")
		if !c.tokens(&e, a) {
			return
		}
		e.finish(a.finish)
	}
	said := c.answerTokens(a)
	if e.usage {
		e.total(c.promptTokens, said)
	}
	if c.fault.Kind != KindNoDone {
		c.out.WriteString("data: [DONE]\n\n")
	}
	c.ledger.settle(&c.entry, said)
	c.write()
}

// comments sends as many comments as the fault wants. It returns false when nobody takes them.
func (c *call) comments() bool {
	count := c.fault.Count
	if count == 0 {
		count = defaultComments
	}
	for range count {
		c.out.WriteString(comment)
		if c.fault.Every > 0 && (!c.flush() || !c.pause(c.fault.Every)) {
			return false
		}
	}
	return true
}

// tokens streams the answer's text, and lets the fault strike on the way. It returns false when the
// stream is over.
func (c *call) tokens(e *events, a answer) bool {
	text, field := a.text(), "content"
	if a.refusal != "" {
		field = "refusal"
	}
	size, every := c.pace()
	strike := c.strikesBefore((utf8.RuneCountInString(text) + size - 1) / size)
	for n := 0; ; n++ {
		if n == strike && !c.strike() {
			return false
		}
		if text == "" {
			return true
		}
		if n > 0 && every > 0 && (!c.flush() || !c.pause(every)) {
			return false
		}
		end := runes(text, size)
		e.delta(field, text[:end])
		text = text[end:]
		if c.out.Len() > writeAt && !c.write() {
			return false
		}
	}
}

// pace returns how many characters a chunk carries and how long it is to the next.
func (c *call) pace() (size int, every time.Duration) {
	chunk := max(1, c.opts.TokensPerChunk)
	size, every = charactersPerToken*chunk, c.perToken*time.Duration(chunk)
	switch c.fault.Kind {
	case KindHuge:
		size = hugeChunk
	case KindDrip:
		every = c.fault.Every
		if every == 0 {
			every = defaultDrip
		}
	}
	return size, every
}

// strikesBefore returns the chunk before which a fault shows, of n chunks; -1 for never.
func (c *call) strikesBefore(n int) int {
	at := c.fault.After
	switch c.fault.Kind {
	case KindCut:
		if at == 0 {
			at = max(1, n/2)
		}
	case KindSilence, KindErrorChunk, KindMalformedChunk:
		at = max(1, at)
	case KindReset:
	default:
		return -1
	}
	return min(at, n)
}

// strike lets the fault show in the middle of a stream. It returns false when the stream ends by it.
func (c *call) strike() bool {
	switch c.fault.Kind {
	case KindMalformedChunk:
		c.out.WriteString(`data: {"id":"` + c.id + `","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":` + "\n\n")
		return true
	case KindErrorChunk:
		c.out.WriteString("data: " + upstreamError + "\n\n")
		c.write()
	case KindSilence:
		if c.flush() {
			c.holdForever(c.fault.Every)
		}
	case KindReset:
		if c.flush() {
			c.resetConnection()
		}
	default: // cut
		c.flush()
	}
	return false
}

// runes returns where the first n characters of text end.
func runes(text string, n int) int {
	if len(text) <= n {
		return len(text)
	}
	end := 0
	for ; n > 0 && end < len(text); n-- {
		_, width := utf8.DecodeRuneInString(text[end:])
		end += width
	}
	return end
}
