package partial

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"spillway/pkg/schema"
)

// Shape says which strings of a value may be shown while they are written: those of which their schema says
// nothing but that they are strings, and how long. A choice or a date that has only begun is none that the whole
// value can have. Where it is not certain, a string is shown whole. A string that is none of its choices is not
// shown, nor what follows it: the answer is none. nil: all strings grow. It is immutable.
type Shape struct {
	whole bool
	// choices are all that a string can be; nil: that is not known.
	choices []string
	// members are by name, other is of all other names; items are the first ones of an array, rest the others.
	members map[string]*Shape
	other   *Shape
	items   []*Shape
	rest    *Shape
}

// maxShapes bounds how many places of a value are told apart; beyond it all strings are shown whole.
const maxShapes = 4096

// ShapeOf reads a decoded JSON schema.
func ShapeOf(document any) *Shape {
	whole := &Shape{whole: true}
	whole.other, whole.rest = whole, whole
	b := &shaper{document: document, known: map[string]*Shape{}, whole: whole}
	return b.shape([]any{document})
}

func (s *Shape) isWhole() bool { return s != nil && s.whole }

// forbids reports whether a whole string, as it is written, is none of the choices.
func (s *Shape) forbids(quoted []byte) bool {
	if s == nil || s.choices == nil {
		return false
	}
	var text string
	return json.Unmarshal(quoted, &text) == nil && !slices.Contains(s.choices, text)
}

func (s *Shape) member(name string) *Shape {
	if s == nil {
		return nil
	}
	if m, ok := s.members[name]; ok {
		return m
	}
	return s.other
}

func (s *Shape) item(i int) *Shape {
	switch {
	case s == nil:
		return nil
	case i < len(s.items):
		return s.items[i]
	}
	return s.rest
}

type shaper struct {
	document any
	known    map[string]*Shape
	whole    *Shape // whole all the way down
}

// shape is that of a value to which all the nodes apply, or may.
func (b *shaper) shape(nodes []any) *Shape {
	all, certain := b.close(nodes)
	switch {
	case !certain || len(b.known) >= maxShapes:
		return b.whole
	case len(all) == 0:
		return nil
	}
	key := keyOf(all)
	if s, ok := b.known[key]; ok {
		return s
	}
	s := &Shape{}
	b.known[key] = s
	for _, n := range all {
		if isClosed(n) {
			*s = *b.whole
			return s
		}
		s.whole = s.whole || isBound(n)
	}
	s.whole = s.whole || slices.ContainsFunc(nodes, func(n any) bool { return !b.mayBeString(n, 0) })
	if one := slices.DeleteFunc(slices.Clone(nodes), func(n any) bool { return object(n) == nil }); len(one) == 1 {
		s.choices = b.choicesOf(one[0], 0)
	}
	b.inner(s, all)
	return s
}

// inner finds the shapes of a value's parts.
func (b *shaper) inner(s *Shape, all []map[string]any) {
	s.members = map[string]*Shape{}
	first := 0
	for _, n := range all {
		for name := range object(n["properties"]) {
			s.members[name] = nil
		}
		list, _ := n["items"].([]any)
		first = max(first, len(list))
	}
	for name := range s.members {
		s.members[name] = b.shape(partsOf(all, func(n map[string]any) []any { return memberOf(n, name) }))
	}
	s.other = b.shape(partsOf(all, otherOf))
	s.items = make([]*Shape, first)
	for i := range s.items {
		s.items[i] = b.shape(partsOf(all, func(n map[string]any) []any { return itemOf(n, i) }))
	}
	s.rest = b.shape(partsOf(all, func(n map[string]any) []any { return itemOf(n, first) }))
}

func partsOf(all []map[string]any, of func(map[string]any) []any) (parts []any) {
	for _, n := range all {
		parts = append(parts, of(n)...)
	}
	return parts
}

func memberOf(n map[string]any, name string) []any {
	if p, ok := object(n["properties"])[name]; ok {
		return append(values(n["patternProperties"]), p)
	}
	return otherOf(n)
}

func otherOf(n map[string]any) []any {
	return append(values(n["patternProperties"]), n["additionalProperties"])
}

func itemOf(n map[string]any, i int) []any {
	parts := []any{n["contains"]}
	list, ok := n["items"].([]any)
	switch {
	case !ok:
		return append(parts, n["items"])
	case i < len(list):
		return append(parts, list[i])
	}
	return append(parts, n["additionalItems"])
}

// close adds what applies to the same value by reference or branch. certain is false when a reference leads
// nowhere that is known.
func (b *shaper) close(nodes []any) (all []map[string]any, certain bool) {
	seen := map[uintptr]bool{}
	for len(nodes) > 0 {
		n := object(nodes[0])
		nodes = nodes[1:]
		if n == nil || seen[identity(n)] {
			continue
		}
		seen[identity(n)] = true
		all = append(all, n)
		if _, ok := n["$ref"]; ok {
			target, ok := b.target(n)
			if !ok {
				return nil, false
			}
			nodes = append(nodes, target)
		}
		for _, word := range []string{"allOf", "anyOf", "oneOf"} {
			list, _ := n[word].([]any)
			nodes = append(nodes, list...)
		}
		nodes = append(nodes, n["not"], n["if"], n["then"], n["else"])
		nodes = append(nodes, values(n["dependencies"])...)
	}
	return all, true
}

func (b *shaper) target(n map[string]any) (any, bool) {
	ref, _ := n["$ref"].(string)
	pointer, local := strings.CutPrefix(ref, "#")
	if !local {
		return nil, false
	}
	return schema.Lookup(b.document, pointer)
}

// isBound: a string to which the node applies must be one of some.
func isBound(n map[string]any) bool {
	for _, word := range []string{"enum", "const", "format", "pattern"} {
		if _, ok := n[word]; ok {
			return true
		}
	}
	return false
}

// isClosed: the node lists values that have parts, so that these are no others.
func isClosed(n map[string]any) bool {
	choices, _ := n["enum"].([]any)
	return slices.ContainsFunc(append(slices.Clone(choices), n["const"]), func(choice any) bool {
		switch choice.(type) {
		case map[string]any, []any:
			return true
		}
		return false
	})
}

// maxBranches bounds how deep branches and references are followed for a type.
const maxBranches = 32

// mayBeString reports whether the node, and what it refers to, takes strings: what is no string in the end may
// be written as one and turned into a number.
func (b *shaper) mayBeString(node any, depth int) bool {
	n := object(node)
	if n == nil || depth > maxBranches {
		return true
	}
	may := func(inner any) bool { return b.mayBeString(inner, depth+1) }
	switch t := n["type"].(type) {
	case string:
		if t != "string" {
			return false
		}
	case []any:
		if !slices.Contains(t, any("string")) {
			return false
		}
	}
	if target, ok := b.target(n); ok && !may(target) {
		return false
	}
	all, _ := n["allOf"].([]any)
	for _, inner := range all {
		if !may(inner) {
			return false
		}
	}
	for _, word := range []string{"anyOf", "oneOf"} {
		if list, ok := n[word].([]any); ok && !slices.ContainsFunc(list, may) {
			return false
		}
	}
	return true
}

// choicesOf returns the strings among which the node, or what it refers to, leaves the choice; nil: it does not.
func (b *shaper) choicesOf(node any, depth int) []string {
	n := object(node)
	if n == nil || depth > maxBranches {
		return nil
	}
	list, ok := n["enum"].([]any)
	if one, is := n["const"]; is {
		list, ok = []any{one}, true
	}
	if ok {
		choices := []string{}
		for _, choice := range list {
			if text, ok := choice.(string); ok {
				choices = append(choices, text)
			}
		}
		return choices
	}
	all, _ := n["allOf"].([]any)
	if target, ok := b.target(n); ok {
		all = append(slices.Clone(all), target)
	}
	for _, inner := range all {
		if choices := b.choicesOf(inner, depth+1); choices != nil {
			return choices
		}
	}
	return nil
}

func object(node any) map[string]any {
	n, _ := node.(map[string]any)
	return n
}

func values(node any) (list []any) {
	for _, v := range object(node) {
		list = append(list, v)
	}
	return list
}

func identity(n map[string]any) uintptr { return reflect.ValueOf(n).Pointer() }

// keyOf names a set of nodes.
func keyOf(all []map[string]any) string {
	ids := make([]uintptr, len(all))
	for i, n := range all {
		ids[i] = identity(n)
	}
	slices.Sort(ids)
	return fmt.Sprint(ids)
}
