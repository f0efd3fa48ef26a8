package partial

import (
	"encoding/json"
	"fmt"
	"maps"
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

// Bounds of what is told apart: places of a value, and the nodes that are looked at for them. Beyond them all strings
// are shown whole.
const (
	maxShapes = 4096
	maxLooks  = 1_000_000
)

// ShapeOf reads a decoded JSON schema.
func ShapeOf(document any) *Shape {
	whole := &Shape{whole: true}
	whole.other, whole.rest = whole, whole
	b := &shaper{document: document, known: map[string]*Shape{}, whole: whole, strings: map[uintptr]bool{}, choices: map[uintptr][]string{}}
	return b.shape(part{may: []any{document}, must: []any{document}})
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
	looks    int
	whole    *Shape // whole all the way down
	// strings and choices are what mayBeString and choicesOf have found: many references may lead to one node.
	strings map[uintptr]bool
	choices map[uintptr][]string
}

// part is a value and the nodes that speak of it: all of must apply to it, those of may in some branch, for some names
// or to one of several items. must is part of may.
type part struct{ may, must []any }

func (b *shaper) shape(p part) *Shape {
	if len(b.known) >= maxShapes || b.looks > maxLooks {
		return b.whole
	}
	all, certain := b.close(p.may, true)
	must, _ := b.close(p.must, false)
	switch {
	case !certain:
		return b.whole
	case len(all) == 0:
		return nil
	}
	key := keyOf(all) + keyOf(must)
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
	s.whole = s.whole || slices.ContainsFunc(p.may, func(n any) bool { return !b.mayBeString(n) })
	for _, n := range p.must {
		if s.choices == nil {
			s.choices = b.choicesOf(n)
		}
	}
	b.inner(s, all, must)
	return s
}

// inner finds the shapes of a value's parts.
func (b *shaper) inner(s *Shape, all, must []map[string]any) {
	s.members = map[string]*Shape{}
	first := 0
	for _, n := range all {
		for name := range object(n["properties"]) {
			s.members[name] = nil
		}
		list, _ := n["items"].([]any)
		first = max(first, len(list))
	}
	parts := func(of func(map[string]any) part) *Shape {
		var p part
		for _, n := range all {
			p.may = append(p.may, of(n).may...)
		}
		for _, n := range must {
			p.must = append(p.must, of(n).must...)
		}
		b.looks += len(all) + len(must)
		return b.shape(p)
	}
	for _, name := range slices.Sorted(maps.Keys(s.members)) {
		s.members[name] = parts(func(n map[string]any) part { return memberOf(n, name) })
	}
	s.other = parts(otherOf)
	s.items = make([]*Shape, first)
	for i := range s.items {
		s.items[i] = parts(func(n map[string]any) part { return itemOf(n, i) })
	}
	s.rest = parts(func(n map[string]any) part { return itemOf(n, first) })
}

func memberOf(n map[string]any, name string) part {
	if p, ok := object(n["properties"])[name]; ok {
		return part{may: append(values(n["patternProperties"]), p), must: []any{p}}
	}
	return otherOf(n)
}

// otherOf: which names a pattern takes, and so takes from additionalProperties, is not looked at.
func otherOf(n map[string]any) part {
	patterns := values(n["patternProperties"])
	if additional := n["additionalProperties"]; patterns == nil {
		return part{may: []any{additional}, must: []any{additional}}
	}
	return part{may: append(patterns, n["additionalProperties"])}
}

// itemOf: what contains demands is demanded of one item, nobody knows of which.
func itemOf(n map[string]any, i int) part {
	node := n["items"]
	if list, ok := node.([]any); ok && i < len(list) {
		node = list[i]
	} else if ok {
		node = n["additionalItems"]
	}
	return part{may: []any{n["contains"], node}, must: []any{node}}
}

// close adds what applies to the same value by reference or, if asked, in some branch. certain is false when a
// reference leads nowhere that is known.
func (b *shaper) close(nodes []any, branches bool) (all []map[string]any, certain bool) {
	seen := map[uintptr]bool{}
	for len(nodes) > 0 {
		n := object(nodes[0])
		nodes = nodes[1:]
		if n == nil || seen[identity(n)] {
			continue
		}
		seen[identity(n)] = true
		b.looks++
		if _, ok := n["$ref"]; ok {
			target, ok := b.target(n)
			if !ok {
				return nil, false
			}
			nodes = append(nodes, target)
		} else {
			all = append(all, n)
		}
		list, _ := n["allOf"].([]any)
		nodes = append(nodes, list...)
		if !branches {
			continue
		}
		for _, word := range []string{"anyOf", "oneOf"} {
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

// mayBeString reports whether the node, and what it refers to, takes strings: what is no string in the end may
// be written as one and turned into a number.
func (b *shaper) mayBeString(node any) bool {
	n := object(node)
	if n == nil {
		return true
	}
	may, known := b.strings[identity(n)]
	if !known {
		b.strings[identity(n)] = true // what refers to itself says nothing more
		may = b.takesStrings(n)
		b.strings[identity(n)] = may
	}
	return may
}

func (b *shaper) takesStrings(n map[string]any) bool {
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
	if target, ok := b.target(n); ok && !b.mayBeString(target) {
		return false
	}
	all, _ := n["allOf"].([]any)
	for _, inner := range all {
		if !b.mayBeString(inner) {
			return false
		}
	}
	for _, word := range []string{"anyOf", "oneOf"} {
		if list, ok := n[word].([]any); ok && !slices.ContainsFunc(list, b.mayBeString) {
			return false
		}
	}
	return true
}

// choicesOf returns the strings among which the node, or what it refers to, leaves the choice; nil: it does not.
func (b *shaper) choicesOf(node any) []string {
	n := object(node)
	if n == nil {
		return nil
	}
	choices, known := b.choices[identity(n)]
	if !known {
		b.choices[identity(n)] = nil
		choices = b.choicesIn(n)
		b.choices[identity(n)] = choices
	}
	return choices
}

func (b *shaper) choicesIn(n map[string]any) []string {
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
		if choices := b.choicesOf(inner); choices != nil {
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
