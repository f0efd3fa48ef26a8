package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// AppendPointer returns the JSON pointer (RFC 6901) extended by tokens, which are escaped.
func AppendPointer(pointer string, tokens ...string) string {
	for _, token := range tokens {
		pointer += "/" + escapeToken(token)
	}
	return pointer
}

func escapeToken(token string) string {
	return strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
}

// SplitPointer returns the tokens of a JSON pointer, unescaped. "" has none: it is the whole value.
func SplitPointer(pointer string) ([]string, error) {
	if pointer == "" {
		return nil, nil
	}
	if pointer[0] != '/' {
		return nil, fmt.Errorf("%q is not a JSON pointer: it must be empty or begin with /", pointer)
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, token := range tokens {
		if strings.Count(token, "~") != strings.Count(token, "~0")+strings.Count(token, "~1") {
			return nil, fmt.Errorf("%q is not a JSON pointer: ~ must be written ~0", pointer)
		}
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

// Lookup returns the part of a decoded value that the pointer leads to.
func Lookup(value any, pointer string) (part any, found bool) {
	tokens, err := SplitPointer(pointer)
	if err != nil {
		return nil, false
	}
	for _, token := range tokens {
		switch v := value.(type) {
		case map[string]any:
			if value, found = v[token]; !found {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v) || strconv.Itoa(i) != token {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, true
}

// With returns value with part in the place that the pointer leads to. What is on the way is copied, so value stays
// as it is; objects that are missing are made.
func With(value any, pointer string, part any) (any, error) {
	tokens, err := SplitPointer(pointer)
	if err != nil {
		return nil, err
	}
	return with(value, tokens, part)
}

func with(value any, tokens []string, part any) (_ any, err error) {
	if len(tokens) == 0 {
		return part, nil
	}
	switch v := value.(type) {
	case nil:
		inner, err := with(nil, tokens[1:], part)
		return map[string]any{tokens[0]: inner}, err
	case map[string]any:
		changed := make(map[string]any, len(v)+1)
		maps.Copy(changed, v)
		changed[tokens[0]], err = with(v[tokens[0]], tokens[1:], part)
		return changed, err
	case []any:
		i, err := strconv.Atoi(tokens[0])
		if err != nil || i < 0 || i >= len(v) {
			return nil, fmt.Errorf("there is no item %q to set", tokens[0])
		}
		changed := slices.Clone(v)
		changed[i], err = with(v[i], tokens[1:], part)
		return changed, err
	}
	return nil, fmt.Errorf("%q is to be set in what is no object", tokens[0])
}
