package validator

import (
	"fmt"
	"reflect"

	"github.com/kaptinlin/jsonrepair"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// maxRepairBytes bounds what is repaired: jsonrepair copies its output with each member (64 KiB of nothing
// but short members: 0.2 s).
const maxRepairBytes = 64 << 10

// repair wins the value of a piece of text that is nearly JSON, if two readers that know nothing of each
// other find the same one, and if it satisfies the schema as it is.
//
// Neither reader alone would do. jsonrepair completes what was cut and fills in what is missing, which is a
// guess here, and it takes cubic time for unclosed quotes (4 KB of `"a ` 1.8 s) and a stack without bound.
// So our own reader, which refuses all that, goes first.
func repair(t *task.Task, text string, syntax error) (c *candidate, faults []schema.Violation, outcome string) {
	c = mend(text)
	if c == nil {
		return nil, syntaxFault("the answer is not valid JSON: %v", syntax), Invalid
	}
	if t.OutputSchema != nil {
		if faults = t.OutputSchema.Validate(c.value); faults != nil {
			return nil, faults, Invalid
		}
	}
	return c, nil, Repaired
}

// mend returns the value that both readers see in text, or nil.
func mend(text string) *candidate {
	if len(text) > maxRepairBytes {
		return nil
	}
	value, edits, ok := read(text)
	if !ok {
		return nil
	}
	repaired, err := secondReading(text)
	if err != nil {
		return nil
	}
	second, err := schema.Decode([]byte(repaired))
	if err != nil || !reflect.DeepEqual(value, second) {
		return nil
	}
	c := &candidate{text: repaired, value: value}
	for _, edit := range edits {
		c.notes = append(c.notes, "repaired "+edit)
	}
	return c
}

// secondReading keeps a panic of jsonrepair from taking the process down: the job would come back, and do
// it again.
func secondReading(text string) (repaired string, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("jsonrepair panicked: %v", cause)
		}
	}()
	return jsonrepair.Repair(text)
}
