package schema

import (
	"errors"
	"regexp"
	"strings"
)

// expression is a pattern. RE2 has no look-ahead, but one right behind the leading ^ is a pattern of its own, which the
// text must match or not: zod writes such, and rules for passwords are made of them.
type expression struct {
	text string
	// all must match; none must not.
	all, none []*regexp.Regexp
}

// String is the pattern as it is written.
func (e *expression) String() string { return e.text }

// MatchString reports whether the text matches the pattern.
func (e *expression) MatchString(text string) bool {
	for _, r := range e.none {
		if r.MatchString(text) {
			return false
		}
	}
	for _, r := range e.all {
		if !r.MatchString(text) {
			return false
		}
	}
	return true
}

func compile(text string) (*expression, error) {
	e := &expression{text: text}
	rest := text
	for {
		ahead, isNot, after, ok := lookAhead(rest)
		if !ok {
			break
		}
		r, err := regexp.Compile(ahead)
		if err != nil {
			return nil, err
		}
		if isNot {
			e.none = append(e.none, r)
		} else {
			e.all = append(e.all, r)
		}
		rest = after
	}
	if rest != text && hasAlternative(rest) {
		return nil, errors.New("the look-ahead holds for one alternative only")
	}
	r, err := regexp.Compile(rest)
	if err != nil {
		return nil, err
	}
	e.all = append(e.all, r)
	return e, nil
}

// lookAhead takes the first look-ahead off a pattern: of ^(?!a)b it is ^a, and ^b is what is left.
func lookAhead(text string) (ahead string, isNot bool, rest string, ok bool) {
	body, has := strings.CutPrefix(text, "^(?=")
	if !has {
		if body, has = strings.CutPrefix(text, "^(?!"); !has {
			return "", false, "", false
		}
		isNot = true
	}
	end := -1
	eachLevel(body, func(at, level int) bool {
		if body[at] == ')' && level < 0 {
			end = at
		}
		return end < 0
	})
	if end < 0 {
		return "", false, "", false
	}
	// A quantifier behind it would make it optional.
	if after := body[end+1:]; after == "" || !strings.ContainsRune("*+?{", rune(after[0])) {
		return "^(?:" + body[:end] + ")", isNot, "^" + after, true
	}
	return "", false, "", false
}

// hasAlternative reports whether the pattern has a | that is in no group.
func hasAlternative(text string) (has bool) {
	eachLevel(text, func(at, level int) bool {
		has = has || text[at] == '|' && level == 0
		return !has
	})
	return has
}

// eachLevel gives the bytes of a pattern that are neither escaped nor in a class, with the depth of their group; that of
// a parenthesis is the depth behind it.
func eachLevel(text string, do func(at, level int) (more bool)) {
	level, class := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
			continue
		case class:
			class = c != ']'
			continue
		case c == '[':
			class = true
			continue
		case c == '(':
			level++
		case c == ')':
			level--
		}
		if !do(i, level) {
			return
		}
	}
}

// split says a pattern that has look-aheads with patterns that have none.
func split(n map[string]any, text string) {
	e, err := compile(text)
	if err != nil || len(e.all)+len(e.none) == 1 {
		return
	}
	delete(n, "pattern")
	for _, r := range e.all {
		also(n, map[string]any{"pattern": r.String()})
	}
	for _, r := range e.none {
		// Of what is no string a pattern holds, and so would not its contrary.
		also(n, map[string]any{"not": map[string]any{"type": "string", "pattern": r.String()}})
	}
}
