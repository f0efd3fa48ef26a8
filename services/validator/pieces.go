package validator

import (
	"strings"
	"unicode/utf8"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// maxPieces bounds how many bracketed pieces of an answer are looked at. An answer with more of them is
// prose, or a list of answers: neither is one output.
const maxPieces = 64

// piece is a part of the answer from an opening bracket to the one that closes it.
type piece struct {
	text string
	// begin and end are its place in the answer.
	begin, end int
}

// finder cuts the bracketed pieces out of an answer, in order.
type finder struct {
	objects, arrays bool
	found           []piece
	// cutTaken is true when a bracket of a kind that is taken opens, and is not closed within its block.
	cutTaken bool
	tooMany  bool
}

// pieces finds the pieces whose kind, object or array, the schema takes at all: a note like [1] is no answer
// where an object is demanded. Text that itself begins with a bracket is searched as it is: a fence in it
// stands within a string. Elsewhere the blocks between fences are searched each on its own, so that a
// bracket of the prose that nobody closes does not swallow the answer.
func pieces(t *task.Task, text string) *finder {
	f := &finder{objects: true, arrays: true}
	if t.OutputSchema != nil {
		f.objects, f.arrays = takes(t.OutputSchema, map[string]any{}), takes(t.OutputSchema, []any{})
	}
	begin := len(text) - len(strings.TrimLeftFunc(text, isBlank))
	if opens(text[begin:]) {
		f.search(text, 0)
		return f
	}
	at := 0
	for _, block := range blocks(text) {
		f.search(block, at)
		at += len(block)
	}
	return f
}

func takes(s *schema.Schema, kind any) bool {
	for _, fault := range s.Validate(kind) {
		if fault.Pointer == "" && fault.Rule == "type" {
			return false
		}
	}
	return true
}

func opens(text string) bool {
	c, _ := utf8.DecodeRuneInString(text)
	return strings.ContainsRune("{[｛［", c)
}

// search adds the pieces of block, which stands in the answer at offset, in one pass.
func (f *finder) search(block string, offset int) {
	var b brackets
	start := 0
	for at := 0; at < len(block) && !f.tooMany; {
		outside := b.depth == 0
		size := b.step(block[at:])
		switch {
		case outside && b.depth > 0:
			start = at
		case !outside && b.depth == 0:
			f.add(piece{text: block[start : at+size], begin: offset + start, end: offset + at + size})
		}
		at += size
	}
	f.cutTaken = f.cutTaken || b.depth > 0 && f.takes(block[start:])
}

func (f *finder) takes(text string) bool {
	if c, _ := utf8.DecodeRuneInString(text); c == '{' || c == '｛' {
		return f.objects
	}
	return f.arrays
}

func (f *finder) add(p piece) {
	if !f.takes(p.text) {
		return
	}
	if f.tooMany = len(f.found) == maxPieces; !f.tooMany {
		f.found = append(f.found, p)
	}
}

// brackets counts brackets. Those within double quotes do not count, and quotes outside of brackets are
// prose. Which bracket closes which is left to who reads the piece.
type brackets struct {
	depth int
	// quote is what ends the string under way; 0: there is none.
	quote rune
	// escaped is true for a string that stands within another: its quotes have one backslash before them.
	escaped bool
}

// step takes the next character into account and returns its length.
func (b *brackets) step(text string) (size int) {
	c, size := rune(text[0]), 1
	if c >= utf8.RuneSelf {
		c, size = utf8.DecodeRuneInString(text)
	}
	switch {
	case c == '\\' && b.depth > 0:
		return b.backslash(text)
	case b.quote != 0:
		if c == b.quote {
			b.quote = 0
		}
	case b.depth > 0 && (c == '"' || c == '＂'):
		b.quote, b.escaped = c, false
	case c == '{' || c == '[' || c == '｛' || c == '［':
		b.depth++
	case b.depth > 0 && (c == '}' || c == ']' || c == '｝' || c == '］'):
		b.depth--
	}
	return size
}

// backslash takes a backslash and what it escapes into account. Within an escaped string, and outside of any,
// a quote behind one backslash ends or begins such a string; one behind three stands in it.
func (b *brackets) backslash(text string) (size int) {
	if b.quote != 0 && !b.escaped {
		return min(2, len(text))
	}
	for size < len(text) && text[size] == '\\' {
		size++
	}
	if size == len(text) || text[size] != '"' {
		return size
	}
	if size == 1 && b.quote == 0 {
		b.quote, b.escaped = '"', true
	} else if size == 1 {
		b.quote = 0
	}
	return size + 1
}

const fence = "```"

// blocks cuts a text at its fences: lines that begin with ```. A fence may be opened and closed on one line,
// and closed at the end of a line.
func blocks(text string) (out []string) {
	start, fenced := 0, false
	for at := 0; at < len(text); {
		end := len(text)
		if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		line := strings.TrimSpace(text[at:end])
		begins := strings.HasPrefix(line, fence)
		closes := strings.HasSuffix(line, fence) && len(line) > len(fence)
		switch {
		case begins && !fenced:
			out, start, fenced = append(out, text[start:at]), at, !closes
			if closes {
				out, start = append(out, text[at:end]), end
			}
		case begins:
			out, start, fenced = append(out, text[start:at]), at, false
		case closes && fenced:
			out, start, fenced = append(out, text[start:end]), end, false
		}
		at = end
	}
	return append(out, text[start:])
}
