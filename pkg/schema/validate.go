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
func (s *Schema) Validate(value any) []Violation { return s.Check(value, nil).Violations() }

// Report is what Check found.
type Report struct {
	faults []Fault
	// cut: there are more faults.
	cut bool
	// failed says why the value could not be checked.
	failed *Violation
	scope  scope
}

// Check is Validate for who wants to know of the faults before they are put into words. It looks for faults until it
// has more than 1000 that spared does not take; nil takes none.
func (s *Schema) Check(value any, spared func(Fault) bool) (r Report) {
	// A process that dies of one job would die of it again.
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case exhausted:
			r = Report{failed: &Violation{Rule: "steps", Message: fmt.Sprintf("the value is too large for a schema of so many alternatives: to check it takes more than %d steps", maxSteps)}}
		default:
			r = Report{failed: &Violation{Rule: "internal", Message: fmt.Sprintf("the value can not be checked: %v", cause)}}
		}
	}()
	walk := &run{}
	if walk.satisfies(s.root, value) {
		return Report{failed: s.overruled(value, walk.steps)}
	}
	r.scope.root = s.root
	r.faults, r.cut = faultsOf(s.root, value, spared)
	return r
}

// maxLibrarySteps bounds the work of gojsonschema, which takes up to 30 µs and 1 KB for what is one step here.
const maxLibrarySteps = 20_000

// overruled is what gojsonschema has against a value in which the walk found no fault in so many steps; nil: nothing.
func (s *Schema) overruled(value any, steps int) *Violation {
	if s.library == nil || steps > maxLibrarySteps {
		return nil
	}
	result, err := s.library.Validate(gojsonschema.NewRawLoader(value))
	switch {
	case err != nil:
		return &Violation{Rule: "internal", Message: fmt.Sprintf("the value can not be checked: %v", err)}
	case !result.Valid():
		return inTheirWords(result.Errors()[0])
	}
	return nil
}

func inTheirWords(e gojsonschema.ResultError) *Violation {
	const between = "\x00"
	_, path, isPart := strings.Cut(e.Context().String(between), between)
	v := &Violation{Rule: "internal", Message: "does not satisfy the schema: " + e.Description(), Got: Render(e.Value())}
	if isPart {
		v.Pointer = AppendPointer("", strings.Split(path, between)...)
	}
	return v
}

// faultsOf looks for the faults of a value that has some.
func faultsOf(n *node, value any, spared func(Fault) bool) (faults []Fault, wasCut bool) {
	f := &found{spared: spared}
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case enough, exhausted:
			wasCut = true
		default:
			panic(cause)
		}
		if faults = f.faults; len(faults) == 0 {
			faults = []Fault{{Rule: "steps", Value: value, node: n, InBranch: true}}
		}
	}()
	(&run{}).judge(n, value, nil, f)
	return f.faults, false
}

// Satisfied reports whether the value has no fault.
func (r Report) Satisfied() bool { return r.failed == nil && len(r.faults) == 0 }

// Each gives each fault.
func (r *Report) Each(do func(Fault)) {
	for _, f := range r.faults {
		do(f)
	}
}

// IsCut reports whether there are more faults than Each gives.
func (r Report) IsCut() bool { return r.cut || r.failed != nil }

// IsForeign reports whether the schema, in whatever branch, speaks of no property at the fault's place with the name
// that the property at fault has, however it is spelled: Urgency and urgency are one name.
func (r *Report) IsForeign(f Fault) bool {
	return f.at != nil && f.at.index < 0 &&
		!slices.ContainsFunc(r.scope.at(f.at.parent), func(n *node) bool { return n.knows(f.at.name) })
}

// IsRival reports whether an object within the value at fault has a property that the schema, in whatever branch, knows
// at the fault's place, with a value that it may have there: it may be another answer.
func (r *Report) IsRival(f Fault) bool {
	return f.at != nil && speaksOf(r.scope.at(f.at.parent), f.Value)
}

// Violations describes the first faults, at most MaxViolations; nil: there are none. There may be one for each item of
// a large answer, and the words for all of them would take more time and memory than the check.
func (r Report) Violations() []Violation {
	if r.failed != nil {
		return []Violation{*r.failed}
	}
	if len(r.faults) == 0 {
		return nil
	}
	violations := make([]Violation, 0, min(len(r.faults), MaxViolations)+1)
	met := map[Violation]bool{}
	more := 0
	for _, f := range r.faults {
		if len(violations) == MaxViolations {
			more++
			continue
		}
		if v := f.violation(); !met[v] {
			met[v] = true
			violations = append(violations, v)
		}
	}
	slices.SortStableFunc(violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	switch {
	case r.cut:
		violations = append(violations, Violation{Message: fmt.Sprintf("and more than %d more", more), Rule: "more"})
	case more > 0:
		violations = append(violations, Violation{Message: fmt.Sprintf("and %d more", more), Rule: "more"})
	}
	return violations
}

// Fault is a place where a value does not satisfy a schema, without the words of a Violation: of many faults these
// cost more than the check.
type Fault struct {
	at   *place
	node *node
	// Rule is that of the Violation.
	Rule string
	// Value is what is at fault; of a missing property, the object.
	Value any
	// InBranch: the fault is one that the value has as the nearest of several forms that it may have been meant as.
	InBranch bool
}

// Pointer is that of the Violation.
func (f Fault) Pointer() string { return f.at.pointer() }
