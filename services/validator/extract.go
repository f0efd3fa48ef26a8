package validator

import (
	"reflect"
	"strings"

	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// maxSegments bounds how many bracketed pieces of an answer are looked at. An answer with more of them is
// prose, or a list of answers: neither is one output.
const maxSegments = 64

// segment is a piece of the answer from an opening bracket to the one that closes it.
type segment struct {
	text string
	// closed is false when the answer ends before the bracket is closed.
	closed bool
}

// extract looks for the one value within an answer that is not strict JSON.
func extract(t *task.Task, a *job.Answer, syntax error) (c *candidate, faults []schema.Violation, outcome string) {
	found, tooMany := pieces(a.Content)
	if tooMany {
		return nil, ambiguous(), Ambiguous
	}
	found = plausible(t, found)
	var satisfying, strict []*candidate
	var malformed []string
	for _, s := range found {
		if !s.closed {
			return nil, syntaxFault("the JSON ends before it is complete"), Invalid
		}
		value, err := schema.Decode([]byte(s.text))
		if err != nil {
			malformed, syntax = append(malformed, s.text), err
			continue
		}
		next := &candidate{text: s.text, value: value}
		if own := next.satisfy(t); own != nil {
			faults = own
		} else if !isAmong(satisfying, next) {
			satisfying = append(satisfying, next)
		}
		strict = append(strict, next)
	}
	switch {
	case len(satisfying) > 1 || len(satisfying) == 1 && hasRival(t, malformed, satisfying[0]):
		return nil, ambiguous(), Ambiguous
	case len(satisfying) == 1:
		return satisfying[0], nil, Extracted
	case len(strict) > 0:
		return nil, faults, Invalid
	case len(malformed) == 0:
		return nil, syntaxFault("there is no complete JSON object or array in the answer"), Invalid
	case len(malformed) == 1 && t.Output.Repair && a.FinishReason == finishStop:
		return repair(t, malformed[0], syntax)
	}
	return nil, syntaxFault("the answer is not valid JSON: %v", syntax), Invalid
}

func ambiguous() []schema.Violation {
	return []schema.Violation{{Rule: ruleAmbiguous, Message: "the answer has more than one JSON value that could be meant"}}
}

// isAmong reports whether one of the candidates has the same value: a model that repeats its answer has
// given one answer.
func isAmong(candidates []*candidate, c *candidate) bool {
	for _, other := range candidates {
		if reflect.DeepEqual(other.value, c.value) {
			return true
		}
	}
	return false
}

// hasRival reports whether a malformed piece could be meant in the place of c.
func hasRival(t *task.Task, malformed []string, c *candidate) bool {
	for _, text := range malformed {
		value, _, ok := read(text)
		if !ok {
			continue
		}
		rival := &candidate{value: value}
		if rival.satisfy(t) == nil && !reflect.DeepEqual(rival.value, c.value) {
			return true
		}
	}
	return false
}

// plausible keeps the pieces whose kind, object or array, the schema takes at all. A note like [1] is no
// rival where an object is demanded.
func plausible(t *task.Task, found []segment) []segment {
	var objects, arrays bool
	if t.OutputSchema == nil {
		objects, arrays = true, true
	} else {
		objects, arrays = takes(t.OutputSchema, map[string]any{}), takes(t.OutputSchema, []any{})
	}
	kept := found[:0]
	for _, s := range found {
		if s.text[0] == '{' && objects || s.text[0] == '[' && arrays {
			kept = append(kept, s)
		}
	}
	return kept
}

func takes(s *schema.Schema, kind any) bool {
	for _, fault := range s.Validate(kind) {
		if fault.Pointer == "" && fault.Rule == "type" {
			return false
		}
	}
	return true
}

// pieces cuts the bracketed pieces out of an answer, in order. Text that itself begins with a bracket is
// searched as it is: a fence in it stands within a string. Elsewhere the blocks between fences are searched
// each on its own, so that a bracket of the prose that nobody closes does not swallow the answer.
func pieces(text string) (found []segment, tooMany bool) {
	text = afterThinking(strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")))
	if text == "" {
		return nil, false
	}
	if text[0] == '{' || text[0] == '[' {
		return segments(nil, text)
	}
	for _, block := range blocks(text) {
		if found, tooMany = segments(found, block); tooMany {
			return nil, true
		}
	}
	return found, false
}

// afterThinking leaves out what a reasoning model wrote between its marks before the answer.
func afterThinking(text string) string {
	const begin, end = "<think>", "</think>"
	if strings.HasPrefix(text, begin) {
		if _, answer, closed := strings.Cut(text, end); closed {
			return strings.TrimSpace(answer)
		}
	}
	return text
}

// segments appends the bracketed pieces of text, in one pass. Brackets within double quotes do not count,
// and quotes outside of brackets are prose. Which bracket closes which is left to who reads the piece.
func segments(found []segment, text string) (all []segment, tooMany bool) {
	start, depth, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case depth > 0 && c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth == 0 {
				start = i
			}
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			if depth--; depth == 0 {
				found = append(found, segment{text[start : i+1], true})
			}
		}
		if len(found) > maxSegments {
			return nil, true
		}
	}
	if depth > 0 {
		found = append(found, segment{text[start:], false})
	}
	return found, false
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
