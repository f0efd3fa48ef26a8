package schema

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// closed makes an object of all its properties and no others.
func (st *stricter) closed(pointer string, from, to *ordered) {
	properties := from.object("properties")
	isOpen := properties == nil && from.get("additionalProperties") != false
	for _, word := range []string{"additionalProperties", "unevaluatedProperties"} {
		isOpen = isOpen || from.has(word) && from.get(word) != false
	}
	if isOpen {
		st.refuse(pointer, "an object of any names has no strict form")
		return
	}
	required, _ := from.get("required").([]any)
	names := textsOf(required)
	strict, all := &ordered{}, []any{}
	if properties != nil {
		for _, m := range properties.members {
			property := st.schema(AppendPointer(pointer, "properties", m.name), m.value)
			if st.err != nil {
				return
			}
			if !slices.Contains(names, m.name) && !st.takesNull(m.value) {
				property = optional(property)
				st.added = true
			}
			strict.set(m.name, property)
			all = append(all, m.name)
		}
	}
	for _, name := range names {
		if !strict.has(name) {
			st.refuse(AppendPointer(pointer, "required"), "a required property %s without a schema has no strict form", Render(name))
		}
	}
	to.set("properties", strict)
	to.set("required", all)
	to.set("additionalProperties", false)
}

// optional adds null to what a property may be.
func optional(n *ordered) *ordered {
	choices, listed := n.get("enum").([]any)
	if listed {
		n.set("enum", append(slices.Clone(choices), nil))
	}
	switch types := n.get("type").(type) {
	case string:
		if isScalar(types) && !n.has("const") {
			n.set("type", []any{types, "null"})
			return n
		}
	case []any:
		if !n.has("const") {
			n.set("type", append(slices.Clone(types), "null"))
			return n
		}
	}
	if forms, ok := n.get("anyOf").([]any); ok {
		n.set("anyOf", append(slices.Clone(forms), null()))
		return n
	}
	return &ordered{[]orderedMember{{"anyOf", []any{n, null()}}}}
}

// takesNull reports whether the schema, as it is written, takes null.
func (st *stricter) takesNull(node any) bool {
	n, ok := st.resolve(node)
	if !ok {
		return false
	}
	if takes, met := st.nullable[n]; met {
		return takes
	}
	st.nullable[n] = false // what is met again says nothing new
	takes := n.get("nullable") == true || slices.Contains(typesOf(n), "null")
	if choices, listed := n.get("enum").([]any); listed {
		takes = slices.Contains(choices, nil)
	}
	for _, word := range []string{"anyOf", "oneOf", "allOf"} {
		forms, _ := n.get(word).([]any)
		takes = takes || slices.ContainsFunc(forms, st.takesNull)
	}
	st.nullable[n] = takes
	return takes
}

// isTold reports whether the type, or a property of which each form requires choices of its own, tells which of the
// forms a value has.
func (st *stricter) isTold(forms []any) bool {
	var objects []*ordered
	arrays, untyped := 0, 0
	for _, form := range forms {
		n, ok := st.resolve(form)
		switch {
		case !ok:
			return false
		case n.has("properties"):
			objects = append(objects, n)
		case !n.has("type"):
			untyped++
		case slices.Contains(typesOf(n), "array"):
			arrays++
		}
	}
	if len(forms) == 1 || len(objects)+arrays == 0 {
		return true
	}
	if arrays > 1 || untyped > 0 {
		return false
	}
	return len(objects) < 2 || slices.ContainsFunc(objects[0].object("properties").all(), func(m orderedMember) bool { return st.tells(objects, m.name) })
}

// beginAlike reports whether two of the forms have the same first property, of which OpenAI says that it must not be.
func (st *stricter) beginAlike(forms []any) bool {
	met := map[string]bool{}
	for _, form := range forms {
		n, _ := st.resolve(form)
		if properties := n.object("properties").all(); len(properties) > 0 {
			if met[properties[0].name] {
				return true
			}
			met[properties[0].name] = true
		}
	}
	return false
}

// tells reports whether each of the objects requires the property, with choices that no other has.
func (st *stricter) tells(objects []*ordered, name string) bool {
	met := map[string]bool{}
	for _, n := range objects {
		required, _ := n.get("required").([]any)
		property, ok := st.resolve(n.object("properties").get(name))
		if !ok || !slices.Contains(required, any(name)) {
			return false
		}
		choices, _ := property.get("enum").([]any)
		if property.has("const") {
			choices = []any{property.get("const")}
		}
		if len(choices) == 0 {
			return false
		}
		for _, choice := range choices {
			key := string(appendOrdered(nil, choice))
			if met[key] {
				return false
			}
			met[key] = true
		}
	}
	return true
}

// The limits of a strict schema, as OpenAI publishes them.
const (
	maxStrictProperties = 5000
	maxStrictDepth      = 10
	maxStrictCharacters = 120_000
	maxStrictChoices    = 1000
	// A list of more than so many texts has at most so many characters.
	manyChoices        = 250
	maxManyCharacters  = 15_000
	noStrictAboveLimit = "%d %s are more than the %d of strict mode"
)

// measured is what of a strict schema counts.
type measured struct {
	st                              *stricter
	properties, characters, choices int
	root                            *ordered
	// deep is how deep a schema nests, and 0 while it is looked at.
	deep map[*ordered]int
}

// measure refuses what is larger than strict mode takes.
func (st *stricter) measure(root *ordered) {
	m := &measured{st: st, root: root, deep: map[*ordered]int{}}
	m.count(root)
	for _, row := range []struct {
		count int
		noun  string
		most  int
	}{
		{m.properties, "properties", maxStrictProperties},
		{m.characters, "characters of names and choices", maxStrictCharacters},
		{m.choices, "choices", maxStrictChoices},
		{m.depth(root), "levels", maxStrictDepth},
	} {
		if row.count > row.most {
			st.refuse("", noStrictAboveLimit, row.count, row.noun, row.most)
		}
	}
}

func (m *measured) count(value any) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			m.count(item)
		}
	case *ordered:
		for _, word := range []string{"properties", "$defs", "definitions"} {
			for _, member := range v.object(word).all() {
				m.characters += utf8.RuneCountInString(member.name)
				if word == "properties" {
					m.properties++
				}
				m.count(member.value)
			}
		}
		m.listed(v)
		m.count(v.get("items"))
		m.count(v.get("anyOf"))
	}
}

func (m *measured) listed(n *ordered) {
	choices, _ := n.get("enum").([]any)
	m.choices += len(choices)
	size := 0
	for _, choice := range choices {
		size += utf8.RuneCount(appendOrdered(nil, choice))
	}
	if len(choices) > manyChoices && size > maxManyCharacters {
		m.st.refuse("", noStrictAboveLimit, size, fmt.Sprintf("characters of %d choices", len(choices)), maxManyCharacters)
	}
	if n.has("const") {
		size += utf8.RuneCount(appendOrdered(nil, n.get("const")))
	}
	m.characters += size
}

// depth is how deep objects and arrays nest. What refers to itself counts once.
func (m *measured) depth(value any) (deepest int) {
	if list, ok := value.([]any); ok {
		for _, item := range list {
			deepest = max(deepest, m.depth(item))
		}
		return deepest
	}
	n, ok := value.(*ordered)
	if ref := n.text("$ref"); ok && ref != "" {
		pointer, _ := target(ref, nil)
		n, ok = lookupOrdered(m.root, pointer).(*ordered)
	}
	if !ok {
		return 0
	}
	if known, met := m.deep[n]; met {
		return known
	}
	m.deep[n] = 0
	for _, member := range n.object("properties").all() {
		deepest = max(deepest, m.depth(member.value))
	}
	deepest = max(deepest, m.depth(n.get("items")), m.depth(n.get("anyOf")))
	if n.has("properties") || n.has("items") {
		deepest++
	}
	m.deep[n] = deepest
	return deepest
}
