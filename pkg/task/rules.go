package task

import (
	"fmt"

	"spillway/pkg/expr"
	"spillway/pkg/schema"
)

// Broken returns the semantic rules of the task that do not hold for an output to the input, which is JSON; nil: all hold.
//
// A rule that can not be evaluated, say because it reads an optional property that is not there, does not
// hold: nothing is delivered that was not checked.
func (t *Task) Broken(input []byte, output any) []schema.Violation {
	if len(t.Output.Rules) == 0 {
		return nil
	}
	// Ingest checked the input. If it can not be read here, the rules that need it do not hold.
	in, _ := schema.Decode(input)
	var faults []schema.Violation
	for _, rule := range t.Output.Rules {
		holds, err := rule.Expr.Bool(expr.Vars{Input: in, Output: output})
		if err == nil && holds {
			continue
		}
		say := rule.Say
		if say == "" {
			say = fmt.Sprintf("breaks the rule %s: %s", rule.Name, rule.Expr)
		}
		faults = append(faults, schema.Violation{Rule: rule.Name, Message: say})
	}
	return faults
}
