// Package thought knows the marks that models set around what they think, which is no part of an answer.
package thought

import "strings"

// Mark is a pair of signs around a thought, in small letters of ASCII.
type Mark struct {
	Begin, End string
	// isTag is true where white space and attributes may stand before a >, which is no part of Begin and End.
	isTag bool
}

// Marks are all that are known: of DeepSeek, Qwen and most others think, of Mistral [think], of Kimi ◁think▷, of
// Cohere start_thinking, of Seed seed:think; the other names are those that prompts ask for.
func Marks() []Mark {
	marks := []Mark{
		{Begin: "[think]", End: "[/think]"},
		{Begin: "◁think▷", End: "◁/think▷"},
		{Begin: "<|begin_of_thought|>", End: "<|end_of_thought|>"},
		{Begin: "<|start_thinking|>", End: "<|end_thinking|>"},
	}
	for _, name := range []string{"think", "thinking", "thought", "thoughts", "reasoning", "scratchpad", "reflection", "seed:think"} {
		marks = append(marks, Mark{Begin: "<" + name, End: "</" + name, isTag: true})
	}
	return marks
}

// maxTag bounds a tag's attributes.
const maxTag = 256

// MayBegin reports whether a mark, or a token of a template, may begin with c.
func MayBegin(c byte) bool { return c == '<' || c == '[' || c == "◁"[0] }

// Begins returns the length of the sign that begins a thought, if text starts with it; 0: it does not. Texts are in
// the letters of Lower.
func (m Mark) Begins(text string) (size int) { return m.starts(text, m.Begin) }

// Ends is Begins for the sign that ends a thought.
func (m Mark) Ends(text string) (size int) { return m.starts(text, m.End) }

func (m Mark) starts(text, sign string) (size int) {
	switch {
	case !strings.HasPrefix(text, sign):
		return 0
	case !m.isTag:
		return len(sign)
	}
	rest := text[len(sign):min(len(text), len(sign)+maxTag)]
	i := strings.IndexAny(rest, "<>")
	if i < 0 || rest[i] == '<' || i > 0 && strings.IndexByte(" \t\r\n/", rest[0]) < 0 {
		return 0
	}
	return len(sign) + i + 1
}

// Over returns where in text the thought is over; -1: it has no end.
func (m Mark) Over(text string) int {
	for at := 0; ; {
		i := strings.Index(text[at:], m.End)
		if i < 0 {
			return -1
		}
		at += i
		if size := m.Ends(text[at:]); size > 0 {
			return at + size
		}
		at += len(m.End)
	}
}

// Lower is text with small letters of ASCII, so that it has the same length.
func Lower(text string) string {
	lower := []byte(text)
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	return string(lower)
}
