package schema

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/xeipuuv/gojsonschema"
)

// translation says a document that lint found good with the keywords that gojsonschema checks, so that it and the walk
// are given the same. Each change keeps the meaning:
//
//	prefixItems, items beside it       items, additionalItems
//	dependentRequired                  dependencies, in allOf
//	dependentSchemas                   dependencies, in allOf
//	$ref beside what is checked        $ref, in allOf
//	nullable                           null among the types
//	unevaluatedProperties              additionalProperties, where no other schema holds for the same value
//	unevaluatedItems                   additionalItems or items, likewise
//	$id of the document                nothing: all references are within it
//	id, from draft 6 on                nothing: there it is an annotation, which gojsonschema follows all the same
type translation struct {
	dialect dialect
	// isSplit: patterns that only an expression understands are said with several.
	isSplit bool
	// moves are by the pointer of a keyword: where its value is now, from the keyword's schema on.
	moves map[string]string
	// references are the schemas that may have one.
	references []map[string]any
}

// translate changes the document, in place, and returns where the places are that local ids name.
func (l *linter) translate(document any, isSplit bool) (anchors map[string]string) {
	t := &translation{dialect: l.dialect, isSplit: isSplit, moves: map[string]string{}}
	parts := map[string]map[string]any{}
	for pointer := range l.seen {
		node, _ := Lookup(document, pointer)
		if members, ok := node.(map[string]any); ok {
			parts[pointer] = members
		}
	}
	// A part that moves is the same map afterwards, so they may be taken in any order.
	for pointer, members := range parts {
		t.part(pointer, members)
	}
	for _, members := range t.references {
		t.refer(members)
	}
	anchors = map[string]string{}
	for name, pointer := range l.anchors {
		anchors[name] = t.moved(pointer)
	}
	return anchors
}

func (t *translation) part(pointer string, n map[string]any) {
	if word := t.dialect.idWord(); pointer == "" && !isAnchor(n[word]) {
		delete(n, word)
	}
	if t.dialect.draft != gojsonschema.Draft4 {
		delete(n, "id")
	}
	if text, ok := n["pattern"].(string); ok && t.isSplit {
		split(n, text)
	}
	if t.dialect.isOpen() {
		t.later(pointer, n)
	}
	reference := n
	if ref, ok := n["$ref"]; ok && t.dialect.isOpen() && hasChecked(n) {
		reference = map[string]any{"$ref": ref}
		also(n, reference)
		delete(n, "$ref")
	}
	t.references = append(t.references, reference)
}

func (t *translation) later(pointer string, n map[string]any) {
	t.items(pointer, n)
	t.rename(pointer, n, "unevaluatedProperties", "additionalProperties")
	for _, word := range []string{"dependentRequired", "dependentSchemas"} {
		if value, ok := n[word]; ok {
			index := also(n, map[string]any{"dependencies": value})
			t.moves[AppendPointer(pointer, word)] = "/allOf/" + strconv.Itoa(index) + "/dependencies"
			delete(n, word)
		}
	}
	if n["nullable"] == true {
		n["type"] = orNull(n["type"])
	}
}

func (t *translation) items(pointer string, n map[string]any) {
	rest := "items"
	if first, ok := n["prefixItems"]; ok {
		rest = "additionalItems"
		t.rename(pointer, n, "items", rest)
		t.moves[AppendPointer(pointer, "prefixItems")] = "/items"
		n["items"] = first
		delete(n, "prefixItems")
	}
	t.rename(pointer, n, "unevaluatedItems", rest)
}

// rename gives the keyword's value to another one. If that has one, nothing is left to the keyword.
func (t *translation) rename(pointer string, n map[string]any, from, to string) {
	value, ok := n[from]
	if !ok {
		return
	}
	delete(n, from)
	if _, has := n[to]; !has {
		n[to] = value
		t.moves[AppendPointer(pointer, from)] = "/" + to
	}
}

// refer leads a reference to where its target is.
func (t *translation) refer(n map[string]any) {
	ref, _ := n["$ref"].(string)
	if !strings.HasPrefix(ref, "#/") {
		return
	}
	from, err := target(ref, nil)
	if err != nil {
		return
	}
	if to := t.moved(from); to != from {
		n["$ref"] = (&url.URL{Fragment: to}).String()
	}
}

func (t *translation) moved(pointer string) (to string) {
	tokens, _ := SplitPointer(pointer)
	from := ""
	for _, token := range tokens {
		if from = AppendPointer(from, token); t.moves[from] != "" {
			to += t.moves[from]
		} else {
			to = AppendPointer(to, token)
		}
	}
	return to
}

// also adds a schema that the same value must satisfy, and returns its place.
func also(n map[string]any, part any) (index int) {
	all, _ := n["allOf"].([]any)
	n["allOf"] = append(all, part)
	return len(all)
}

func orNull(types any) []any {
	list, ok := types.([]any)
	if !ok {
		list = []any{types}
	}
	return append(list, "null")
}

// isAnchor: the id names a place within the document.
func isAnchor(id any) bool {
	text, _ := id.(string)
	return strings.HasPrefix(text, "#") && len(text) > 1
}

func hasChecked(n map[string]any) bool {
	for name := range n {
		if _, is := checked(name); is {
			return true
		}
	}
	return false
}
