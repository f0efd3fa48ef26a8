package validator

import (
	"slices"
	"strings"
	"unicode"
)

// unsaid are the marks around what a model thought, struck out or commented out: nothing of it is said.
func unsaid() []mark {
	marks := []mark{
		{begin: "[think]", end: "[/think]", thought: true},
		{begin: "<|begin_of_thought|>", end: "<|end_of_thought|>", thought: true},
		{begin: "<!--", end: "-->"},
		{begin: strike, end: strike},
		{begin: "<![cdata["}, // what is in it is said: only the brackets of the mark are none
	}
	for _, name := range []string{"think", "thinking", "thought", "thoughts", "reasoning", "scratchpad", "reflection"} {
		marks = append(marks, mark{begin: "<" + name, end: "</" + name, thought: true, tag: true})
	}
	for _, name := range []string{"s", "del", "strike"} {
		marks = append(marks, mark{begin: "<" + name, end: "</" + name, tag: true})
	}
	return marks
}

const strike = "~~"

type mark struct {
	begin, end string
	// thought is true where an end without its begin makes a thought of all that stands before it: templates
	// of prompts swallow the begin.
	thought bool
	// tag is true where white space and attributes may stand before a >, which is no part of begin and end.
	tag bool
}

// maxTag bounds a tag's attributes.
const maxTag = 256

// starts returns the length of the sign, begin or end, when text starts with it; 0: it does not.
func (m *mark) starts(text, sign string) (size int) {
	if !strings.HasPrefix(text, sign) || !m.tag {
		if strings.HasPrefix(text, sign) {
			return len(sign)
		}
		return 0
	}
	rest := text[len(sign):min(len(text), len(sign)+maxTag)]
	i := strings.IndexAny(rest, "<>")
	if i < 0 || rest[i] == '<' || i > 0 && strings.IndexByte(" \t\r\n/", rest[0]) < 0 {
		return 0
	}
	return len(sign) + i + 1
}

// ending returns where in text the mark's end is over; -1: it has none.
func (m *mark) ending(text string) int {
	for at := 0; ; {
		i := strings.Index(text[at:], m.end)
		if i < 0 || m.end == "" {
			return i
		}
		at += i
		if size := m.starts(text[at:], m.end); size > 0 {
			return at + size
		}
		at += len(m.end)
	}
}

// The tokens of harmony, which gives each message of a model a channel. Only that named final is said.
const (
	channel      = "<|channel|>"
	message      = "<|message|>"
	finalChannel = "final"
	// maxChannel bounds how much a message's channel, with its recipient, takes before the message.
	maxChannel = 256
)

// listener tells what is said in an answer from what is not.
type listener struct {
	text string
	// lower is the text with small letters of ASCII, so that it has the same length.
	lower string
	marks []mark
	at    int
	start int
	heard strings.Builder
	// prose is true for an answer that is a text: brackets and strings in it are none.
	prose bool
	// unfinished is true when a mark has no end.
	unfinished bool
	// brackets are those under way: in their strings a mark is text.
	brackets
}

// said returns what the answer says: last is what stands behind the last thing unsaid, and before what is
// said before that. ok is false when a mark stands within a bracket, but in none of its strings: what it
// is part of nobody knows.
func said(text string) (before, last string, ok bool) {
	l := &listener{text: text, lower: lowerASCII(text), marks: unsaid()}
	for l.at < len(text) {
		skipped, is := l.skip()
		switch {
		case !is:
			l.at += l.step(text[l.at:])
		case l.depth > 0:
			return "", "", false
		default:
			l.at += skipped
			l.start = l.at
		}
	}
	return l.heard.String(), text[l.start:], true
}

// saidInProse returns what an answer says that is a text: what is marked as thought is not said, but what is
// struck out or commented out is the writer's own. whole is false when a thought has no end.
func saidInProse(text string) (said string, whole bool) {
	marks := slices.DeleteFunc(unsaid(), func(m mark) bool { return !m.thought })
	l := &listener{text: text, lower: lowerASCII(text), marks: marks, prose: true}
	for l.at < len(text) {
		skipped, is := l.skip()
		if !is {
			l.at++
			continue
		}
		l.at += skipped
		l.start = l.at
	}
	if l.start == 0 {
		return text, true
	}
	l.heard.WriteString(text[l.start:])
	// What stands between two messages of harmony.
	templates := strings.NewReplacer("<|start|>assistant", "", "<|start|>", "", "<|end|>", "", "<|return|>", "", "<|call|>", "")
	return strings.TrimFunc(templates.Replace(l.heard.String()), isBlank), !l.unfinished
}

// skip returns how much from here on is unsaid, if a mark stands here at all.
func (l *listener) skip() (size int, is bool) {
	if c := l.text[l.at]; l.quote != 0 || c != '<' && c != '[' && c != '~' {
		return 0, false
	}
	rest := l.lower[l.at:]
	if strings.HasPrefix(rest, channel) {
		return l.channel(rest)
	}
	for _, m := range l.marks {
		if m.begin[0] != rest[0] {
			continue
		}
		if m.thought {
			if size := m.starts(rest, m.end); size > 0 {
				l.heard.Reset()
				return size, true
			}
		}
		begin := m.starts(rest, m.begin)
		if begin == 0 || m.begin == strike && !l.strikes() {
			continue
		}
		l.hear()
		if i := m.ending(rest[begin:]); i >= 0 {
			return begin + i, true
		}
		l.unfinished = true
		return len(rest), true
	}
	return 0, false
}

// hear keeps what was said up to here.
func (l *listener) hear() {
	if l.depth == 0 {
		l.heard.WriteString(l.text[l.start:l.at])
		l.heard.WriteByte('\n')
	}
}

// channel returns how much a message takes that is not said, from the name of its channel to its end.
func (l *listener) channel(rest string) (size int, is bool) {
	i := strings.Index(rest[:min(len(rest), maxChannel)], message)
	if i < 0 {
		l.hear()
		l.unfinished = true
		return len(rest), true
	}
	name := strings.FieldsFunc(rest[len(channel):i], func(c rune) bool { return !unicode.IsLetter(c) })
	if len(name) > 0 && name[0] == finalChannel {
		if !l.prose {
			return 0, false
		}
		l.hear()
		return i + len(message), true
	}
	l.hear()
	begin := i + len(message)
	for at := begin; ; {
		i := strings.Index(rest[at:], "<|")
		if i < 0 {
			l.unfinished = true
			return len(rest), true
		}
		at += i
		for _, end := range []string{"<|end|>", "<|call|>", "<|return|>", "<|start|>", channel} {
			if strings.HasPrefix(rest[at:], end) {
				return at, true
			}
		}
		at += len("<|")
	}
}

// strikes reports whether two tildes stand here, and not three: those are a fence.
func (l *listener) strikes() bool {
	rest := l.text[l.at:]
	return strings.HasPrefix(rest, strike) && !strings.HasPrefix(rest, "~~~") && !strings.HasSuffix(l.text[l.start:l.at], "~")
}

func lowerASCII(text string) string {
	lower := []byte(text)
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	return string(lower)
}
