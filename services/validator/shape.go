package validator

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

const drop = "drop"

// Bounds of shaping: a pass removes what the schema complained of, which uncovers at most what it had not
// listed; a longer text is no number that anybody wrote on purpose.
const (
	maxPasses       = 4
	maxCoercedBytes = 32
)

// maxNodes bounds the values that an answer is made of. The schema library takes 1 KB for each that is at fault.
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
	if t.OutputSchema == nil {
		return nil
	}
	if len(c.text) > maxNodes && nodes(c.value, maxNodes) > maxNodes {
		return tooManyNodes()
	}
	faults := t.OutputSchema.Validate(c.value)
	left := faults
	var notes []string
	for pass := 0; len(left) > 0; pass++ {
		made := shape(&t.Output, c.value, left)
		if made == nil || pass == maxPasses {
			return faults
		}
		notes = append(notes, made...)
		left = t.OutputSchema.Validate(c.value)
	}
	c.changed = c.changed || notes != nil
	c.notes = append(c.notes, notes...)
	return nil
}

// shape changes value, in place, where a fault asks for a change that the task allows. It only ever looks at
// what the schema complained of: an additional property that the schema allows stays, so does a null.
func shape(o *task.Output, value any, faults []schema.Violation) (notes []string) {
	for i := range faults {
		if note := shapeAt(o, value, &faults[i]); note != "" {
			notes = append(notes, note)
		}
	}
	return notes
}

func shapeAt(o *task.Output, value any, fault *schema.Violation) (note string) {
	part, found := schema.Lookup(value, fault.Pointer)
	if !found || fault.Pointer == "" {
		return ""
	}
	if part == nil && o.OptionalNull == drop && remove(value, fault.Pointer) {
		// Was the property required, the next pass says so, and the answer is judged as it came.
		return "dropped the null of " + fault.Pointer
	}
	if fault.Rule == "additionalProperties" && o.AdditionalProperties == drop && remove(value, fault.Pointer) {
		return "dropped " + fault.Pointer
	}
	text, isText := part.(string)
	if isText && fault.Rule == "type" && o.Coerce {
		if coerced := coerce(text); coerced != nil && replace(value, fault.Pointer, coerced) {
			return fmt.Sprintf("took %q at %s for %v", text, fault.Pointer, coerced)
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
