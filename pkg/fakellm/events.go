package fakellm

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"
)

// events writes the chunks of one stream. What all of them share is written once, in prepare.
type events struct {
	out *bytes.Buffer
	// usage is true when the caller asked for it: all chunks but the last then have usage null.
	usage bool
	// head is a chunk up to its choices, and tail what follows them.
	head []byte
	tail string
}

func (e *events) prepare(id, model string, created time.Time) {
	e.head = make([]byte, 0, 192+len(model))
	e.head = append(e.head, `data: {"id":"`...)
	e.head = append(e.head, id...)
	e.head = append(e.head, `","object":"chat.completion.chunk","created":`...)
	e.head = strconv.AppendInt(e.head, created.Unix(), 10)
	e.head = append(e.head, `,"model":`...)
	e.head = appendString(e.head, model)
	e.head = append(e.head, `,"service_tier":"default","system_fingerprint":"`+fingerprint+`","choices":[`...)
	e.tail = "]}\n\n"
	if e.usage {
		e.tail = `],"usage":null}` + "\n\n"
	}
}

const fingerprint = "fp_simulated"

// delta writes a chunk with one field: role, content or refusal. The role's comes with empty content.
func (e *events) delta(field, text string) {
	e.out.Write(e.head)
	b := e.out.AvailableBuffer()
	b = append(b, `{"index":0,"delta":{"`...)
	b = append(b, field...)
	b = append(b, `":`...)
	b = appendString(b, text)
	if field == "role" {
		b = append(b, `,"content":"","refusal":null`...)
	}
	b = append(b, `},"logprobs":null,"finish_reason":null}`...)
	e.out.Write(b)
	e.out.WriteString(e.tail)
}

func (e *events) finish(reason string) {
	e.out.Write(e.head)
	e.out.WriteString(`{"index":0,"delta":{},"logprobs":null,"finish_reason":"` + reason + `"}`)
	e.out.WriteString(e.tail)
}

// empty writes a chunk without choices.
func (e *events) empty() {
	e.out.Write(e.head)
	e.out.WriteString(e.tail)
}

// total writes the chunk with the usage.
func (e *events) total(prompt, completion int) {
	e.out.Write(e.head)
	b := append(e.out.AvailableBuffer(), `],"usage":`...)
	b = append(appendUsage(b, prompt, completion), "}\n\n"...)
	e.out.Write(b)
}

func appendUsage(b []byte, prompt, completion int) []byte {
	b = append(b, `{"prompt_tokens":`...)
	b = strconv.AppendInt(b, int64(prompt), 10)
	b = append(b, `,"completion_tokens":`...)
	b = strconv.AppendInt(b, int64(completion), 10)
	b = append(b, `,"total_tokens":`...)
	b = strconv.AppendInt(b, int64(prompt+completion), 10)
	return append(b, `,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`...)
}

// appendString appends s as a JSON string, without encoding/json's escapes for HTML, as providers do.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, width := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && width == 1 {
				b = append(append(b, s[from:i]...), `\ufffd`...)
				from = i + 1
			}
			i += width
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}
