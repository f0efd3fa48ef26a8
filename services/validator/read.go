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
//   - one comma behind the last item or member; a missing comma between members, or between the objects of an
//     array, on lines of their own;
//   - single, typographic, full-width or no quotes around keys, the same around strings;
//   - unescaped quotes within a string in pairs that look like pairs, line breaks within a string, \';
//   - True, False, None; one of the choices that the schema lists in the place of the word, without its quotes;
//   - a key given twice with the same value;
//   - between tokens: full-width punctuation, white space that JSON does not know or that is spelled as an
//     escape, characters without width.
//
// Everything else is refused, above all what would need something that is not in the text: a closing quote
// or bracket, a value, a digit; and comments, for what they say nobody reads. So what it reads has each
// character of the text but punctuation, in order, and what is there twice once.
type reader struct {
	text  string
	at    int
	depth int
	inner int
	edits []string
	// choices are the words that may stand without quotes; bare is how many do, and each is read with sign.
	choices []string
	bare    int
	sign    string
	// twice is true when a key was given twice.
	twice bool
	// swaps are the signs that are not those of JSON, in order.
	swaps []swap
}

// swap is a sign of the text and what JSON writes in its place.
type swap struct {
	at, size int
	by       string
}

// read returns the one value that text stands for. ok is false when there is none, or more than one.
func read(text string, choices []string) (value any, r *reader, ok bool) {
	return readAs(text, choices, "")
}

// readAs is read, with sign appended to each word that stands without quotes.
func readAs(text string, choices []string, sign string) (value any, r *reader, ok bool) {
	r = &reader{text: text, choices: choices, sign: sign}
	if value, ok = r.value(); !ok {
		return nil, nil, false
	}
	r.blank()
	return value, r, r.at == len(text)
}

// plain is the text with the signs of JSON, for the second reader, who knows no others.
func (r *reader) plain() string {
	var b strings.Builder
	at := 0
	for _, s := range r.swaps {
		b.WriteString(r.text[at:s.at])
		b.WriteString(s.by)
		at = s.at + s.size
	}
	b.WriteString(r.text[at:])
	return b.String()
}

func (r *reader) swap(size int, by string) {
	r.swaps = append(r.swaps, swap{r.at, size, by})
}

func (r *reader) edited(what string) {
	if !slices.Contains(r.edits, what) {
		r.edits = append(r.edits, what)
	}
}

// peek returns the sign that comes, a full-width one as that of JSON.
func (r *reader) peek() byte {
	if r.at == len(r.text) {
		return 0
	}
	if c := r.text[r.at]; c < utf8.RuneSelf {
		return c
	}
	c, _ := utf8.DecodeRuneInString(r.text[r.at:])
	return narrow(c)
}

// narrow returns the sign of JSON that c is the full-width form of, or one that JSON does not know.
func narrow(c rune) byte {
	switch c {
	case '｛', '｝', '［', '］', '：', '，':
		return byte(c - '！' + '!')
	}
	return utf8.RuneSelf
}

// take moves past c if it is next.
func (r *reader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	size := 1
	if r.text[r.at] >= utf8.RuneSelf {
		_, size = utf8.DecodeRuneInString(r.text[r.at:])
		r.edited("full-width punctuation")
		r.swap(size, string(c))
	}
	r.at += size
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
	r.take(r.peek())
	return read()
}

func (r *reader) object() (any, bool) {
	members := map[string]any{}
	r.blank()
	for !r.take('}') {
		if !r.member(members) {
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

// member reads a key and its value into members.
func (r *reader) member(members map[string]any) bool {
	key, ok := r.key()
	if !ok {
		return false
	}
	r.blank()
	if !r.take(':') {
		return false
	}
	value, ok := r.value()
	if !ok {
		return false
	}
	if first, twice := members[key]; twice {
		r.edited("a key given twice")
		r.twice = true
		return equal(first, value)
	}
	members[key] = value
	return true
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
		newLine := r.blank()
		switch {
		case r.take(','):
			r.blank()
			if r.peek() == ']' {
				r.edited("a trailing comma")
			}
		case r.peek() == ']':
		case newLine && r.peek() == '{' && isObject(item):
			r.edited("a missing comma")
		default:
			return nil, false
		}
	}
	return items, true
}

func isObject(value any) bool {
	_, is := value.(map[string]any)
	return is
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

// constant reads a word. Where the schema has a choice that is spelled like a constant, None may be either.
func (r *reader) constant() (any, bool) {
	word := r.word(isLetter)
	isConstant := strings.EqualFold(word, "none") || strings.EqualFold(word, "null") || strings.EqualFold(word, "true") || strings.EqualFold(word, "false")
	if isConstant && slices.ContainsFunc(r.choices, func(choice string) bool { return strings.EqualFold(choice, word) }) {
		return nil, false
	}
	switch word {
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
	default:
		if slices.Contains(r.choices, word) {
			r.edited("a choice without quotes")
			r.bare++
			return word + r.sign, true
		}
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

// blank moves past white space. It reports whether a line ended there.
func (r *reader) blank() (newLine bool) {
	begin, odd := r.at, false
	for r.at < len(r.text) {
		c, size := utf8.DecodeRuneInString(r.text[r.at:])
		switch {
		case c == '\\' && r.spellsBlank():
			size, odd = 2, true
			r.edited("white space spelled as escapes")
		case !isBlank(c):
			size = 0
		case c == '\n':
			newLine = true
		case c != ' ' && c != '\t' && c != '\r':
			odd = true
			r.edited("white space that JSON does not know")
		}
		if size == 0 {
			break
		}
		r.at += size
	}
	if odd {
		r.swaps = append(r.swaps, swap{begin, r.at - begin, " "})
	}
	return newLine
}

// spellsBlank reports whether an escape of white space comes, as it stands between tokens when a text was
// encoded once too often.
func (r *reader) spellsBlank() bool {
	return r.at+1 < len(r.text) && strings.IndexByte("nrt", r.text[r.at+1]) >= 0
}

// isBlank reports whether c is white space, or a character without width.
func isBlank(c rune) bool {
	switch c {
	case '\u200b', '\u200c', '\u200d', '\u2060', '\ufeff':
		return true
	}
	return unicode.IsSpace(c)
}
