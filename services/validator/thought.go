package validator

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"spillway/pkg/thought"
)

// cdata begins a character section of XML: what is in it is said, only the brackets of the mark are none.
const cdata = "<![cdata["

// The tokens of harmony, which gives each message of a model a channel. Only that named final is said.
const (
	channel      = "<|channel|>"
	message      = "<|message|>"
	startOfTurn  = "<|start|>"
	finalChannel = "final"
	// maxChannel bounds how much a message's channel, with its recipient, takes before the message.
	maxChannel = 256
)

// endsOfMessages are the tokens behind a message.
func endsOfMessages() []string { return []string{"<|end|>", "<|call|>", "<|return|>"} }

// listener tells what is said in an answer from what is thought.
type listener struct {
	text string
	// lower is the text with small letters of ASCII, so that it has the same length.
	lower string
	marks []thought.Mark
	at    int
	start int
	heard strings.Builder
	// isDoubtful is true when a mark stands where nobody knows what it is part of.
	isDoubtful bool
	// brackets are those under way: in their strings a mark is text.
	brackets
}

// said returns what the answer says: last is what stands behind the last thought, and before what is said before
// that. ok is false when a mark stands within a bracket, but in none of its strings, or is quoted: what it is part
// of nobody knows.
func said(text string) (before, last string, ok bool) {
	l := &listener{text: text, lower: thought.Lower(text), marks: thought.Marks()}
	for l.at < len(text) {
		skipped, is := l.skip()
		switch {
		case !is:
			l.at += l.step(text[l.at:])
		case l.depth > 0 || l.isDoubtful:
			return "", "", false
		default:
			l.at += skipped
			l.start = l.at
		}
	}
	return l.heard.String(), text[l.start:], true
}

// skip returns how much from here on is unsaid, if a mark stands here at all.
func (l *listener) skip() (size int, is bool) {
	if l.quote != 0 || !thought.MayBegin(l.text[l.at]) {
		return 0, false
	}
	rest := l.lower[l.at:]
	switch {
	case strings.HasPrefix(rest, channel):
		return l.channel(rest)
	case strings.HasPrefix(rest, cdata):
		l.hear()
		return len(cdata), true
	}
	for _, m := range l.marks {
		if size := m.Ends(rest); size > 0 {
			// Its begin was swallowed by the template of the prompt: all that stands before it is a thought.
			l.isDoubtful = l.isQuoted()
			l.heard.Reset()
			return size, true
		}
		begin := m.Begins(rest)
		if begin == 0 {
			continue
		}
		l.isDoubtful = l.isQuoted()
		l.hear()
		if i := m.Over(rest[begin:]); i >= 0 {
			return begin + i, true
		}
		return len(rest), true
	}
	return 0, false
}

// isQuoted reports whether a quote stands directly before: who quotes a mark speaks of it.
func (l *listener) isQuoted() bool {
	c, _ := utf8.DecodeLastRuneInString(l.text[l.start:l.at])
	return closing(c) != ""
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
	begin, isFinal := messageOf(rest)
	if isFinal {
		return 0, false
	}
	l.hear()
	if begin > 0 {
		if i := endOfMessage(rest[begin:]); i >= 0 {
			return begin + i, true
		}
	}
	return len(rest), true
}

// messageOf returns where the message begins whose channel text begins with, 0 if it does not, and whether it is
// that which is said.
func messageOf(text string) (begin int, isFinal bool) {
	i := strings.Index(text[:min(len(text), maxChannel)], message)
	if i < 0 {
		return 0, false
	}
	name := strings.FieldsFunc(text[len(channel):i], func(c rune) bool { return !unicode.IsLetter(c) })
	return i + len(message), len(name) > 0 && name[0] == finalChannel
}

// endOfMessage returns where the tokens behind a message begin, or the next one; -1: there are none.
func endOfMessage(text string) int {
	for at := 0; ; {
		i := strings.Index(text[at:], "<|")
		if i < 0 {
			return -1
		}
		at += i
		for _, end := range append(endsOfMessages(), startOfTurn, channel) {
			if strings.HasPrefix(text[at:], end) {
				return at
			}
		}
		at += len("<|")
	}
}
