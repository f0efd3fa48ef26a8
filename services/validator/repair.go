package validator

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kaptinlin/jsonrepair"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// Bounds of what is repaired. jsonrepair copies its output, up to three times, with each member or item, so beside the
// length its product with their number is bounded: 64 KiB with 600 commas, colons and braces, 16 KiB with 2,500. Beyond it,
// 64 KiB of nothing but short members take 2 s and 1.7 GB.
const (
	maxRepairBytes = 64 << 10
	maxRepairWork  = 40 << 20
)

func isRepairable(text string) bool {
	parts := strings.Count(text, ",") + strings.Count(text, ":") + strings.Count(text, "{")
	return len(text) <= maxRepairBytes && parts*len(text) <= maxRepairWork
}

// repair wins the value of a piece of text that is nearly JSON, if two readers that know nothing of each
// other find the same one, and if it satisfies the schema as it is.
//
// Neither reader alone would do. jsonrepair completes what was cut and fills in what is missing, which is a
// guess here, and it takes cubic time for unclosed quotes (4 KB of `"a ` 1.8 s) and a stack without bound.
// So our own reader, which refuses all that, goes first.
func repair(t *task.Task, text string, choices []string, syntax error) (c *candidate, faults []schema.Violation, outcome string) {
	c, r := mend(text, choices)
	if c == nil {
		return nil, syntaxFault("the answer is not valid JSON: %v", syntax), Invalid
	}
	if faults = c.satisfyRepaired(t); faults != nil {
		return nil, faults, Invalid
	}
	if r.bare > 0 && !areChoices(t.OutputSchema, text, choices, r.bare) {
		return nil, syntaxFault("the answer is not valid JSON: %v", syntax), Invalid
	}
	return c, nil, Repaired
}

// mend returns the value that both readers see in text, or nil.
func mend(text string, choices []string) (*candidate, *reader) {
	if !isRepairable(text) {
		return nil, nil
	}
	value, r, ok := read(text, choices)
	if !ok {
		return nil, nil
	}
	repaired, err := secondReading(r.plain())
	if err != nil {
		return nil, nil
	}
	second, err := decodeSecond(repaired, r.twice)
	if err != nil || !equal(value, second) {
		return nil, nil
	}
	c := &candidate{text: repaired, value: value, changed: r.twice}
	for _, edit := range r.edits {
		c.notes = append(c.notes, "repaired "+edit)
	}
	return c, r
}

// decodeSecond decodes strictly, unless our reader has found a key given twice with one value: then either
// will do.
func decodeSecond(text string, twice bool) (value any, err error) {
	if !twice {
		return schema.Decode([]byte(text))
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	err = d.Decode(&value)
	return value, err
}

// areChoices reports whether each of the words without quotes stands where the schema lists choices, and not
// where any text may stand: with a sign more, each must be a choice no longer.
func areChoices(s *schema.Schema, text string, choices []string, bare int) bool {
	value, _, ok := readAs(text, choices, "\x00")
	if !ok || s == nil {
		return false
	}
	for _, fault := range s.Validate(value) {
		if fault.Rule == "enum" || fault.Rule == "const" {
			bare--
		}
	}
	return bare == 0
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
