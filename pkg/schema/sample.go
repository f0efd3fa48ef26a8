package schema

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Fill says which sample to make.
type Fill int

// The samples: with every property, with the required ones only, with null wherever null is allowed.
const (
	Everything Fill = iota
	RequiredOnly
	Nulls
)

// Bounds of samples, for schemas that refer to themselves: each of several such properties would double them, with each
// level. What comes when maxSampleSteps are taken has the required properties alone, and soon nothing.
const (
	maxSampleDepth = 16
	maxSampleSteps = 4096
)

// Sample makes a value that tries to satisfy the schema, always the same one. ok: it does; a pattern, say,
// can not be followed.
func (s *Schema) Sample(fill Fill) (value any, ok bool) {
	value = (&sampler{document: s.document, fill: fill}).value(s.document, 0)
	return value, s.Validate(value) == nil
}

type sampler struct {
	document any
	fill     Fill
	steps    int
}

// isPast reports whether so many times maxSampleSteps are taken.
func (s *sampler) isPast(times int) bool { return s.steps > times*maxSampleSteps }

func (s *sampler) value(node any, depth int) any {
	members := s.flatten(node, 0)
	if allowed, ok := members["const"]; ok {
		return allowed
	}
	if s.fill == Nulls && takesNull(members) || depth > maxSampleDepth || s.isPast(2) {
		return nil
	}
	if allowed, ok := members["enum"].([]any); ok && len(allowed) > 0 {
		return allowed[0]
	}
	if examples, ok := members["examples"].([]any); ok && len(examples) > 0 {
		return examples[0]
	}
	switch typeOf(members) {
	case "object":
		return s.object(members, depth)
	case "array":
		return s.array(members, depth)
	case "integer", "number":
		return sampleNumber(members)
	case "boolean":
		return true
	case "null":
		return nil
	default:
		return sampleString(members)
	}
}

// flatten follows references and joins allOf and the first form of anyOf and oneOf into one set of keywords.
func (s *sampler) flatten(node any, depth int) map[string]any {
	own, _ := node.(map[string]any)
	all := maps.Clone(own)
	if s.steps++; all == nil || depth > maxSampleDepth || s.isPast(3) {
		return map[string]any{}
	}
	if ref, ok := own["$ref"].(string); ok {
		target, _ := Lookup(s.document, strings.TrimPrefix(ref, "#"))
		return s.flatten(target, depth+1)
	}
	var parts []any
	if list, ok := own["allOf"].([]any); ok {
		parts = list
	}
	for _, name := range []string{"anyOf", "oneOf"} {
		if forms, ok := own[name].([]any); ok && len(forms) > 0 {
			parts = append(parts, s.choose(forms))
		}
	}
	for _, part := range parts {
		for name, value := range s.flatten(part, depth+1) {
			all[name] = joined(name, all[name], value)
		}
	}
	return all
}

// choose takes the first form; null when it is asked for and offered, and not when it is not.
func (s *sampler) choose(forms []any) any {
	for _, form := range forms {
		members, _ := form.(map[string]any)
		if takesNull(members) == (s.fill == Nulls) {
			return form
		}
	}
	return forms[0]
}

func joined(name string, a, b any) any {
	switch name {
	case "properties":
		left, _ := a.(map[string]any)
		right, _ := b.(map[string]any)
		both := map[string]any{}
		maps.Copy(both, left)
		maps.Copy(both, right)
		return both
	case "required":
		left, _ := a.([]any)
		right, _ := b.([]any)
		return slices.Concat(left, right)
	}
	return b
}

func takesNull(members map[string]any) bool {
	switch t := members["type"].(type) {
	case string:
		return t == "null"
	case []any:
		return slices.Contains(t, any("null"))
	}
	return false
}

func typeOf(members map[string]any) string {
	switch t := members["type"].(type) {
	case string:
		return t
	case []any:
		for _, name := range t {
			if text, _ := name.(string); text != "null" {
				return text
			}
		}
	}
	for _, guess := range []struct{ keyword, name string }{
		{"properties", "object"},
		{"required", "object"},
		{"items", "array"},
		{"minItems", "array"},
		{"minimum", "number"},
		{"maximum", "number"},
	} {
		if _, ok := members[guess.keyword]; ok {
			return guess.name
		}
	}
	return ""
}

func (s *sampler) object(members map[string]any, depth int) any {
	properties, _ := members["properties"].(map[string]any)
	required, _ := members["required"].([]any)
	object := map[string]any{}
	for _, name := range required {
		if text, ok := name.(string); ok {
			object[text] = s.value(properties[text], depth+1)
		}
	}
	if s.fill == RequiredOnly || depth > maxSampleDepth/2 {
		return object
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if _, has := object[name]; !has && properties[name] != false && !s.isPast(1) {
			object[name] = s.value(properties[name], depth+1)
		}
	}
	return object
}

func (s *sampler) array(members map[string]any, depth int) any {
	length := int(bound(members, "minItems", 0))
	if s.fill != RequiredOnly && depth <= maxSampleDepth/2 && !s.isPast(1) {
		length = max(length, int(min(1, bound(members, "maxItems", 1))))
	}
	items := []any{}
	for i := range min(length, 1000) {
		if s.isPast(2) {
			break
		}
		node := members["items"]
		if positions, ok := node.([]any); ok {
			node = members["additionalItems"]
			if i < len(positions) {
				node = positions[i]
			}
		}
		items = append(items, s.value(node, depth+1))
	}
	return items
}

func bound(members map[string]any, name string, absent float64) float64 {
	number, ok := members[name].(json.Number)
	if !ok {
		return absent
	}
	f, err := number.Float64()
	if err != nil {
		return absent
	}
	return f
}

func sampleNumber(members map[string]any) any {
	low := max(bound(members, "minimum", math.Inf(-1)), bound(members, "exclusiveMinimum", math.Inf(-1)))
	high := min(bound(members, "maximum", math.Inf(1)), bound(members, "exclusiveMaximum", math.Inf(1)))
	step := bound(members, "multipleOf", 0)
	if typeOf(members) == "integer" {
		step = max(step, 1)
	}
	value := 1.0
	switch {
	case !math.IsInf(low, 0) && !math.IsInf(high, 0):
		value = low + (high-low)/2
	case !math.IsInf(low, 0):
		value = low + 1
	case !math.IsInf(high, 0):
		value = high - 1
	}
	if step > 0 {
		value = math.Ceil(value/step) * step
	}
	return json.Number(strconv.FormatFloat(value, 'f', -1, 64))
}

func sampleString(members map[string]any) any {
	format, _ := members["format"].(string)
	if text, ok := map[string]string{
		"email": "someone@example.com", "idn-email": "someone@example.com", "uri": "https://example.com/", "uri-reference": "/",
		"iri": "https://example.com/", "date-time": "2026-01-02T03:04:05Z", "date": "2026-01-02", "time": "03:04:05Z",
		"duration": "PT1S", "uuid": "01234567-89ab-4def-8123-456789abcdef", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1",
		"hostname": "example.com", "regex": "^a$", "json-pointer": "/a", "relative-json-pointer": "0",
	}[format]; ok {
		return text
	}
	const words = "sample text "
	least, most := int(bound(members, "minLength", 0)), int(bound(members, "maxLength", 64))
	text := strings.Repeat(words, min(least, 1<<16)/len(words)+1)
	if most < len(text) {
		text = text[:max(most, 0)]
	}
	if trimmed := strings.TrimSpace(text); len(trimmed) >= least {
		return trimmed
	}
	return text
}
