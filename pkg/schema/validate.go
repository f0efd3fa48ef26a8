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

func collect(errs []gojsonschema.ResultError) []Violation {
	found := make([]located, 0, len(errs))
	badNames := map[string]bool{}
	for _, e := range errs {
		if isWrapper(e) {
			continue
		}
		at := located{pointerOf(e), e}
		found = append(found, at)
		if e.Type() == "invalid_property_name" {
			badNames[at.pointer] = true
		}
	}
	found = slices.DeleteFunc(found, func(at located) bool { return isAboutName(at, badNames) })
	// gojsonschema walks maps, so its order differs from run to run.
	slices.SortFunc(found, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.pointer, b.pointer), cmp.Compare(a.Type(), b.Type()), cmp.Compare(a.Description(), b.Description()))
	})
	found = slices.CompactFunc(found, func(a, b located) bool {
		return a.pointer == b.pointer && a.Type() == b.Type() && a.Description() == b.Description()
	})
	more := max(len(found)-MaxViolations, 0)
	violations := make([]Violation, 0, len(found)-more+1)
	for _, at := range found[:len(found)-more] {
		violations = append(violations, at.violation())
	}
	if more > 0 {
		violations = append(violations, Violation{Message: fmt.Sprintf("and %d more", more), Rule: "more"})
	}
	return violations
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
	tokens := strings.Split(e.Context().String(separator), separator)
	pointer := AppendPointer("", tokens[1:]...)
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
