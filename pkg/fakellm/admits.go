package fakellm

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// This check is as wide as what the simulator can generate. It only tells whether a literal answer, or
// one that is to be off its schema, is: the pipeline's own validator is another.

// admitsText is true when the text is one JSON document that satisfies the schema.
func (d *document) admitsText(text string) bool {
	decoder := json.NewDecoder(strings.NewReader(text))
	var v any
	if decoder.Decode(&v) != nil {
		return false
	}
	_, err := decoder.Token()
	c := check{doc: d}
	return errors.Is(err, io.EOF) && c.admits(d.root, v, 0)
}

// check is one look at a value. What it can not see within maxHops and maxSteps, it admits.
type check struct {
	doc   *document
	steps int
}

func (c *check) admits(s *schema, v any, depth int) bool {
	if c.steps++; depth > maxHops || c.steps > maxSteps {
		return true
	}
	if target := c.doc.lookup(s.ref); target != nil && !c.admits(target, v, depth+1) {
		return false
	}
	admitted := func(branch *schema) bool { return c.admits(branch, v, depth+1) }
	for _, part := range s.allOf {
		if !admitted(part) {
			return false
		}
	}
	if len(s.anyOf) > 0 && !slices.ContainsFunc(s.anyOf, admitted) {
		return false
	}
	if len(s.oneOf) > 0 {
		n := 0
		for _, branch := range s.oneOf {
			if admitted(branch) {
				n++
			}
		}
		if n != 1 {
			return false
		}
	}
	return !s.never && c.admitsHere(s, v, depth)
}

func (c *check) admitsHere(s *schema, v any, depth int) bool {
	if len(s.types) > 0 && !isOfType(typeOf(v), s.types) {
		return false
	}
	if s.hasEnum && !slices.ContainsFunc(s.enum, func(e json.RawMessage) bool { return sameValue(v, e) }) {
		return false
	}
	switch v := v.(type) {
	case float64:
		return s.admitsNumber(v)
	case string:
		return s.admitsString(v)
	case []any:
		return c.admitsArray(s, v, depth)
	case map[string]any:
		return c.admitsObject(s, v, depth)
	default:
		return true
	}
}

func (k *keywords) admitsNumber(v float64) bool {
	if k.low.set && (v < k.low.at || k.low.exclusive && v == k.low.at) {
		return false
	}
	if k.high.set && (v > k.high.at || k.high.exclusive && v == k.high.at) {
		return false
	}
	if step, err := k.multiple.Float64(); err == nil && step > 0 {
		quotient := v / step
		return math.Abs(quotient-math.Round(quotient)) < 1e-9
	}
	return true
}

func (k *keywords) admitsString(v string) bool {
	n := utf8.RuneCountInString(v)
	if n < k.minLength || k.maxLength >= 0 && n > k.maxLength {
		return false
	}
	if k.pattern == "" {
		return true
	}
	re, err := regexp.Compile(k.pattern)
	return err != nil || re.MatchString(v)
}

func (c *check) admitsArray(s *schema, v []any, depth int) bool {
	if len(v) < s.minItems || s.maxItems >= 0 && len(v) > s.maxItems {
		return false
	}
	for i, item := range v {
		if i < len(s.prefix) {
			if !c.admits(s.prefix[i], item, depth+1) {
				return false
			}
		} else if s.items != nil && !c.admits(s.items, item, depth+1) {
			return false
		}
	}
	return true
}

func (c *check) admitsObject(s *schema, v map[string]any, depth int) bool {
	if len(v) < s.minProps || s.maxPro >= 0 && len(v) > s.maxPro {
		return false
	}
	for _, name := range s.required {
		if _, ok := v[name]; !ok {
			return false
		}
	}
	for name, value := range v {
		i := slices.IndexFunc(s.properties, func(p property) bool { return p.name == name })
		switch {
		case i >= 0 && !c.admits(s.properties[i].schema, value, depth+1):
			return false
		case i < 0 && s.additional != nil && !c.admits(s.additional, value, depth+1):
			return false
		}
	}
	return true
}

func decodeValue(raw json.RawMessage) any {
	var v any
	_ = json.Unmarshal(raw, &v) // raw was part of a document that parsed
	return v
}

func sameValue(v any, raw json.RawMessage) bool {
	data, err := json.Marshal(v)
	if err != nil {
		return false
	}
	other, err := json.Marshal(decodeValue(raw))
	return err == nil && string(data) == string(other)
}

// typeOf returns the narrowest type of a decoded value.
func typeOf(v any) string {
	switch v := v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		return "null"
	}
}

func isOfType(name string, types []string) bool {
	return slices.Contains(types, name) || name == "integer" && slices.Contains(types, "number")
}
