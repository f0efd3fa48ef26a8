package validator

import (
	"regexp"
	"strings"

	"spillway/pkg/schema"
)

// maxStatus is the longest text of a property that may be the status of the answer: a longer one is an explanation.
const maxStatus = 128

// takenBack are words by which a property says that the answer is none: error, is_example, status "draft".
var takenBack = regexp.MustCompile(`(?i)\b(?:not|no|never|wrong|don['’]?t|false|bad|old|previous|previously|errors?|failed|failure|example|sample|` +
	`(?:retract|ignore|discard|reject|refuse|cancel|delete|remove|revert|skip|assert|guess|supersede)(?:e?d)?|incorrect|invalid|candidate|` +
	`draft|dummy|mock|fake|test|expect(?:ed)?|placeholder|template|default|refusal|nicht|kein|keine|falsch|entwurf|fehler|beispiel)\b|n['’]t\b`)

// isSurplus reports whether an additional property may be left out: no branch of the schema knows it, nor one by
// nearly the same name, and neither its name nor its text says that the answer is none.
func isSurplus(report *schema.Report, fault schema.Fault, pointer string) bool {
	name := pointer[strings.LastIndexByte(pointer, '/')+1:]
	text, _ := fault.Value.(string)
	isTaken := takenBack.MatchString(apart(name)) || len(text) <= maxStatus && takenBack.MatchString(apart(text))
	return !isTaken && report.IsForeign(fault)
}
