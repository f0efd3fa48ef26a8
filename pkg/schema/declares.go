package schema

import "strconv"

// What a schema says of a part of a value.
type speech int

const (
	// silent: it says nothing of the value's parts at all.
	silent speech = iota
	// unsaid: it names parts, and not this one.
	unsaid
	declared
	denied
)

// Declares reports whether a value that satisfies the schema can have, where the pointer leads, a part of the kind
// of value; nil: of any kind. A property that is not named is not declared where others are, though it be allowed.
func (s *Schema) Declares(pointer string, value any) bool {
	tokens, err := SplitPointer(pointer)
	if err != nil {
		return false
	}
	says := s.root.says(tokens, value)
	return says == declared || says == silent
}

func (n *node) says(tokens []string, value any) speech {
	own := n.ownSays(tokens, value)
	for _, form := range n.allOf {
		own = both(own, form.says(tokens, value))
	}
	for _, forms := range [][]*node{n.anyOf, n.oneOf} {
		if len(forms) > 0 {
			own = both(own, oneSays(forms, tokens, value))
		}
	}
	return own
}

// both is what is said where two hold at once.
func both(a, b speech) speech { return max(a, b) }

// oneSays is the most favourable of what the forms say.
func oneSays(forms []*node, tokens []string, value any) speech {
	best := denied
	for _, form := range forms {
		switch says := form.says(tokens, value); {
		case says == declared:
			return declared
		case best == denied, says == silent:
			best = says
		}
	}
	return best
}

func (n *node) ownSays(tokens []string, value any) speech {
	if n.never {
		return denied
	}
	if len(tokens) == 0 {
		if value != nil && !n.takes(value) {
			return denied
		}
		return declared
	}
	token, rest := tokens[0], tokens[1:]
	if index, err := strconv.Atoi(token); err == nil && n.takes([]any{}) && !n.takes(map[string]any{}) {
		return n.itemSays(index, rest, value)
	}
	if !n.takes(map[string]any{}) {
		return denied
	}
	says := silent
	if inner, ok := n.properties[token]; ok {
		says = inner.says(rest, value)
	}
	for _, p := range n.patterns {
		if p.expression.MatchString(token) {
			says = both(says, p.node.says(rest, value))
		}
	}
	switch {
	case says != silent:
		return says
	case n.additional != nil:
		return n.additional.says(rest, value)
	case n.closed:
		return denied
	case len(n.properties) > 0:
		return unsaid
	}
	return silent
}

func (n *node) itemSays(index int, rest []string, value any) speech {
	item := n.each
	if n.first != nil {
		item = n.rest
		if index < len(n.first) {
			item = n.first[index]
		}
		if item == nil && n.closedItems {
			return denied
		}
	}
	if item == nil {
		return silent
	}
	return item.says(rest, value)
}
