package fakellm

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// answer is what a model would have said: content, or a refusal.
type answer struct {
	content, refusal, finish string
}

func (a *answer) text() string {
	if a.refusal != "" {
		return a.refusal
	}
	return a.content
}

const (
	finishStop   = "stop"
	finishLength = "length"
	finishFilter = "content_filter"
)

const defaultRefusal = "I'm sorry, but I can't help with that request."

// defaultHuge is more than the mebibyte at which a careful reader stops.
const defaultHuge = 1<<20 + 1<<16

// compose makes the call's answer, spoilt as its fault has it, and remembers it.
func (c *call) compose() answer {
	a, bad := c.good(c.doc)
	switch c.fault.Kind {
	case KindRefusal:
		a = answer{refusal: defaultRefusal, finish: finishStop}
		if c.fault.Message != "" {
			a.refusal = c.fault.Message
		}
	case KindContentFilter:
		a = answer{content: a.content[:runes(a.content, utf8.RuneCountInString(a.content)/2)], finish: finishFilter}
	case KindEmptyContent:
		a.content = ""
	case KindLength:
		a, bad = a.cutAt(c.fault.Tokens), true
	case KindLengthUntil:
		if bound := c.req.maxTokens(); bound == 0 || bound <= c.wantsMoreThan() {
			a, bad = a.cutAt(bound), true
		}
	case KindFenced, KindProse, KindTrailingComma, KindOffSchema, KindOffSchemaOnceTold:
		spoilt := c.spoil(a.content, c.doc)
		bad = bad || spoilt != a.content
		a.content = spoilt
	case KindHuge:
		a.content = inflate(a.content, c.fault.Bytes)
	}
	if bad || a.finish == finishLength {
		c.memory.keepBad(a.content)
	}
	c.memory.keepTraced(a.content, c.trace)
	return a
}

// good returns the literal or generated answer, and whether a literal one is off its schema.
func (c *call) good(d *document) (a answer, bad bool) {
	if content, ok := c.plan.literal(c.req.Model); ok {
		content = strings.ReplaceAll(content, "{{nonce}}", formatNonce(c.talk.nonce))
		return answer{content: content, finish: finishStop}, d != nil && !d.admitsText(content)
	}
	a = answer{content: c.generate(d), finish: finishStop}
	if bound := c.req.maxTokens(); bound > 0 && c.fault.Kind != KindHuge && countTokens(a.content) > bound {
		return a.cutAt(bound), false
	}
	return a, false
}

func (c *call) generate(d *document) string {
	w := author{doc: d, nonce: c.talk.nonce, dice: c.dice()}
	switch {
	case d != nil:
		return w.document()
	case c.req.ResponseFormat.Type == "json_object":
		return string(append(appendString([]byte(`{"answer":`), w.prose()), '}'))
	default:
		return w.prose()
	}
}

// dice returns the chance behind an answer: the same for the same input, another for each correction, so
// that one which asks for something no schema says may be heeded.
func (c *call) dice() dice {
	return dice{c.opts.Seed ^ scramble(c.talk.nonce+uint64(c.talk.corrections))}
}

// wantsMoreThan returns the bound that a call has to exceed for length_until to let it pass. The first
// call of an input has no other to exceed.
func (c *call) wantsMoreThan() int {
	if c.fault.Tokens > 0 {
		return c.fault.Tokens
	}
	if c.entry.number == 1 {
		return c.req.maxTokens()
	}
	return c.entry.lastMaxTokens
}

// cutAt cuts the content after so many tokens, or in half when it is not longer or tokens is 0.
func (a answer) cutAt(tokens int) answer {
	end := runes(a.content, tokens*charactersPerToken)
	if end == 0 || end == len(a.content) {
		end = runes(a.content, utf8.RuneCountInString(a.content)/2)
	}
	return answer{content: a.content[:end], finish: finishLength}
}

// spoil makes a good content bad. It is unchanged where the fault has no effect on it.
func (c *call) spoil(content string, d *document) string {
	switch c.fault.Kind {
	case KindFenced:
		return "```json\n" + content + "\n```"
	case KindProse:
		return "Sure! Here is the result you asked for:\n\n" + content + "\n\nLet me know if you need anything else."
	case KindTrailingComma:
		if end := len(content) - 1; end > 0 && (content[end] == '}' || content[end] == ']') {
			return content[:end] + "," + content[end:]
		}
	case KindOffSchemaOnceTold:
		if c.isTold() {
			break
		}
		fallthrough
	case KindOffSchema:
		w := author{doc: d, nonce: c.talk.nonce, dice: c.dice()}
		return w.offSchema()
	}
	return content
}

// isTold is true when the dialogue's last answer is a bad one of this server.
func (c *call) isTold() bool {
	for _, m := range slices.Backward(c.req.Messages) {
		if m.Role == "assistant" {
			return c.memory.isBad(m.text())
		}
	}
	return false
}

// inflate adds filler until the content has that many bytes.
func inflate(content string, size int) string {
	if size == 0 {
		size = defaultHuge
	}
	const filler = "This is simulated filler, as of a model that does not stop. "
	if missing := size - len(content); missing > 0 {
		return content + "\n" + strings.Repeat(filler, missing/len(filler)+1)
	}
	return content
}
