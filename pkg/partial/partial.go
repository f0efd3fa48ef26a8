// Package partial shows JSON that is still being written: the value that its beginning stands for.
//
// What is complete is shown as it is. Of the rest, a string value is shown as far as it goes; a number, a
// literal or a key only once it has ended, for its beginning would say something else (12 of 1250, "pass" of
// "password"). Open arrays and objects are shown closed. So each value that was shown stays where it is in
// what is shown later, and only open strings, arrays and objects grow. A string that must be one of some, by its
// Shape, is shown once it has ended, too.
//
// What is shown is JSON (RFC 8259), but for invalid UTF-8, which stays as it is. Text that can not go on to
// become JSON is shown as far as it could. A name that comes twice takes back what it said first. It is meant for
// drafts: what the whole says is for the validator.
package partial

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxDepth bounds nesting; deeper text is shown as far as it was before.
const MaxDepth = 256

// Reader reads the beginning of a text piece by piece. The zero value is ready, and lets all strings grow. The text must begin with the
// array or object, but for white space, a byte order mark and the opening line of a code fence: of a text that
// says something first nothing is shown, for what comes in it may be a note, a thought, or an example. What
// follows the value is passed over.
type Reader struct {
	// Shape says which strings are shown only whole. It is set before the first piece.
	Shape *Shape

	lead  []byte // what came, until it is known how the text begins
	text  []byte // from the bracket on
	at    int    // what was read of it
	open  []byte // the brackets that are open, outermost first
	state state
	// safe is how much of text can be shown, followed by the brackets that are open.
	safe int
	// scalar is where the number, literal or string at hand begins.
	scalar int
	// isKey, escaped and digits are about the string at hand: it names a member; the next character is
	// escaped; so many digits of \u are to come.
	isKey, escaped bool
	digits         int
	// done is true when nothing more is read: the value is complete, or the text at at can not become JSON.
	done bool
	// high is where an escaped high surrogate began, whose other half is to come; 0: none did.
	high int
	// here is the shape of the value at hand, or that comes next; around are those of the open brackets, with
	// how many commas each had.
	here   *Shape
	around []place
}

type place struct {
	shape  *Shape
	commas int
}

type state int

// What comes next.
const (
	beforeValue state = iota
	beforeFirst       // the first member or item, or the closing bracket
	beforeKey
	beforeColon
	behindValue
	inString
	inScalar
)

// Add reads on. It reports whether more can be shown than before.
func (r *Reader) Add(piece []byte) bool {
	if r.text == nil {
		if r.done {
			return false
		}
		if piece = r.begun(piece); piece == nil {
			return false
		}
	}
	before := r.shown()
	r.text = append(r.text, piece...)
	for r.at < len(r.text) && !r.done {
		if r.step(r.text[r.at]); !r.done {
			r.at++
		}
	}
	return r.shown() > before
}

// maxLead bounds what may stand before the value.
const maxLead = 256

// begun returns what there is of the value, nil while there is nothing.
func (r *Reader) begun(piece []byte) []byte {
	r.lead = append(r.lead, piece...)
	rest := bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(r.lead, blanks), []byte("\ufeff")), blanks)
	if fence, ok := bytes.CutPrefix(rest, []byte("```")); ok {
		if end := bytes.IndexByte(fence, '\n'); end >= 0 {
			rest = bytes.TrimLeft(fence[end:], blanks)
		} else {
			rest = nil
		}
	}
	isOpen := len(rest) > 0 && (rest[0] == '{' || rest[0] == '[')
	couldBe := len(rest) == 0 || bytes.HasPrefix([]byte("```"), rest) || bytes.HasPrefix([]byte("\ufeff"), rest)
	switch {
	case isOpen:
		r.lead = nil
		return rest
	case !couldBe || len(r.lead) > maxLead:
		r.done, r.lead = true, nil
	}
	return nil
}

const blanks = " \t\r\n"

// shown is how many bytes of the text are shown.
func (r *Reader) shown() int {
	if r.grows() {
		return r.whole()
	}
	return r.safe
}

// grows reports whether a string is open that is shown as far as it goes.
func (r *Reader) grows() bool { return r.state == inString && !r.isKey && !r.here.isWhole() }

// Value returns the value as JSON, nil before there is any. It is the caller's.
func (r *Reader) Value() []byte {
	if len(r.text) == 0 {
		return nil
	}
	n := r.shown()
	value := append(make([]byte, 0, n+1+len(r.open)), r.text[:n]...)
	if r.grows() {
		value = append(value, '"')
	}
	for _, bracket := range slices.Backward(r.open) {
		value = append(value, bracket+2) // '[' and ']', '{' and '}' are two apart
	}
	return value
}

// whole is where the last whole character of the open string ends.
func (r *Reader) whole() int {
	n := r.at
	switch {
	case r.high > 0:
		return r.high
	case r.escaped:
		return n - 1
	case r.digits > 0:
		return n - len(`\u`) - (unicodeDigits - r.digits)
	}
	for back := 1; back < utf8.UTFMax && back <= n; back++ {
		if c := r.text[n-back]; utf8.RuneStart(c) {
			if !utf8.FullRune(r.text[n-back : n]) {
				return n - back
			}
			break
		}
	}
	return n
}

const unicodeDigits = 4

func (r *Reader) step(c byte) {
	switch r.state {
	case inString:
		r.inString(c)
		return
	case inScalar:
		if isScalar(c) {
			return
		}
		if r.done = !json.Valid(r.text[r.scalar:r.at]); r.done {
			return
		}
		r.state, r.safe = behindValue, r.at
	}
	if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
		return
	}
	switch {
	case c == '{' || c == '[':
		r.begin(c)
	case c == '}' || c == ']':
		r.close(c)
	case r.state == behindValue:
		r.comma(c)
	case r.state == beforeColon:
		r.follow(c == ':', beforeValue)
	case c == '"':
		r.isKey = r.state == beforeKey || r.state == beforeFirst && r.inObject()
		r.state, r.scalar = inString, r.at
	default:
		r.scalar = r.at
		r.follow(isScalar(c) && (r.state == beforeValue || r.state == beforeFirst && !r.inObject()), inScalar)
	}
}

func (r *Reader) inObject() bool { return r.open[len(r.open)-1] == '{' }

// follow goes on to the next state, or ends where the text is none that could become JSON.
func (r *Reader) follow(fits bool, next state) {
	if r.done = !fits; fits {
		r.state = next
	}
}

func (r *Reader) begin(c byte) {
	fits := r.state == beforeValue || r.state == beforeFirst && !r.inObject()
	if r.follow(fits && len(r.open) < MaxDepth, beforeFirst); r.done {
		return
	}
	if len(r.open) == 0 {
		r.here = r.Shape
	}
	r.open = append(r.open, c)
	r.around = append(r.around, place{shape: r.here})
	r.here = r.here.item(0) // a member's is known with its name
	r.safe = r.at + 1
}

func (r *Reader) close(c byte) {
	fits := r.state == behindValue || r.state == beforeFirst
	if len(r.open) == 0 || r.open[len(r.open)-1]+2 != c || !fits {
		r.done = true
		return
	}
	r.open, r.around = r.open[:len(r.open)-1], r.around[:len(r.around)-1]
	r.state, r.safe = behindValue, r.at+1
	r.done = len(r.open) == 0
}

func (r *Reader) comma(c byte) {
	next := beforeValue
	if r.inObject() {
		next = beforeKey
	}
	in := &r.around[len(r.around)-1]
	in.commas++
	r.here = in.shape.item(in.commas)
	r.follow(c == ',', next)
}

// named notes the shape of the member whose name just ended.
func (r *Reader) named() {
	in := r.around[len(r.around)-1].shape
	if in == nil {
		r.here = nil
		return
	}
	var name string
	if json.Unmarshal(r.text[r.scalar:r.at+1], &name) != nil {
		r.done = true // it was read as a string
		return
	}
	r.here = in.member(name)
}

func (r *Reader) inString(c byte) {
	switch {
	case r.digits > 0:
		if r.done = !isHex(c); r.done {
			return
		}
		if r.digits--; r.digits == 0 {
			r.surrogate()
		}
	case r.escaped:
		if r.done = strings.IndexByte(`"\/bfnrtu`, c) < 0; r.done {
			return
		}
		r.escaped = false
		if c == 'u' {
			r.digits = unicodeDigits
		}
	case c == '\\':
		r.escaped = true
	case c == '"':
		r.high = 0
		if r.state = behindValue; r.isKey {
			r.state = beforeColon
			r.named()
			return
		}
		if r.here.forbids(r.text[r.scalar : r.at+1]) {
			r.state, r.done = inString, true
			return
		}
		r.safe = r.at + 1
	case c < ' ':
		r.done = true
	default:
		r.high = 0
	}
}

// surrogate notes whether the escape that just ended is the first half of a character.
func (r *Reader) surrogate() {
	begin := r.at + 1 - len(`\u0000`)
	first, second := r.text[begin+2]|0x20, r.text[begin+3]|0x20
	r.high = 0
	if first == 'd' && (second == '8' || second == '9' || second == 'a' || second == 'b') {
		r.high = begin
	}
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

func isScalar(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' || c == '+' || c == '.'
}
