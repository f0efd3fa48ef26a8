package validator

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"spillway/pkg/schema"
)

// maxSchemaDepth bounds how far references and branches of a schema are followed for its vocabulary.
const maxSchemaDepth = 8

// vocabulary are the words by which a text shows that it speaks of the answer.
type vocabulary struct {
	// names are the properties that an answer must have, a list for each branch of the schema, and of an array's
	// items when the schema wants an array; if there are none, those that it may have.
	names [][]string
	// choices are the choices of all enums.
	choices []string
}

// vocabularyOf makes the vocabulary of a schema once.
func vocabularyOf(s *schema.Schema) *vocabulary {
	if s == nil {
		return &vocabulary{}
	}
	v, _ := s.Memo(func(s *schema.Schema) any { return newVocabulary(s) }).(*vocabulary)
	return v
}

func newVocabulary(s *schema.Schema) *vocabulary {
	v := &vocabulary{}
	document, err := schema.Decode(s.Source())
	if err != nil {
		return v // a schema that was compiled can be read
	}
	v.require(document, document, 0)
	if root, ok := document.(map[string]any); ok && len(v.names) == 0 {
		properties, _ := root["properties"].(map[string]any)
		v.name(slices.Sorted(maps.Keys(properties)))
	}
	v.choose(document)
	slices.Sort(v.choices)
	v.choices = slices.Compact(v.choices)
	return v
}

// require collects what node requires, of itself or in a branch; if nothing, what its items require.
func (v *vocabulary) require(document, node any, depth int) {
	members, ok := node.(map[string]any)
	if !ok || depth > maxSchemaDepth {
		return
	}
	v.name(texts(members["required"]))
	for _, word := range []string{"allOf", "anyOf", "oneOf"} {
		branches, _ := members[word].([]any)
		for _, branch := range branches {
			v.require(document, branch, depth+1)
		}
	}
	if ref, _ := members["$ref"].(string); strings.HasPrefix(ref, "#") {
		if target, found := schema.Lookup(document, ref[1:]); found {
			v.require(document, target, depth+1)
		}
	}
	if len(v.names) == 0 {
		v.require(document, members["items"], depth+1)
	}
}

func (v *vocabulary) name(names []string) {
	if len(names) > 0 && !slices.ContainsFunc(v.names, func(n []string) bool { return slices.Equal(n, names) }) {
		v.names = append(v.names, names)
	}
}

// choose collects the constants and of all its parts.
func (v *vocabulary) choose(node any) {
	switch n := node.(type) {
	case []any:
		for _, item := range n {
			v.choose(item)
		}
	case map[string]any:
		v.choices = append(v.choices, texts(n["enum"])...)
		v.choices = append(v.choices, texts([]any{n["const"]})...)
		for _, member := range n {
			v.choose(member)
		}
	}
}

func texts(list any) (found []string) {
	items, _ := list.([]any)
	for _, item := range items {
		if text, ok := item.(string); ok && text != "" {
			found = append(found, text)
		}
	}
	return found
}

// isAnswered reports whether text has at least half of the properties that an answer must have, in quotes or
// before a colon, however it is spelled, nested or encoded.
func (v *vocabulary) isAnswered(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(v.names, func(names []string) bool {
		named := 0
		for _, name := range names {
			if hasWord(text, strings.ToLower(name), isName) {
				named++
			}
		}
		return 2*named >= len(names)
	})
}

// other returns a choice of the schema that text names and the value has not; "": there is none.
func (v *vocabulary) other(text string, value any) string {
	var own []string
	eachText(value, func(s string) { own = append(own, s) })
	text = strings.ToLower(text)
	for _, choice := range v.choices {
		if !slices.Contains(own, choice) && hasWord(text, strings.ToLower(choice), func(string, string) bool { return true }) {
			return choice
		}
	}
	return ""
}

func eachText(value any, do func(string)) {
	switch v := value.(type) {
	case string:
		do(v)
	case []any:
		for _, item := range v {
			eachText(item, do)
		}
	case map[string]any:
		for _, member := range v {
			eachText(member, do)
		}
	}
}

// hasWord reports whether word stands in text as a word of its own, in a place that is takes.
func hasWord(text, word string, is func(before, behind string) bool) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], word)
		if i < 0 {
			return false
		}
		begin, end := at+i, at+i+len(word)
		if !endsInWord(text[:begin]) && !beginsWithWord(text[end:]) && is(text[:begin], text[end:]) {
			return true
		}
		at = end
	}
}

func endsInWord(text string) bool {
	c, _ := utf8.DecodeLastRuneInString(text)
	return isOfWord(c)
}

func beginsWithWord(text string) bool {
	c, _ := utf8.DecodeRuneInString(text)
	return isOfWord(c)
}

// isOfWord reports whether c is part of a word. Scripts that set no space between words know no such words.
func isOfWord(c rune) bool {
	switch {
	case unicode.In(c, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar):
		return false
	}
	return c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c) || unicode.IsMark(c)
}

// isName reports whether the word between before and behind is a member's name: before a colon or an equals
// sign and, on the same line, its value; or, in quotes, one of a list.
func isName(before, behind string) bool {
	const quotes = "\"'“”„«»＂"
	quoted := strings.TrimRight(before, quotes) != before
	rest := strings.TrimLeft(strings.TrimPrefix(behind, "&quot;"), "\\`*´"+quotes)
	rest = strings.TrimLeft(rest, " \t\r\n")
	c, size := utf8.DecodeRuneInString(rest)
	switch c {
	case ':', '：', '=':
		value := strings.TrimLeft(rest[size:], " \t")
		return quoted || value != "" && !strings.ContainsAny(value[:1], "\r\n`")
	case ',', ']':
		return quoted
	}
	return false
}
