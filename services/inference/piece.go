package inference

import (
	"bytes"
	"unicode/utf8"
)

// pieces recognises the events of a stream that differ from one before in their text alone, which is nearly
// all of them, and takes the text out without decoding the JSON around it again. Whatever else an event
// has, or has differently, is left to the decoder.
type pieces struct {
	// head and tail are what an event has before its text, the opening quote included, and behind it.
	head, tail []byte
	// padded is true when a string of letters and digits that changes with each event follows the tail, and
	// end that: OpenAI pads its events so that their lengths tell nothing.
	padded bool
	end    []byte
	text   []byte // of the event at hand, when it had escapes
}

const (
	contentField = `"content":`
	paddingField = `"obfuscation":"`
)

// of returns the text of an event like the one that was learnt. It is valid until the next call.
func (p *pieces) of(event []byte) ([]byte, bool) {
	if p.head == nil || !bytes.HasPrefix(event, p.head) {
		return nil, false
	}
	rest := event[len(p.head):]
	text, size, ok := p.unquote(rest)
	if !ok || !p.isTail(rest[size:]) {
		return nil, false
	}
	return text, true
}

func (p *pieces) isTail(rest []byte) bool {
	if !p.padded {
		return bytes.Equal(rest, p.tail)
	}
	rest, ok := bytes.CutPrefix(rest, p.tail)
	if !ok {
		return false
	}
	rest, ok = bytes.CutSuffix(rest, p.end)
	return ok && isPlain(rest)
}

// unquote reads the JSON string that begins behind its opening quote, and returns its size without quotes.
// It leaves \u and what is no UTF-8 to the decoder.
func (p *pieces) unquote(s []byte) (text []byte, size int, ok bool) {
	p.text = p.text[:0]
	from := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			if text = s[:i]; from > 0 {
				p.text = append(p.text, s[from:i]...)
				text = p.text
			}
			return text, i, utf8.Valid(text)
		case c < ' ':
			return nil, 0, false
		case c == '\\':
			if i++; i == len(s) {
				return nil, 0, false
			}
			plain := unescaped(s[i])
			if plain == 0 {
				return nil, 0, false
			}
			p.text = append(append(p.text, s[from:i-1]...), plain)
			from = i + 1
		}
	}
	return nil, 0, false
}

// unescaped is what a backslash and c stand for; 0: not one character that is known here.
func unescaped(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	}
	return 0
}

// learn keeps the frame of an event that was decoded and held nothing but this text.
func (p *pieces) learn(event []byte, text string) {
	p.head = nil
	field := []byte(contentField)
	at := bytes.Index(event, field)
	if at < 0 || bytes.Contains(event[at+1:], field) {
		return
	}
	at += len(contentField)
	at += len(event[at:]) - len(bytes.TrimLeft(event[at:], " "))
	if at == len(event) || event[at] != '"' {
		return
	}
	at++
	read, size, ok := p.unquote(event[at:])
	if !ok || string(read) != text {
		return
	}
	p.tail, p.padded, p.end = bytes.Clone(event[at+size:]), false, nil
	if before, after, ok := bytes.Cut(p.tail, []byte(paddingField)); ok {
		padding, end, _ := bytes.Cut(after, []byte(`"`))
		if !isPlain(padding) {
			return
		}
		p.padded, p.tail, p.end = true, p.tail[:len(before)+len(paddingField)], append([]byte(`"`), end...)
	}
	p.head = bytes.Clone(event[:at])
}

// isPlain reports whether s is of letters and digits alone.
func isPlain(s []byte) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}
