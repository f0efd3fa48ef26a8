package schema

import (
	"encoding/json"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxGot bounds the rendering of a value in a violation, in bytes.
const MaxGot = 64

const cut = "…"

// Render shows a decoded value as compact JSON of at most MaxGot bytes. It looks no further into a large
// value than it shows.
func Render(value any) string {
	text := appendRendered(nil, value)
	if len(text) <= MaxGot {
		return string(text)
	}
	end := MaxGot - len(cut)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return string(text[:end]) + cut
}

func appendRendered(text []byte, value any) []byte {
	if len(text) > MaxGot {
		return text
	}
	switch v := value.(type) {
	case nil:
		return append(text, "null"...)
	case bool:
		if v {
			return append(text, "true"...)
		}
		return append(text, "false"...)
	case json.Number:
		return append(text, v...)
	case string:
		return appendRenderedString(text, v)
	case []any:
		text = append(text, '[')
		for i, item := range v {
			if i > 0 {
				text = append(text, ',')
			}
			if text = appendRendered(text, item); len(text) > MaxGot {
				return text
			}
		}
		return append(text, ']')
	case map[string]any:
		return appendRenderedObject(text, v)
	}
	return append(text, '?')
}

func appendRenderedString(text []byte, s string) []byte {
	// A character that this cuts is shown as U+FFFD, behind what render keeps.
	quoted, _ := jsontext.AppendQuote(text, s[:min(len(s), 2*MaxGot)])
	return quoted
}

func appendRenderedObject(text []byte, members map[string]any) []byte {
	text = append(text, '{')
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(appendRenderedString(text, name), ':')
		if text = appendRendered(text, members[name]); len(text) > MaxGot {
			return text
		}
	}
	return append(text, '}')
}
