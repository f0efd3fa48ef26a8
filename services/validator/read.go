package validator

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"spillway/pkg/schema"
)

// maxInnerQuotes bounds the unescaped quotes within strings, for each is looked at with what follows it.
const maxInnerQuotes = 32

// reader reads nearly-JSON in one pass. It forgives exactly this, and says what it forgave:
//
//   - one comma behind the last item or member; a missing comma between members on lines of their own;
//   - single, typographic or no quotes around keys, single or typographic ones around strings;
//   - unescaped quotes in pairs within a string, line breaks within a string, \';
//   - comments; True, False, None; white space that JSON does not know.
//
// Everything else is refused, above all what would need something that is not in the text: a closing quote
// or bracket, a value, a digit. So what it reads has each character of the text but punctuation, once and
// in order.
type reader struct {
	text  string
	at    int
	depth int
	inner int
	edits []string
}

// read returns the one value that text stands for. ok is false when there is none, or more than one.
func read(text string) (value any, edits []string, ok bool) {
	r := &reader{text: text}
	if value, ok = r.value(); !ok {
		return nil, nil, false
	}
	r.blank()
	return value, r.edits, r.at == len(text)
}

func (r *reader) edited(what string) {
	if !slices.Contains(r.edits, what) {
		r.edits = append(r.edits, what)
	}
}

func (r *reader) peek() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

// take moves past c if it is next.
func (r *reader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.at++
	return true
}

func (r *reader) value() (any, bool) {
	r.blank()
	switch c := r.peek(); {
	case c == '{':
		return r.nested(r.object)
	case c == '[':
		return r.nested(r.array)
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	case r.atQuote():
		return r.quoted()
	}
	return r.constant()
}

func (r *reader) nested(read func() (any, bool)) (any, bool) {
	if r.depth++; r.depth > schema.MaxDepth {
		return nil, false
	}
	defer func() { r.depth-- }()
	r.at++
	return read()
}

func (r *reader) object() (any, bool) {
	members := map[string]any{}
	r.blank()
	for !r.take('}') {
		key, ok := r.key()
		if _, twice := members[key]; !ok || twice {
			return nil, false
		}
		r.blank()
		if !r.take(':') {
			return nil, false
		}
		if members[key], ok = r.value(); !ok {
			return nil, false
		}
		newLine := r.blank()
		switch {
		case r.take(','):
			r.blank()
			if r.peek() == '}' {
				r.edited("a trailing comma")
			}
		case r.peek() == '}':
		case newLine:
			r.edited("a missing comma") // what comes must then be a key
		default:
			return nil, false
		}
	}
	return members, true
}

func (r *reader) array() (any, bool) {
	items := []any{}
	r.blank()
	for !r.take(']') {
		item, ok := r.value()
		if !ok {
			return nil, false
		}
		items = append(items, item)
		r.blank()
		switch {
		case r.take(','):
			r.blank()
			if r.peek() == ']' {
				r.edited("a trailing comma")
			}
		case r.peek() != ']':
			return nil, false
		}
	}
	return items, true
}

func (r *reader) key() (string, bool) {
	if r.atQuote() {
		value, ok := r.quoted()
		key, _ := value.(string)
		return key, ok
	}
	word := r.word(func(c byte) bool { return isLetter(c) || c == '_' || c == '$' || c == '-' || c >= '0' && c <= '9' })
	if word == "" || !isLetter(word[0]) && word[0] != '_' && word[0] != '$' {
		return "", false
	}
	r.edited("keys without quotes")
	return word, true
}

func (r *reader) constant() (any, bool) {
	switch word := r.word(isLetter); word {
	case "true":
		return true, true
	case "false":
		return false, true
	case "null":
		return nil, true
	case "True", "False":
		r.edited("Python's constants")
		return word == "True", true
	case "None":
		r.edited("Python's constants")
		return nil, true
	}
	return nil, false
}

func (r *reader) number() (any, bool) {
	word := r.word(func(c byte) bool { return c >= '0' && c <= '9' || strings.IndexByte("+-.eE", c) >= 0 })
	value, err := schema.Decode([]byte(word))
	return value, err == nil
}

func (r *reader) word(has func(byte) bool) string {
	start := r.at
	for r.at < len(r.text) && has(r.text[r.at]) {
		r.at++
	}
	return r.text[start:r.at]
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// blank moves past white space and comments. It reports whether a line ended there.
func (r *reader) blank() (newLine bool) {
	for r.at < len(r.text) {
		c, size := utf8.DecodeRuneInString(r.text[r.at:])
		switch {
		case c == '\n':
			newLine = true
		case c == ' ' || c == '\t' || c == '\r':
		case unicode.IsSpace(c):
			r.edited("white space that JSON does not know")
		case c == '/':
			if size = r.comment(); size == 0 {
				return newLine
			}
			r.edited("comments")
		default:
			return newLine
		}
		r.at += size
	}
	return newLine
}

// comment returns the length of the comment that begins here, or 0.
func (r *reader) comment() int {
	rest := r.text[r.at:]
	switch {
	case strings.HasPrefix(rest, "//"):
		if i := strings.IndexByte(rest, '\n'); i >= 0 {
			return i // the end of the line counts as one
		}
		return len(rest)
	case strings.HasPrefix(rest, "/*"):
		if i := strings.Index(rest[2:], "*/"); i >= 0 {
			return 2 + i + 2
		}
	}
	return 0
}
