package validator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// The outcomes of a verdict.
const (
	Valid     = "valid"
	Extracted = "extracted"
	Repaired  = "repaired"
	Invalid   = "invalid"
	Ambiguous = "ambiguous"
	Refusal   = "refusal"
	Truncated = "truncated"
	Empty     = "empty"
	TooLarge  = "too_large"
)

// The ways of finish reasons that decide.
const (
	finishStop   = "stop"
	finishLength = "length"
	finishFilter = "content_filter"
)

// The rules of faults that no schema names.
const (
	ruleSyntax    = "syntax"
	ruleAmbiguous = "ambiguous"
	ruleSize      = "size"
)

// Verdict is what the validator thinks of one answer.
type Verdict struct {
	// Outcome is one of the constants above.
	Outcome string
	// Output is compact JSON, only of Valid, Extracted and Repaired.
	Output json.RawMessage
	// Faults say why the answer is Invalid or Ambiguous, in words that can be told to the model.
	Faults []schema.Violation
	// Notes say what was changed to win the output.
	Notes []string
}

// isOutput reports whether the answer is an output.
func (v *Verdict) isOutput() bool { return v.Output != nil }

// Judge checks an answer to input, which is JSON. It needs nothing but its arguments, so that recorded
// answers can be played through it.
func Judge(t *task.Task, input []byte, a *job.Answer) Verdict {
	switch {
	case a.Refusal != "" || a.FinishReason == finishFilter:
		return Verdict{Outcome: Refusal}
	case a.FinishReason == finishLength:
		return Verdict{Outcome: Truncated}
	case strings.TrimFunc(a.Content, isBlank) == "":
		return Verdict{Outcome: Empty}
	case t.Output.MaxBytes > 0 && len(a.Content) > t.Output.MaxBytes:
		return Verdict{Outcome: TooLarge}
	case t.Output.Format == task.FormatText:
		return judgeText(t, input, a)
	}
	return judgeJSON(t, input, a)
}

func judgeText(t *task.Task, input []byte, a *job.Answer) Verdict {
	text, whole := saidInProse(a.Content)
	switch {
	case !whole:
		return Verdict{Outcome: Invalid, Faults: syntaxFault("a thought in the answer has no end, or a mark of thoughts stands amid the text")}
	case text == "":
		return Verdict{Outcome: Empty}
	}
	if faults := t.Broken(input, text); faults != nil {
		return Verdict{Outcome: Invalid, Faults: faults}
	}
	if text != a.Content {
		return Verdict{Outcome: Extracted, Output: quote(text), Notes: []string{"left out what the model thought"}}
	}
	return Verdict{Outcome: Valid, Output: quote(text)}
}

func judgeJSON(t *task.Task, input []byte, a *job.Answer) Verdict {
	c, faults, outcome := find(t, a)
	if faults != nil {
		return Verdict{Outcome: outcome, Faults: faults}
	}
	if faults := t.Broken(input, c.value); faults != nil {
		return Verdict{Outcome: Invalid, Faults: faults, Notes: c.notes}
	}
	return Verdict{Outcome: outcome, Output: c.output(), Notes: c.notes}
}

// find returns the one value in the answer that satisfies the schema, or why there is none.
func find(t *task.Task, a *job.Answer) (c *candidate, faults []schema.Violation, outcome string) {
	value, err := schema.Decode([]byte(a.Content))
	if err != nil {
		return extract(t, a)
	}
	c = &candidate{text: a.Content, value: value}
	if faults = c.satisfy(t); faults == nil {
		return c, nil, Valid
	}
	if text, ok := value.(string); ok {
		if c = unquote(t, text); c != nil {
			return c, nil, Extracted
		}
	}
	return nil, faults, Invalid
}

const inString = "the JSON stood in a string"

// maxEncoded is how often an answer may be written into a string as a whole.
const maxEncoded = 3

// unquote returns the value of an answer that a model wrote into a JSON string, or nil. Nothing in it is
// repaired.
func unquote(t *task.Task, text string) *candidate {
	for range maxEncoded {
		value, err := schema.Decode([]byte(text))
		if err != nil {
			c, _, _ := extract(t, &job.Answer{Content: text})
			return c
		}
		inner, ok := value.(string)
		if !ok {
			c := &candidate{text: text, value: value, notes: []string{inString}}
			if c.satisfy(t) != nil {
				return nil
			}
			return c
		}
		text = inner
	}
	return nil
}

// candidate is a value that may be the output.
type candidate struct {
	text  string
	value any
	// changed is true when value is no longer what text says.
	changed bool
	notes   []string
}

// output is the value as compact JSON, in the model's own order of properties where it is unchanged.
func (c *candidate) output() json.RawMessage {
	if !c.changed {
		text := jsontext.Value(c.text)
		if text.Compact() == nil {
			return json.RawMessage(text)
		}
	}
	return encode(c.value)
}

// quote is text as JSON, with U+FFFD for what is not UTF-8.
func quote(text string) json.RawMessage {
	quoted, _ := jsontext.AppendQuote(make([]byte, 0, len(text)+len(text)/8+2), text)
	return quoted
}

// encode writes a value that was decoded before, so it can not fail.
func encode(value any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic(fmt.Sprintf("encode a decoded value: %v", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func syntaxFault(format string, args ...any) []schema.Violation {
	return []schema.Violation{{Rule: ruleSyntax, Message: fmt.Sprintf(format, args...)}}
}
