package task

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Canonical writes a decoded value as JSON with sorted keys, without white space, with the fewest escapes and
// with each number's own digits. Values that are equal but for order and spacing have the same text.
func Canonical(value any) ([]byte, error) { return appendCanonical(nil, value) }

func appendCanonical(text []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(text, "null"...), nil
	case bool:
		return strconv.AppendBool(text, v), nil
	case string:
		return jsontext.AppendQuote(text, v)
	case json.Number:
		if !jsonNumber.MatchString(string(v)) {
			return text, fmt.Errorf("%q is not a number in JSON", string(v))
		}
		return append(text, v...), nil
	case []any:
		return appendList(text, v)
	case map[string]any:
		return appendObject(text, v)
	default:
		return text, fmt.Errorf("a value of the type %T was not decoded from JSON", value)
	}
}

func appendList(text []byte, items []any) (_ []byte, err error) {
	text = append(text, '[')
	for i, item := range items {
		if i > 0 {
			text = append(text, ',')
		}
		if text, err = appendCanonical(text, item); err != nil {
			return text, err
		}
	}
	return append(text, ']'), nil
}

func appendObject(text []byte, members map[string]any) (_ []byte, err error) {
	text = append(text, '{')
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			text = append(text, ',')
		}
		if text, err = jsontext.AppendQuote(text, name); err != nil {
			return text, err
		}
		if text, err = appendCanonical(append(text, ':'), members[name]); err != nil {
			return text, err
		}
	}
	return append(text, '}'), nil
}
