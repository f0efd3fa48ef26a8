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
func (s *Schema) Validate(value any) []Violation { return s.Check(value).Violations() }

// Report is what Check found.
type Report struct {
	errs []gojsonschema.ResultError
	// failed says why the value could not be checked.
	failed error
}

// Check is Validate for who wants to know of all faults, however many there are.
func (s *Schema) Check(value any) (r Report) {
	// gojsonschema has panicked on input before. A process that dies of one job would die of it again.
	defer func() {
		if cause := recover(); cause != nil {
			r = Report{failed: fmt.Errorf("the value can not be checked: %v", cause)}
		}
	}()
	result, err := s.compiled.Validate(gojsonschema.NewRawLoader(value))
	if err != nil {
		return Report{failed: fmt.Errorf("the value can not be checked: %w", err)}
	}
	return Report{errs: result.Errors()}
}

// Satisfied reports whether the value has no fault.
func (r Report) Satisfied() bool { return r.failed == nil && len(r.errs) == 0 }

// Violations describes the first faults, at most MaxViolations; nil: there are none.
func (r Report) Violations() []Violation {
	switch {
	case r.failed != nil:
		return []Violation{{Message: r.failed.Error(), Rule: "internal"}}
	case r.Satisfied():
		return nil
	}
	return collect(r.errs)
}

// Each gives each fault, in no order.
func (r Report) Each(do func(Fault)) {
	each(r.errs, func(e gojsonschema.ResultError) { do(Fault{e}) })
}

// Fault is a place where a value does not satisfy a schema, without the words of a Violation: of many faults these
// cost more than the check.
type Fault struct{ err gojsonschema.ResultError }

// Pointer is that of the Violation.
func (f Fault) Pointer() string { return pointerOf(f.err) }

// IsType reports whether the value is of a type that the schema does not allow.
func (f Fault) IsType() bool { return f.err.Type() == "invalid_type" }

// IsAdditional reports whether the pointer leads to a property that the schema does not allow.
func (f Fault) IsAdditional() bool { return f.err.Type() == "additional_property_not_allowed" }

// Value is what is at fault; of a missing property, the object.
func (f Fault) Value() any { return f.err.Value() }

// located is an error of gojsonschema with its pointer.
type located struct {
	pointer string
	gojsonschema.ResultError
}

// each gives the errors that say something of their own.
func each(errs []gojsonschema.ResultError, do func(gojsonschema.ResultError)) {
	badNames := map[string]bool{}
	for _, e := range errs {
		if e.Type() == "invalid_property_name" {
			badNames[pointerOf(e)] = true
		}
	}
	for _, e := range errs {
		if !isWrapper(e) && (len(badNames) == 0 || !isAboutName(e, badNames)) {
			do(e)
		}
	}
}

// collect describes only the first violations. There may be one for each item of a large answer, and the words
// for all of them would take more time and memory than the check.
func collect(errs []gojsonschema.ResultError) []Violation {
	var f first
	each(errs, func(e gojsonschema.ResultError) { f.add(located{pointer: pointerOf(e), ResultError: e}) })
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
func isAboutName(e gojsonschema.ResultError, badNames map[string]bool) bool {
	name, ok := e.Value().(string)
	return ok && e.Type() != "invalid_property_name" && badNames[AppendPointer(pointerOf(e), name)]
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
