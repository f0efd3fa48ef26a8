package validator

import (
	"regexp"
	"slices"
	"strings"

	"spillway/pkg/schema"
)

// maxStatus is the longest text of a property that may be the status of the answer: a longer one is an explanation.
const maxStatus = 128

// takenBack are words by which a property says that the answer is none: error, is_example, status "draft".
var takenBack = regexp.MustCompile(`(?i)\b(?:not|no|never|wrong|don['’]?t|false|bad|old|previous|previously|errors?|failed|failure|example|sample|` +
	`(?:retract|ignore|discard|reject|refuse|cancel|delete|remove|revert|skip|assert|guess|supersede)(?:e?d)?|incorrect|invalid|candidate|` +
	`draft|dummy|mock|fake|test|expect(?:ed)?|placeholder|template|default|refusal|nicht|kein|keine|falsch|entwurf|fehler|beispiel)\b|n['’]t\b`)

// affirmed are names by which a property says that the answer is one, unless it is false.
var affirmed = regexp.MustCompile(`(?i)^(?:is )?(?:valid|ok|success|successful|succeeded|final|complete|completed|correct|accepted|approved|confirmed)$`)

// isSurplus reports whether an additional property may be left out: no branch of the schema knows it, nor one by
// nearly the same name; neither a name nor a text in it says that the answer is none; and it holds no other answer.
func isSurplus(report *schema.Report, fault schema.Fault, pointer string) bool {
	name := pointer[strings.LastIndexByte(pointer, '/')+1:]
	return !takesBack(name, fault.Value) && report.IsForeign(fault) && !report.IsRival(fault)
}

// takesBack reports whether a property says that the answer is none. A null says nothing.
func takesBack(name string, value any) bool {
	if value == nil {
		return false
	}
	words := apart(name)
	if takenBack.MatchString(words) {
		return true
	}
	switch v := value.(type) {
	case bool:
		return !v && affirmed.MatchString(words)
	case string:
		return len(v) <= maxStatus && takenBack.MatchString(apart(v))
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { return takesBack("", item) })
	case map[string]any:
		for name, member := range v {
			if takesBack(name, member) {
				return true
			}
		}
	}
	return false
}
