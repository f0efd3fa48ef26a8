package schema

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// choices are the values of an enum or of a const.
type choices struct {
	texts map[string]bool
	// others are keys of the values that are no strings.
	others map[string]bool
	words  string
}

func choicesOf(values []any) *choices {
	c := &choices{texts: map[string]bool{}, others: map[string]bool{}}
	words := make([]string, len(values))
	for i, value := range values {
		words[i] = string(appendJSON(nil, value, func(n json.Number) string { return string(n) }))
		if text, ok := value.(string); ok {
			c.texts[text] = true
		} else {
			c.others[key(value)] = true
		}
	}
	c.words = strings.Join(words, ", ")
	return c
}

// has reports whether the value is one of the choices; cost is how much of it was read.
func (c *choices) has(value any) (is bool, cost int) {
	switch v := value.(type) {
	case string:
		return c.texts[v], 0
	case []any, map[string]any:
		if len(c.others) == 0 {
			return false, 0
		}
	}
	k := key(value)
	return c.others[k], len(k)
}

// key is the same text for equal values, and only for them: 1.0 is 1, and the order of members means nothing.
func key(value any) string { return string(appendJSON(nil, value, numberKey)) }

func numberKey(n json.Number) string {
	if n == "-0" {
		return "0"
	}
	for i := range len(n) {
		switch n[i] {
		case '.', 'e', 'E':
			return exact(n).RatString()
		}
	}
	return string(n)
}

func appendJSON(text []byte, value any, number func(json.Number) string) []byte {
	switch v := value.(type) {
	case nil:
		return append(text, "null"...)
	case bool:
		if v {
			return append(text, "true"...)
		}
		return append(text, "false"...)
	case json.Number:
		return append(text, number(v)...)
	case string:
		text, _ = jsontext.AppendQuote(text, v)
		return text
	case []any:
		text = append(text, '[')
		for i, item := range v {
			if i > 0 {
				text = append(text, ',')
			}
			text = appendJSON(text, item, number)
		}
		return append(text, ']')
	case map[string]any:
		text = append(text, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				text = append(text, ',')
			}
			text, _ = jsontext.AppendQuote(text, name)
			text = appendJSON(append(text, ':'), v[name], number)
		}
		return append(text, '}')
	}
	return append(text, '?')
}

// twins returns the places of the first two equal items, and how much of the items was read.
func twins(items []any) (i, j, cost int, found bool) {
	met := make(map[string]int, len(items))
	for j, item := range items {
		k := key(item)
		cost += len(k)
		if i, twice := met[k]; twice {
			return i, j, cost, true
		}
		met[k] = j
	}
	return 0, 0, cost, false
}
