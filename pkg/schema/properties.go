package schema

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// AnyItem stands in the path of a Property for the items of an array, whichever.
const AnyItem = "*"

// Property is one that a schema names.
type Property struct {
	// Path leads to it in a value: names, and AnyItem.
	Path []string
	// At leads to its schema in the document as it is written.
	At string
	// Required: the object that it is of must have it. Described: it has a description.
	Required, Described bool
	// Choices are the values that it may have, where they are named; nil: they are not.
	Choices []any
}

// Name is the last of the path.
func (p Property) Name() string { return p.Path[len(p.Path)-1] }

// Pointer leads to the property in a value, to the first item where there are items.
func (p Property) Pointer() string { return PointerOf(p.Path) }

// PointerOf leads to the first of what a path leads to.
func PointerOf(path []string) string {
	tokens := slices.Clone(path)
	for i, token := range tokens {
		if token == AnyItem {
			tokens[i] = "0"
		}
	}
	return AppendPointer("", tokens...)
}

// Properties returns the properties that the schema names, at any depth and in any of its forms, once each: those of an
// object by name, each before its own. What refers to itself is followed once,
// and of a schema without end the rest is left out.
func (s *Schema) Properties() []Property {
	document, err := Decode(s.source)
	if err != nil {
		return nil // it was compiled, so it can be read
	}
	c := propertyCollector{document: document, seen: map[string]int{}, visited: map[visit]bool{}}
	c.collect(document, "", nil, false, map[string]bool{})
	return c.found
}

type propertyCollector struct {
	document any
	found    []Property
	// seen are the indices in found, by path.
	seen    map[string]int
	visited map[visit]bool
}

// visit is a part of the document on the way to a part of a value. Definitions that refer to others twice have more of
// them than can be walked, so they are bounded.
type visit struct {
	at, path    string
	alternative bool
}

const maxVisits = 20_000

// collect walks a part of the document that holds for what path leads to. alternative: other parts may hold instead.
func (c *propertyCollector) collect(part any, at string, path []string, alternative bool, via map[string]bool) {
	members, isObject := part.(map[string]any)
	if !isObject || len(c.visited) >= maxVisits {
		return
	}
	here := visit{at, AppendPointer("", path...), alternative}
	if c.visited[here] {
		return
	}
	c.visited[here] = true
	if target, ref := localReference(members); ref != "" && !via[ref] {
		inner := maps.Clone(via)
		inner[ref] = true
		if referred, found := Lookup(c.document, target); found {
			c.collect(referred, target, path, alternative, inner)
		}
	}
	properties, _ := members["properties"].(map[string]any)
	required, _ := members["required"].([]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		inner := AppendPointer(at, "properties", name)
		below := append(slices.Clone(path), name)
		c.add(Property{
			Path: below, At: inner, Required: !alternative && slices.Contains(required, any(name)),
			Described: isDescribed(properties[name]), Choices: c.choicesOf(properties[name], 0),
		})
		c.collect(properties[name], inner, below, alternative, via)
	}
	items := append(slices.Clone(path), AnyItem)
	c.collectItems(members["items"], AppendPointer(at, "items"), items, via)
	c.collectItems(members["prefixItems"], AppendPointer(at, "prefixItems"), items, via)
	for _, keyword := range []string{"allOf", "anyOf", "oneOf"} {
		forms, _ := members[keyword].([]any)
		for i, form := range forms {
			c.collect(form, AppendPointer(at, keyword, strconv.Itoa(i)), path, alternative || keyword != "allOf", via)
		}
	}
	for _, keyword := range []string{"then", "else"} {
		c.collect(members[keyword], AppendPointer(at, keyword), path, true, via)
	}
}

func (c *propertyCollector) collectItems(items any, at string, path []string, via map[string]bool) {
	list, isList := items.([]any)
	if !isList {
		c.collect(items, at, path, false, via)
	}
	for i, item := range list {
		c.collect(item, AppendPointer(at, strconv.Itoa(i)), path, false, via)
	}
}

// add joins what several forms say of one property.
func (c *propertyCollector) add(p Property) {
	key := AppendPointer("", p.Path...)
	i, known := c.seen[key]
	if !known {
		c.seen[key] = len(c.found)
		c.found = append(c.found, p)
		return
	}
	before := &c.found[i]
	before.Required = before.Required || p.Required
	before.Described = before.Described || p.Described
	if before.Choices == nil || p.Choices == nil {
		before.Choices = nil // one of the forms takes anything
		return
	}
	before.Choices = append(slices.Clip(before.Choices), p.Choices...)
}

// localReference is where a part of a document refers to by a pointer; ref is "" when it does not.
func localReference(members map[string]any) (pointer, ref string) {
	ref, _ = members["$ref"].(string)
	pointer, isLocal := strings.CutPrefix(ref, "#")
	if !isLocal || pointer != "" && !strings.HasPrefix(pointer, "/") {
		return "", ""
	}
	return pointer, ref
}

func isDescribed(part any) bool {
	members, _ := part.(map[string]any)
	text, _ := members["description"].(string)
	return text != ""
}

// maxReferences bounds how far the choices of a property are looked for.
const maxReferences = 16

// choicesOf are the values that a part of the document names; nil: it takes others.
func (c *propertyCollector) choicesOf(part any, depth int) (all []any) {
	members, _ := part.(map[string]any)
	if target, ref := localReference(members); ref != "" && depth < maxReferences {
		part, _ = Lookup(c.document, target)
		return c.choicesOf(part, depth+1)
	}
	if fixed, ok := members["const"]; ok {
		return []any{fixed}
	}
	if members["type"] == "null" {
		return []any{nil}
	}
	for _, keyword := range []string{"anyOf", "oneOf"} {
		forms, _ := members[keyword].([]any)
		for _, form := range forms {
			of := c.choicesOf(form, depth+1)
			if of == nil || depth > maxReferences {
				return nil
			}
			all = append(all, of...)
		}
		if all != nil {
			return all
		}
	}
	all, _ = members["enum"].([]any)
	return all
}
