package validator

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"spillway/pkg/schema"
)

// vocabulary are the words of a schema by which a text may speak of the answer.
type vocabulary struct {
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
	v.choose(document)
	slices.Sort(v.choices)
	v.choices = slices.Compact(v.choices)
	return v
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

// other returns a choice of the schema that text names and the value has not; "": there is none.
func (v *vocabulary) other(text string, value any) string {
	var own []string
	eachText(value, func(s string) { own = append(own, s) })
	text = strings.ToLower(text)
	for _, choice := range v.choices {
		if !slices.Contains(own, choice) && hasWord(text, strings.ToLower(choice)) {
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

// hasWord reports whether word stands in text as a word of its own.
func hasWord(text, word string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], word)
		if i < 0 {
			return false
		}
		begin, end := at+i, at+i+len(word)
		if !endsInWord(text[:begin]) && !beginsWithWord(text[end:]) {
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
