package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/xeipuuv/gojsonschema"
)

// MaxViolations bounds what Validate returns. When there are more, a last one of the rule "more" counts them.
const MaxViolations = 64

// Validate returns what of the value, as Decode made it, does not satisfy the schema, in a fixed order;
// nil: it satisfies it. The value is neither copied nor changed.
func (s *Schema) Validate(value any) (violations []Violation) {
	// gojsonschema has panicked on input before. A process that dies of one job would die of it again.
	defer func() {
		if cause := recover(); cause != nil {
			violations = []Violation{{Message: fmt.Sprintf("the value can not be checked: %v", cause), Rule: "internal"}}
		}
	}()
	result, err := s.compiled.Validate(gojsonschema.NewRawLoader(value))
	if err != nil {
		return []Violation{{Message: "the value can not be checked: " + err.Error(), Rule: "internal"}}
	}
	if result.Valid() {
		return nil
	}
	return collect(result.Errors())
}

// located is an error of gojsonschema with its pointer.
type located struct {
	pointer string
	gojsonschema.ResultError
}

// collect describes only the first violations. There may be one for each item of a large answer, and the words
// for all of them would take more time and memory than the check.
func collect(errs []gojsonschema.ResultError) []Violation {
	badNames := map[string]bool{}
	for _, e := range errs {
		if e.Type() == "invalid_property_name" {
			badNames[pointerOf(e)] = true
		}
	}
	var f first
	for _, e := range errs {
		if isWrapper(e) {
			continue
		}
		if at := (located{pointer: pointerOf(e), ResultError: e}); len(badNames) == 0 || !isAboutName(at, badNames) {
			f.add(at)
		}
	}
	violations := make([]Violation, 0, len(f.found)+1)
	for _, at := range f.found {
		violations = append(violations, at.violation())
	}
	if f.more > 0 {
		violations = append(violations, Violation{Message: fmt.Sprintf("and %d more", f.more), Rule: "more"})
	}
	return violations
}

// first keeps the first MaxViolations errors in the order of compare, each once. gojsonschema walks maps, so its
// own order differs from run to run.
type first struct {
	found []located
	// times is how often each of found was met.
	times []int
	// more is how many other errors were met.
	more int
}

func (f *first) add(at located) {
	if last := len(f.found) - 1; last == MaxViolations-1 && compare(at, f.found[last]) > 0 {
		f.more++
		return
	}
	i, met := slices.BinarySearchFunc(f.found, at, compare)
	if met {
		f.times[i]++
		return
	}
	f.found, f.times = slices.Insert(f.found, i, at), slices.Insert(f.times, i, 1)
	if last := len(f.found) - 1; last == MaxViolations {
		f.more += f.times[last]
		f.found, f.times = f.found[:last], f.times[:last]
	}
}

func compare(a, b located) int {
	if order := cmp.Compare(a.pointer, b.pointer); order != 0 {
		return order
	}
	return cmp.Or(cmp.Compare(a.Type(), b.Type()), cmp.Compare(a.Description(), b.Description()))
}

// isWrapper: the error says only that errors follow, and they do.
func isWrapper(e gojsonschema.ResultError) bool {
	switch e.Type() {
	case "number_all_of", "condition_then", "condition_else":
		return true
	}
	return false
}

// isAboutName: the error is a detail of one that names a property's name as unfit. Its context is the
// object, its value the name.
func isAboutName(at located, badNames map[string]bool) bool {
	name, ok := at.Value().(string)
	return ok && at.Type() != "invalid_property_name" && badNames[AppendPointer(at.pointer, name)]
}

// separator can not occur in a key: Decode takes only UTF-8.
const separator = "\xff"

func pointerOf(e gojsonschema.ResultError) string {
	path := e.Context().String(separator)
	pointer := ""
	if i := strings.Index(path, separator); i >= 0 {
		pointer = strings.ReplaceAll(escapeToken(path[i:]), separator, "/")
	}
	switch e.Type() {
	case "required", "additional_property_not_allowed", "invalid_property_name":
		property, _ := e.Details()["property"].(string)
		return AppendPointer(pointer, property)
	case "missing_dependency":
		property, _ := e.Details()["dependency"].(string)
		return AppendPointer(pointer, property)
	}
	return pointer
}
