package validator

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// eachScalar gives each key, string and number of a value.
func eachScalar(value any, do func(string)) {
	switch v := value.(type) {
	case string:
		do(v)
	case json.Number:
		do(v.String())
	case []any:
		for _, item := range v {
			eachScalar(item, do)
		}
	case map[string]any:
		for key, member := range v {
			do(key)
			eachScalar(member, do)
		}
	}
}

// withoutEscapes is a text with each escape of JSON as what it stands for. It shares no code with the readers.
func withoutEscapes(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		i := strings.IndexByte(text, '\\')
		if i < 0 || i+1 == len(text) {
			break
		}
		b.WriteString(text[:i])
		c, size := escaped(text[i:])
		b.WriteString(c)
		text = text[i+size:]
	}
	b.WriteString(text)
	return b.String()
}

// escaped returns what the escape at the begin of text stands for, and its length.
func escaped(text string) (c string, size int) {
	if r, ok := unit(text); ok {
		if low, ok := unit(text[6:]); ok && utf16.IsSurrogate(r) {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return string(pair), 12
			}
		}
		return string(r), 6
	}
	if i := strings.IndexByte(`nrtbf"\/'`, text[1]); i >= 0 {
		return "\n\r\t\b\f\"\\/'"[i : i+1], 2
	}
	return text[:1], 1
}

// unit reads an escape like \u00e4.
func unit(text string) (rune, bool) {
	if len(text) < 6 || text[:2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(text[2:6], 16, 16)
	return rune(n), err == nil
}
