package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/xeipuuv/gojsonschema"
)

// Strict is the schema for a provider's strict mode, in which a model can not but answer by it. OpenAI publishes what
// may stand in such a schema (Structured outputs, "Supported schemas", as of 2026-02; other providers follow it): each
// object names all its properties as required and no others, so an optional one takes null, which is to be dropped again;
// there is no allOf, oneOf, not, if, tuple, or object of any names; depth, properties and choices are bounded.
//
// An answer by it satisfies this schema when those nulls are dropped, but for bounds that strict mode does not know: these
// are told in the descriptions. NeedsDrop reports whether it has such nulls. The error says why there is no such schema.
type Strict struct {
	Text      []byte
	NeedsDrop bool
	// Shown is what the model sees of Text, and what is counted: OpenAI leaves out what every strict schema says (found
	// in recorded usage, see pkg/tokens/README.md).
	Shown []byte
}

// Strict returns the schema's strict form. It is made once.
func (s *Schema) Strict() (Strict, error) { return s.strict() }

func strictOf(source []byte, d dialect) (Strict, error) {
	if d.draft == gojsonschema.Draft4 {
		return Strict{}, &CompileError{"/$schema", "draft 4 has no strict form"}
	}
	document, isObject := readOrdered(source).(*ordered)
	if !isObject {
		return Strict{}, &CompileError{"", "a schema that is true or false has no strict form"}
	}
	st := &stricter{document: document, nullable: map[*ordered]bool{}}
	root := st.root()
	if st.err == nil && st.added && st.mixed != "" {
		st.refuse(st.mixed, "forms that no property tells apart have no strict form: it would not be known which nulls to drop")
	}
	if st.err == nil {
		st.measure(root)
	}
	if st.err != nil {
		return Strict{}, st.err
	}
	return Strict{Text: appendOrdered(nil, root), NeedsDrop: st.added, Shown: appendOrdered(nil, shown(root))}, nil
}

// shown is a strict schema without what all of them say.
func shown(node any) any {
	switch v := node.(type) {
	case []any: // of anyOf
		forms := make([]any, len(v))
		for i, form := range v {
			forms[i] = shown(form)
		}
		return forms
	case *ordered:
		rest := &ordered{}
		for _, m := range v.members {
			switch m.name {
			case "$schema", "required", "additionalProperties":
				continue
			case "properties", "$defs", "definitions":
				named := &ordered{}
				for _, inner := range v.object(m.name).all() {
					named.set(inner.name, shown(inner.value))
				}
				rest.set(m.name, named)
			case "items", "anyOf":
				rest.set(m.name, shown(m.value))
			default:
				rest.set(m.name, m.value)
			}
		}
		return rest
	}
	return node
}

// stricter makes the strict form of a document, of which it changes nothing.
type stricter struct {
	document *ordered
	// added: an optional property takes null. mixed is the place of forms that no property tells apart.
	added bool
	mixed string
	// nullable is which of the schemas take null.
	nullable map[*ordered]bool
	// err is the first reason against a strict form.
	err error
}

func (st *stricter) refuse(pointer, format string, args ...any) {
	if st.err == nil {
		st.err = &CompileError{pointer, fmt.Sprintf(format, args...)}
	}
}

// root is an object, with the definitions beside it.
func (st *stricter) root() *ordered {
	if st.document.has("$ref") {
		st.reference("/$ref", st.document, &ordered{})
	}
	from, _ := st.resolve(st.document)
	root := st.schema("", from)
	if root == nil || root.text("type") != "object" {
		st.refuse("", "only an object at the top has a strict form")
		return root
	}
	for _, word := range []string{"$defs", "definitions"} {
		defs := st.document.object(word)
		if defs == nil {
			continue
		}
		strict := &ordered{}
		for _, m := range defs.members {
			strict.set(m.name, st.schema(AppendPointer("", word, m.name), m.value))
		}
		root.set(word, strict)
	}
	return root
}

// resolve follows references, to the schema that is meant. ok: there is one.
func (st *stricter) resolve(node any) (n *ordered, ok bool) {
	n, ok = node.(*ordered)
	for ok && n.text("$ref") != "" {
		pointer, err := target(n.text("$ref"), nil)
		if err != nil {
			return nil, false
		}
		n, ok = lookupOrdered(st.document, pointer).(*ordered)
	}
	return n, ok
}

// schema is the strict form of a sub-schema.
func (st *stricter) schema(pointer string, node any) *ordered {
	from, ok := node.(*ordered)
	if !ok {
		st.refuse(pointer, "a schema that is %s has no strict form", Render(node))
		return nil
	}
	if inner, is := nullableParts(from); is {
		to := from.only("title", "description")
		to.set("anyOf", []any{st.schema(pointer, inner), null()})
		return to
	}
	to := &ordered{}
	var notes []string
	for _, m := range from.members {
		if note := st.keyword(AppendPointer(pointer, m.name), from, m, to); note != "" {
			notes = append(notes, note)
		}
	}
	if st.err != nil {
		return nil
	}
	st.typed(pointer, from, to)
	if to.text("type") == "object" {
		st.closed(pointer, from, to)
	}
	if to.has("$ref") && (len(to.members) > 1 || notes != nil) {
		// Nothing may stand beside $ref.
		to.set("anyOf", []any{&ordered{[]orderedMember{{"$ref", to.get("$ref")}}}})
		to.remove("$ref")
	}
	if notes != nil {
		to.set("description", strings.TrimSpace(to.text("description")+" ("+strings.Join(notes, ", ")+")"))
	}
	return to
}

// keyword gives to what strict mode takes of a keyword. note is one that it does not know.
func (st *stricter) keyword(at string, from *ordered, m orderedMember, to *ordered) (note string) {
	switch m.name {
	case "title", "description", "type", "enum", "const", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
		"minItems", "maxItems":
		to.set(m.name, m.value)
	case "pattern":
		// Providers know no look-around.
		if e, err := compile(from.text("pattern")); err != nil || len(e.all)+len(e.none) > 1 {
			return noteOf(m)
		}
		to.set(m.name, m.value)
	case "format":
		if !slices.Contains([]string{"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}, from.text("format")) {
			return noteOf(m)
		}
		to.set(m.name, m.value)
	case "minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties":
		return noteOf(m)
	case "items":
		if _, isTuple := m.value.([]any); isTuple {
			st.refuse(at, "a tuple has no strict form")
			return ""
		}
		to.set(m.name, st.schema(at, m.value))
	case "anyOf", "oneOf", "allOf":
		st.forms(at, from, m, to)
	case "$ref":
		st.reference(at, from, to)
	case "properties", "required", "additionalProperties", "$defs", "definitions", "nullable", "unevaluatedProperties": // see closed, root and typed
	default:
		if isChecked(m.name) {
			st.refuse(at, "%s has no strict form", m.name)
		}
	}
	return ""
}

func isChecked(name string) bool {
	_, is := checked(name)
	_, isLater := ofLater(name)
	return is || isLater
}

func noteOf(m orderedMember) string { return m.name + ": " + string(appendOrdered(nil, m.value)) }

func (st *stricter) reference(at string, from, to *ordered) {
	pointer, err := target(from.text("$ref"), nil)
	tokens, _ := SplitPointer(pointer)
	isDefinition := len(tokens) == 2 && (tokens[0] == "$defs" || tokens[0] == "definitions")
	switch {
	case err != nil || pointer != "" && !isDefinition:
		st.refuse(at, "a reference to elsewhere than # or a definition has no strict form")
	case pointer == "" && st.document.has("$ref"):
		st.refuse(at, "a reference to a document that refers has no strict form")
	case slices.ContainsFunc(from.members, func(m orderedMember) bool { return isChecked(m.name) }):
		st.refuse(at, "what is checked beside $ref has no strict form")
	default:
		to.set("$ref", from.get("$ref"))
	}
}

// forms are told by anyOf: of oneOf the check after the answer knows that it is one.
func (st *stricter) forms(at string, from *ordered, m orderedMember, to *ordered) {
	list, _ := m.value.([]any)
	if m.name == "allOf" && len(list) > 1 || slices.ContainsFunc(from.members, func(o orderedMember) bool { return o.name != m.name && isChecked(o.name) }) {
		st.refuse(at, "%s with something else that is checked of the same value has no strict form", m.name)
		return
	}
	strict := make([]any, len(list))
	for i, form := range list {
		strict[i] = st.schema(AppendPointer(at, fmt.Sprint(i)), form)
	}
	to.set("anyOf", strict)
	if st.isTold(list) {
		return
	}
	if st.mixed = at; st.beginAlike(list) {
		st.refuse(at, "forms that no property tells apart, and that begin with the same one, have no strict form")
	}
}

// typed gives a type to what has none, and nullable its meaning.
func (st *stricter) typed(pointer string, from, to *ordered) {
	if to.has("anyOf") || to.has("$ref") {
		return
	}
	types := typesOf(to)
	switch {
	case len(types) > 0:
	case from.has("properties"):
		types = []string{"object"}
	case from.has("items"):
		types = []string{"array"}
	default:
		st.refuse(pointer, "a schema without a type has no strict form")
		return
	}
	if from.get("nullable") == true && !slices.Contains(types, "null") {
		types = append(types, "null")
	}
	st.setTypes(pointer, to, types)
	if slices.Contains(types, "array") && !from.has("items") {
		st.refuse(pointer, "an array of any items has no strict form")
	}
}

// setTypes names the types: a list of them only for a scalar or null, other alternatives are forms.
func (st *stricter) setTypes(pointer string, to *ordered, types []string) {
	named := slices.DeleteFunc(slices.Clone(types), func(name string) bool { return name == "null" })
	switch {
	case len(types) == 1:
		to.set("type", types[0])
	case len(named) == 1 && isScalar(named[0]), to.has("enum"), to.has("const"):
		to.set("type", anyOf(types))
	default:
		if slices.ContainsFunc(to.members, func(m orderedMember) bool { return !slices.Contains([]string{"type", "title", "description"}, m.name) }) ||
			slices.ContainsFunc(named, func(name string) bool { return !isScalar(name) }) {
			st.refuse(pointer, "several types with bounds have no strict form")
			return
		}
		var forms []any
		for _, name := range types {
			forms = append(forms, &ordered{[]orderedMember{{"type", name}}})
		}
		to.remove("type")
		to.set("anyOf", forms)
	}
}

// nullableParts is what an object or an array is that may be null as well.
func nullableParts(n *ordered) (inner *ordered, is bool) {
	types := slices.DeleteFunc(typesOf(n), func(name string) bool { return name == "null" })
	if _, isList := n.get("type").([]any); !isList && n.get("nullable") != true || len(types) != 1 || isScalar(types[0]) {
		return nil, false
	}
	inner = &ordered{slices.Clone(n.members)}
	inner.remove("nullable", "title", "description")
	inner.set("type", types[0])
	return inner, true
}

// typesOf are the types that are named, or else those of the choices.
func typesOf(n *ordered) (types []string) {
	switch t := n.get("type").(type) {
	case string:
		return []string{t}
	case []any:
		return textsOf(t)
	}
	values, _ := n.get("enum").([]any)
	if n.has("const") {
		values = append(values, n.get("const"))
	}
	for _, value := range values {
		if name := typeName(value); !slices.Contains(types, name) {
			types = append(types, name)
		}
	}
	return types
}

func typeName(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

func isScalar(name string) bool { return name != "object" && name != "array" }

func null() *ordered { return &ordered{[]orderedMember{{"type", "null"}}} }

func anyOf(texts []string) []any {
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return list
}
