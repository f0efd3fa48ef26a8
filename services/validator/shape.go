package validator

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

const (
	drop       = "drop"
	additional = "additionalProperties"
)

// Bounds of shaping: a pass changes all that the schema complained of, which uncovers at most what it did not look
// at before; a longer text is no number that anybody wrote on purpose; of many changes the first are told.
const (
	maxPasses       = 4
	maxCoercedBytes = 32
	maxNotes        = 64
)

// maxNodes bounds the values that an answer is made of.
const maxNodes = 200_000

func tooManyNodes() []schema.Violation {
	return []schema.Violation{{Rule: ruleSize, Message: fmt.Sprintf("has more than %d values", maxNodes)}}
}

// nodes counts value and all values in it, at most little beyond limit.
func nodes(value any, limit int) (n int) {
	n = 1
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			if n += nodes(item, limit-n); n > limit {
				return n
			}
		}
	case map[string]any:
		for _, member := range v {
			if n += nodes(member, limit-n); n > limit {
				return n
			}
		}
	}
	return n
}

// satisfy checks the candidate against the task's schema, after the changes that the task allows. nil: the
// candidate satisfies it, and its notes say what was changed. Otherwise the faults are those of the answer
// as it was: a change that did not help is not told.
func (c *candidate) satisfy(t *task.Task) []schema.Violation {
	return c.shapedTo(t.OutputSchema, &t.Output)
}

// satisfyRepaired is satisfy for a value that was repaired: one guess is not built on another. A null that says of
// an optional property that there is none is no guess.
func (c *candidate) satisfyRepaired(t *task.Task) []schema.Violation {
	return c.shapedTo(t.OutputSchema, &task.Output{OptionalNull: t.Output.OptionalNull})
}

func (c *candidate) shapedTo(s *schema.Schema, o *task.Output) []schema.Violation {
	if s == nil {
		return nil
	}
	if len(c.text) > maxNodes && nodes(c.value, maxNodes) > maxNodes {
		return tooManyNodes()
	}
	report := s.Check(c.value, func(f schema.Fault) bool { return isShaped(o, f) })
	faults := report.Violations()
	var notes []string
	for pass := 0; !report.Satisfied(); pass++ {
		if report.IsCut() || pass == maxPasses {
			return faults
		}
		made := shape(o, c.value, &report)
		if made == nil {
			return faults
		}
		notes = append(notes, made...)
		report = s.Check(c.value, func(f schema.Fault) bool { return isShaped(o, f) })
	}
	c.changed = c.changed || notes != nil
	c.notes = append(c.notes, told(notes)...)
	return nil
}

// isShaped reports whether the task may allow a change that mends the fault. Of a form that the value may have been
// meant as, or not, nothing is mended: it would be a choice between two answers.
func isShaped(o *task.Output, f schema.Fault) bool {
	_, isText := f.Value.(string)
	if f.Rule == additional {
		return !f.InBranch && o.AdditionalProperties == drop
	}
	return !f.InBranch && (f.Value == nil && o.OptionalNull == drop || isText && f.Rule == "type" && o.Coerce)
}

// told are the notes of a verdict, of which there may be one for each value of a large answer.
func told(notes []string) []string {
	if more := len(notes) - maxNotes; more > 0 {
		return append(notes[:maxNotes], fmt.Sprintf("and %d more changes", more))
	}
	return notes
}

// shape changes value, in place, where a fault asks for a change that the task allows. It only ever looks at
// what the schema complained of: an additional property that the schema allows stays, so does a null.
func shape(o *task.Output, value any, report *schema.Report) (notes []string) {
	report.Each(func(fault schema.Fault) {
		if note := shapeAt(o, value, report, fault); note != "" {
			notes = append(notes, note)
		}
	})
	slices.Sort(notes)
	return notes
}

func shapeAt(o *task.Output, value any, report *schema.Report, fault schema.Fault) (note string) {
	if !isShaped(o, fault) {
		return "" // before the pointer is made: there may be a fault for each value of a large answer
	}
	pointer := fault.Pointer()
	if _, found := schema.Lookup(value, pointer); !found || pointer == "" {
		return ""
	}
	switch {
	case fault.Rule == additional:
		if isSurplus(report, fault, pointer) && remove(value, pointer) {
			return "dropped " + pointer
		}
	case fault.Value == nil:
		// Was the property required, the next pass says so, and the answer is judged as it came.
		if remove(value, pointer) {
			return "dropped the null of " + pointer
		}
	default:
		text, _ := fault.Value.(string)
		if coerced := coerce(text); coerced != nil && replace(value, pointer, coerced) {
			return fmt.Sprintf("took %q at %s for %v", text, pointer, coerced)
		}
	}
	return ""
}

// coerce returns the number or boolean that text spells as JSON would, or nil. Exponents are left alone:
// who writes "1e5" into a string may mean a name.
func coerce(text string) any {
	if len(text) > maxCoercedBytes || strings.ContainsAny(text, "eE") && text != "true" && text != "false" {
		return nil
	}
	value, err := schema.Decode([]byte(text))
	if err != nil {
		return nil
	}
	switch value.(type) {
	case json.Number, bool:
		return value
	}
	return nil
}

// remove deletes the property that the pointer leads to. An item of an array is not removed.
func remove(value any, pointer string) bool {
	parent, last := parentOf(value, pointer)
	members, ok := parent.(map[string]any)
	if ok {
		delete(members, last)
	}
	return ok
}

func replace(value any, pointer string, by any) bool {
	switch parent, last := parentOf(value, pointer); p := parent.(type) {
	case map[string]any:
		p[last] = by
		return true
	case []any:
		i, err := strconv.Atoi(last)
		if err != nil || i < 0 || i >= len(p) {
			return false
		}
		p[i] = by
		return true
	}
	return false
}

func parentOf(value any, pointer string) (parent any, last string) {
	tokens, err := schema.SplitPointer(pointer)
	if err != nil || len(tokens) == 0 {
		return nil, ""
	}
	last = tokens[len(tokens)-1]
	parent, _ = schema.Lookup(value, pointer[:strings.LastIndexByte(pointer, '/')])
	return parent, last
}
