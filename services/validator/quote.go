package validator

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"spillway/pkg/schema"
)

// closing returns the quotes that end a string which begins with c; "": c is no quote.
func closing(c rune) string {
	switch c {
	case '"', '\'', '＂':
		return string(c)
	case '`':
		return "`´"
	case '“', '”':
		return "”“"
	case '‘', '’':
		return "’‘"
	case '„':
		return "“”"
	case '«':
		return "»"
	case '»':
		return "«"
	}
	return ""
}

func (r *reader) atQuote() bool {
	c, _ := utf8.DecodeRuneInString(r.text[r.at:])
	return closing(c) != ""
}

// quoted reads a string. A quote ends it where something follows that can only follow a string; a quote
// within it is forgiven in pairs alone, of which the first opens a word and the second closes one. A pair
// that is split by the end of the string leaves an odd number behind: that is the sign that the string ended
// too early.
func (r *reader) quoted() (any, bool) {
	begin, size := utf8.DecodeRuneInString(r.text[r.at:])
	r.quote(begin, size)
	ending, inner := closing(begin), 0
	var literal strings.Builder
	literal.WriteByte('"')
	for before := begin; ; {
		c, size := utf8.DecodeRuneInString(r.text[r.at:])
		if size == 0 || c == utf8.RuneError && size == 1 {
			return nil, false // the text ends within the string, or is not UTF-8
		}
		r.at += size
		switch {
		case c == '\\':
			if !r.escape(&literal) {
				return nil, false
			}
		case strings.ContainsRune(ending, c) && r.ends():
			if inner%2 != 0 {
				return nil, false
			}
			r.at -= size
			r.quote(c, size)
			literal.WriteByte('"')
			value, err := schema.Decode([]byte(literal.String()))
			return value, err == nil
		case strings.ContainsRune(ending, c):
			r.edited("quotes within a string")
			if inner++; inner%2 == 1 && !r.opensWord(before) || inner%2 == 0 && !r.closesWord(before) {
				return nil, false
			}
			if r.inner++; r.inner > maxInnerQuotes {
				return nil, false
			}
			writeLiteral(&literal, c)
		default:
			r.lineBreak(c)
			writeLiteral(&literal, c)
		}
		before = c
	}
}

// quote moves past a quote at the begin or the end of a string.
func (r *reader) quote(c rune, size int) {
	if c != '"' {
		r.edited("other quotes")
	}
	if c != '"' && c != '\'' {
		r.swap(size, `"`)
	}
	r.at += size
}

// opensWord reports whether the quote just read, with before to its left, looks like one that opens: behind
// white space, an opening bracket or the = of an attribute, and directly before something.
func (r *reader) opensWord(before rune) bool {
	next, _ := utf8.DecodeRuneInString(r.text[r.at:])
	return (isBlank(before) || strings.ContainsRune("([{<=（", before)) && !isBlank(next)
}

// closesWord reports whether the quote just read looks like one that closes: directly behind something, and
// before white space or punctuation.
func (r *reader) closesWord(before rune) bool {
	next, _ := utf8.DecodeRuneInString(r.text[r.at:])
	return !isBlank(before) && (isBlank(next) || unicode.IsPunct(next) || unicode.IsSymbol(next))
}

func (r *reader) lineBreak(c rune) {
	if c == '\n' || c == '\r' || c == '\t' {
		r.edited("line breaks within a string")
	}
}

// writeLiteral appends a character of a string as JSON spells it. Control characters that no text has stay
// as they are, so that Decode refuses them.
func writeLiteral(literal *strings.Builder, c rune) {
	switch c {
	case '"':
		literal.WriteString(`\"`)
	case '\n':
		literal.WriteString(`\n`)
	case '\r':
		literal.WriteString(`\r`)
	case '\t':
		literal.WriteString(`\t`)
	default:
		literal.WriteRune(c)
	}
}

// escape copies what follows a backslash. An escape that JSON does not know is refused, but for \': there
// is no telling whether the backslash or the letter was meant.
func (r *reader) escape(literal *strings.Builder) bool {
	c := r.peek()
	switch {
	case c == '\'':
		r.edited(`\'`)
		literal.WriteByte('\'')
	case c != 0 && strings.IndexByte(`"\/bfnrtu`, c) >= 0:
		literal.WriteByte('\\')
		literal.WriteByte(c)
	default:
		return false
	}
	r.at++
	return true
}

// ends reports whether what follows the quote just read can follow a string: the end of the text, a colon,
// a comma, a closing bracket, or on a new line the next key.
func (r *reader) ends() bool {
	ahead := reader{text: r.text, at: r.at}
	newLine := ahead.blank()
	switch ahead.peek() {
	case 0, ':', ',', '}', ']':
		return true
	}
	return newLine && ahead.atQuote()
}
