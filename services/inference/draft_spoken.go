package inference

import (
	"slices"
	"strings"

	"spillway/pkg/thought"
)

// spoken tells what of a text that is being written is said for certain. The validator takes thoughts away, so
// none is shown before: a text is shown up to the first mark of one, or what may become one, and no further, for
// where thoughts end only the whole answer tells. An end without a beginning makes a thought of all before it.
type spoken struct {
	// looked is how much is said for certain, over is true behind a mark: it is no more then.
	looked int
	over   bool
}

// maxMark is longer than any mark.
const maxMark = 24

// beginnings of what is not said; "<|" begins the tokens of templates. endings are of thoughts.
func beginnings() []string {
	signs := []string{"<|"}
	for _, m := range thought.Marks() {
		signs = append(signs, m.Begin)
	}
	return signs
}

func endings() (signs []string) {
	for _, m := range thought.Marks() {
		signs = append(signs, m.End)
	}
	return signs
}

// of returns how much of the content is said. unsaid is true once, when all of it turned out to be a thought.
func (s *spoken) of(content []byte) (until int, unsaid bool) {
	for !s.over {
		i := slices.IndexFunc(content[s.looked:], thought.MayBegin)
		if i < 0 {
			s.looked = len(content)
			break
		}
		s.looked += i
		rest := thought.Lower(string(content[s.looked:min(len(content), s.looked+maxMark)]))
		switch {
		case begins(rest, endings(), false):
			s.looked, s.over = 0, true
			return 0, true
		case begins(rest, endings(), true): // more must be known
			return s.looked, false
		case begins(rest, beginnings(), false):
			s.over = true
			return s.looked, false
		case begins(rest, beginnings(), true):
			return s.looked, false
		}
		s.looked++
	}
	return s.looked, false
}

// begins reports whether rest begins with a mark, or, open, is the beginning of one.
func begins(rest string, marks []string, open bool) bool {
	for _, mark := range marks {
		if strings.HasPrefix(rest, mark) || open && strings.HasPrefix(mark, rest) {
			return true
		}
	}
	return false
}
