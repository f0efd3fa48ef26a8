package fakellm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// strictness holds a schema against what OpenAI publishes of strict mode (Structured outputs, "Supported schemas", as
// of 2026-02). It says no more than the first thing that is wrong, as OpenAI does.
type strictness struct {
	root       map[string]any
	properties int
	choices    int
	characters int
	// met are the references that were followed, the first time that each is met.
	met map[string]bool
}

// CheckStrict returns why a strict response format with the schema would be refused; nil: it would not.
func CheckStrict(raw []byte) error {
	var root map[string]any
	if err := json.Unmarshal(raw, &root); err != nil {
		return err
	}
	s := &strictness{root: root, met: map[string]bool{}}
	if root["type"] != "object" || root["anyOf"] != nil {
		return fmt.Errorf("schema must be a JSON Schema of 'type: \"object\"', got 'type: %v'", root["type"])
	}
	if err := s.schema(root, 1); err != nil {
		return err
	}
	for _, word := range []string{"$defs", "definitions"} {
		defs, _ := root[word].(map[string]any)
		for name, def := range defs {
			s.characters += utf8.RuneCountInString(name)
			if err := s.schema(def, 1); err != nil {
				return fmt.Errorf("in %s %s: %w", word, name, err)
			}
		}
	}
	switch {
	case s.properties > 5000:
		return fmt.Errorf("%d properties exceed the limit of 5000", s.properties)
	case s.choices > 1000:
		return fmt.Errorf("%d enum values exceed the limit of 1000", s.choices)
	case s.characters > 120_000:
		return fmt.Errorf("%d characters of names and values exceed the limit of 120000", s.characters)
	}
	return nil
}

func (s *strictness) schema(raw any, level int) error {
	n, ok := raw.(map[string]any)
	if !ok {
		return fmt.Errorf("%v is not an object", raw)
	}
	if level > 10 && (n["type"] == "object" || n["type"] == "array") {
		return fmt.Errorf("%d levels of nesting exceed the limit of 10", level)
	}
	if err := s.keywords(n); err != nil {
		return err
	}
	if ref, ok := n["$ref"].(string); ok {
		return s.reference(n, ref, level)
	}
	if forms, ok := n["anyOf"].([]any); ok {
		for _, form := range forms {
			if err := s.schema(form, level); err != nil {
				return err
			}
		}
		return nil
	}
	if n["type"] == nil {
		return fmt.Errorf("schema must have a 'type' key")
	}
	s.values(n)
	switch n["type"] {
	case "object":
		return s.object(n, level)
	case "array":
		if n["items"] == nil {
			return fmt.Errorf("array schema missing items")
		}
		return s.schema(n["items"], level+1)
	}
	return nil
}

func (s *strictness) keywords(n map[string]any) error {
	for name, value := range n {
		switch name {
		case "type", "title", "description", "enum", "const", "anyOf", "items", "properties", "required", "additionalProperties",
			"$ref", "$defs", "definitions", "$schema", "pattern", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
			"minItems", "maxItems":
		case "format":
			if !slices.Contains([]any{"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}, value) {
				return fmt.Errorf("the format %v is not supported", value)
			}
		default:
			return fmt.Errorf("'%s' is not permitted", name)
		}
	}
	if pattern, _ := n["pattern"].(string); strings.Contains(pattern, "(?=") || strings.Contains(pattern, "(?!") || strings.Contains(pattern, "(?<") {
		return fmt.Errorf("the pattern %s has a look-around", pattern)
	}
	return nil
}

// reference follows a reference, once: a schema may refer to itself.
func (s *strictness) reference(n map[string]any, ref string, level int) error {
	if len(n) > 1 {
		return fmt.Errorf("$ref cannot have keywords beside it")
	}
	var to any = s.root
	if ref != "#" {
		word, name, _ := strings.Cut(strings.TrimPrefix(ref, "#/"), "/")
		name = unescaper().Replace(name)
		defs, _ := s.root[word].(map[string]any)
		if to = defs[name]; to == nil || word != "$defs" && word != "definitions" {
			return fmt.Errorf("the reference %s can not be resolved", ref)
		}
	}
	if s.met[ref] {
		return nil
	}
	s.met[ref] = true
	was := *s
	err := s.schema(to, level)
	s.properties, s.choices, s.characters = was.properties, was.choices, was.characters
	return err
}

func (s *strictness) object(n map[string]any, level int) error {
	properties, _ := n["properties"].(map[string]any)
	required, _ := n["required"].([]any)
	if n["additionalProperties"] != false {
		return fmt.Errorf("'additionalProperties' is required to be supplied and to be false")
	}
	if len(required) != len(properties) {
		return fmt.Errorf("'required' is required to be supplied and to be an array including every key in properties")
	}
	for name, property := range properties {
		if !slices.Contains(required, any(name)) {
			return fmt.Errorf("'required' misses %s", name)
		}
		s.properties++
		s.characters += utf8.RuneCountInString(name)
		if err := s.schema(property, level+1); err != nil {
			return fmt.Errorf("in property %s: %w", name, err)
		}
	}
	return nil
}

func (s *strictness) values(n map[string]any) {
	choices, _ := n["enum"].([]any)
	s.choices += len(choices)
	if value, ok := n["const"]; ok {
		choices = append(slices.Clip(choices), value)
	}
	for _, choice := range choices {
		text, _ := choice.(string)
		s.characters += utf8.RuneCountInString(text)
	}
}
