package validator

import (
	"strings"

	"spillway/pkg/thought"
)

// prose is an answer that is a text. What is marked as thought is not said, but brackets, strings and comments in
// it are the writer's own, and so are marks of which he speaks. Where that can not be told, it is not whole.
type prose struct {
	text, lower string
	marks       []thought.Mark
	at, start   int
	said        strings.Builder
	// unclosed are the fences that nobody closes.
	unclosed map[string]bool
}

// saidInProse returns what an answer says that is a text. whole is false when a thought has no end, or a mark of
// thoughts stands amid the text.
func saidInProse(text string) (said string, whole bool) {
	lower := thought.Lower(text)
	begin := len(text) - len(strings.TrimLeftFunc(text, isBlank))
	if rest := lower[begin:]; strings.HasPrefix(rest, channel) || strings.HasPrefix(rest, startOfTurn) {
		final, ok := finalMessage(text[begin:], rest)
		if !ok {
			return "", false
		}
		said, whole = saidInProse(final)
		return strings.TrimFunc(said, isBlank), whole
	}
	p := &prose{text: text, lower: lower, marks: thought.Marks(), unclosed: map[string]bool{}}
	for p.at < len(text) {
		size, ok := p.code()
		if p.at += size; !ok || size == 0 && !p.skip() {
			return "", false
		}
	}
	if p.start == 0 {
		return text, true
	}
	p.said.WriteString(text[p.start:])
	return strings.TrimFunc(p.said.String(), isBlank), true
}

// skip moves past a thought, or one character. ok is false where a mark stands amid the text, or has no end.
func (p *prose) skip() (ok bool) {
	if !thought.MayBegin(p.text[p.at]) {
		p.at++
		return true
	}
	rest := p.lower[p.at:]
	if strings.HasPrefix(rest, channel) {
		return false
	}
	for _, m := range p.marks {
		if size := m.Ends(rest); size > 0 {
			// Its begin was swallowed by the template of the prompt: all that stands before it is a thought.
			p.said.Reset()
			return p.past(size)
		}
		begin := m.Begins(rest)
		if begin == 0 {
			continue
		}
		i := m.Over(rest[begin:])
		if i < 0 {
			return false
		}
		p.said.WriteString(p.text[p.start:p.at])
		return p.past(begin + i)
	}
	p.at++
	return true
}

// past moves past a mark or a thought, if it stands at the begin of a line, or behind another.
func (p *prose) past(size int) bool {
	ok := p.isLineStart()
	p.at += size
	p.start = p.at
	return ok
}

func (p *prose) isLineStart() bool {
	before := strings.TrimRightFunc(p.text[p.start:p.at], func(c rune) bool { return c != '\n' && isBlank(c) })
	return before == "" || strings.HasSuffix(before, "\n")
}

// maxFence bounds the signs of a fence or a span of code.
const maxFence = 16

// code returns the length of the span or the block of code that begins here, in which a mark is text; 0: none does.
// What nobody closes is no code. ok is false for a block in which a thought ends that did not begin in it.
func (p *prose) code() (size int, ok bool) {
	sign := p.text[p.at]
	if sign != '`' && sign != '~' {
		return 0, true
	}
	rest := p.text[p.at:]
	run := rest[:len(rest)-len(strings.TrimLeft(rest, string(sign)))]
	switch {
	case len(run) > maxFence:
	case len(run) >= len(fence) && p.isLineStart() && !p.unclosed[run]:
		if size = block(rest, run); size > 0 {
			return size, !p.endsThought(p.lower[p.at : p.at+size])
		}
		p.unclosed[run] = true
	case sign == '`':
		if i := closingRun(rest[len(run):], run); i >= 0 {
			return len(run) + i + len(run), true
		}
	}
	return len(run), true
}

// block returns the length of the block that begins with a fence; 0: nobody closes it.
func block(text, run string) int {
	for at := strings.IndexByte(text, '\n') + 1; at > 0; {
		line := text[at:]
		end := strings.IndexByte(line, '\n')
		if end >= 0 {
			line = line[:end]
		}
		if bare := strings.TrimSpace(line); strings.HasPrefix(bare, run) && strings.Trim(bare, run[:1]) == "" {
			return at + len(line)
		}
		if at += end + 1; end < 0 {
			break
		}
	}
	return 0
}

// closingRun returns where on the line the run stands, neither longer nor shorter; -1: nowhere.
func closingRun(text, run string) int {
	for at := 0; at < len(text) && text[at] != '\n'; {
		size := len(text[at:]) - len(strings.TrimLeft(text[at:], run[:1]))
		if size == len(run) {
			return at
		}
		at += max(size, 1)
	}
	return -1
}

// endsThought reports whether a mark ends a thought in the block that did not begin in it.
func (p *prose) endsThought(block string) bool {
	for _, m := range p.marks {
		if begin, end := strings.Index(block, m.Begin), strings.Index(block, m.End); end >= 0 && (begin < 0 || begin > end) {
			return true
		}
	}
	return false
}

// finalMessage returns the one message of harmony that is said. ok is false when there is none or more than one, when a
// message that is not said has no end, or when anything stands between them.
func finalMessage(text, lower string) (final string, ok bool) {
	for at := 0; at < len(text); {
		rest := lower[at:]
		if strings.HasPrefix(rest, startOfTurn) {
			i := strings.Index(rest[:min(len(rest), maxChannel)], channel)
			if i < 0 || strings.Contains(rest[len(startOfTurn):i], "<") {
				return "", false
			}
			at += i
			rest = lower[at:]
		}
		if !strings.HasPrefix(rest, channel) {
			return "", false
		}
		begin, isFinal := messageOf(rest)
		end := endOfMessage(rest[begin:])
		switch {
		case begin == 0 || isFinal && ok || !isFinal && end < 0:
			return "", false
		case end < 0:
			end = len(rest) - begin
		}
		if isFinal {
			final, ok = text[at+begin:at+begin+end], true
		}
		at += begin + end
		for _, token := range endsOfMessages() {
			if strings.HasPrefix(lower[at:], token) {
				at += len(token)
				break
			}
		}
		at = len(text) - len(strings.TrimLeftFunc(text[at:], isBlank))
	}
	return final, ok
}
