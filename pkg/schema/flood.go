package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Flood returns the first of a value's faults when it has more than limit of them that anybody sees: values of a wrong
// type, missing properties, unknown ones; nil: it may satisfy the schema, or not. It follows properties and items
// alone, whose demands nothing can lift, and takes a small part of what Validate takes for each fault. Faults that
// spared takes, given the value and whether its property is unknown, are not counted.
func (s *Schema) Flood(value any, limit int, spared func(value any, unknown bool) bool) []Violation {
	f := flood{document: s.document, limit: limit, spared: spared}
	f.check(s.document, value, nil)
	if f.faults <= limit {
		return nil
	}
	return append(f.first, Violation{Message: fmt.Sprintf("and more than %d more", limit-len(f.first)), Rule: "more"})
}

type flood struct {
	document      any
	limit, faults int
	spared        func(value any, unknown bool) bool
	first         []Violation
}

// place leads to a value. Its pointer is made only when it is shown.
type place struct {
	parent *place
	token  string
	index  int
}

func (p *place) pointer() string {
	switch {
	case p == nil:
		return ""
	case p.token == "":
		return AppendPointer(p.parent.pointer(), strconv.Itoa(p.index))
	}
	return AppendPointer(p.parent.pointer(), p.token[1:])
}

// named leads to a member. The token has a sign before it, for a name may be empty.
func (p *place) named(name string) *place { return &place{parent: p, token: "/" + name} }

func (f *flood) fault(at *place, rule, message, got string) {
	if f.faults++; len(f.first) < MaxViolations {
		f.first = append(f.first, Violation{Pointer: at.pointer(), Message: message, Got: got, Rule: rule})
	}
}

func (f *flood) check(node, value any, at *place) {
	demands := f.demands(node)
	if demands == nil || f.faults > f.limit {
		return
	}
	if types := typesOf(demands["type"]); types != nil && !slices.ContainsFunc(types, func(name string) bool { return isOfType(value, name) }) {
		if !f.spared(value, false) {
			f.fault(at, "type", "must be "+typeNames(strings.Join(types, ",")), Render(value))
		}
		return
	}
	switch v := value.(type) {
	case []any:
		for i := 0; i < len(v) && f.faults <= f.limit; i++ {
			f.check(demands["items"], v[i], &place{parent: at, index: i})
		}
	case map[string]any:
		f.members(demands, v, at)
	}
}

func (f *flood) members(demands, members map[string]any, at *place) {
	required, _ := demands["required"].([]any)
	for _, name := range required {
		if name, ok := name.(string); ok {
			if _, has := members[name]; !has {
				f.fault(at.named(name), "required", "is required, but missing", "")
			}
		}
	}
	properties, _ := demands["properties"].(map[string]any)
	_, byPattern := demands["patternProperties"]
	closed := demands["additionalProperties"] == false && !byPattern
	for _, name := range slices.Sorted(maps.Keys(members)) {
		node, known := properties[name]
		switch value := members[name]; {
		case f.faults > f.limit:
			return
		case known:
			f.check(node, value, at.named(name))
		case closed && !f.spared(value, true):
			f.fault(at.named(name), "additionalProperties", "is not a known property: leave it out", Render(value))
		}
	}
}

// demands follows the references of a node, which are by pointer and come to an end, for Compile refuses others; nil: it demands nothing that can be told here.
func (f *flood) demands(node any) map[string]any {
	demands, _ := node.(map[string]any)
	for ref, refers := demands["$ref"].(string); refers; ref, refers = demands["$ref"].(string) {
		target, found := Lookup(f.document, strings.TrimPrefix(ref, "#"))
		if !found {
			return nil
		}
		demands, _ = target.(map[string]any)
	}
	return demands
}

func typesOf(demand any) []string {
	switch d := demand.(type) {
	case string:
		return []string{d}
	case []any:
		var names []string
		for _, name := range d {
			name, _ := name.(string)
			names = append(names, name)
		}
		return names
	}
	return nil
}

// isOfType takes any number for an integer: which is one, the schema library knows.
func isOfType(value any, name string) bool {
	switch value.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case json.Number:
		return name == "number" || name == "integer"
	case []any:
		return name == "array"
	}
	return name == "object"
}
