package lint

import (
	"errors"
	"fmt"

	"spillway/pkg/expr"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// canned reports rules of canned.yaml that can not match, or do not let others, and outputs that break the task's rules.
func (c *checker) canned() {
	inputs := c.inputs()
	seen := map[string]int{}
	always := 0
	for i, rule := range c.task.Canned {
		c.cannedOutput(i, rule, inputs)
		if rule.When == nil {
			continue
		}
		at := fmt.Sprintf("/%d/when", i)
		source := rule.When.String()
		switch before, isTwin := seen[source]; {
		case always > 0:
			c.yaml(Fault, cannedFile, at, "rule %d can never be reached: rule %d always matches; remove one of them", i+1, always)
			continue
		case isTwin:
			c.yaml(Fault, cannedFile, at, "rule %d can never be reached: rule %d has the same condition; remove one of them", i+1, before)
			continue
		}
		seen[source] = i + 1
		if c.cannedConstant(i, rule, at) {
			always = i + 1
		}
		c.cannedReads(i, rule, at)
		for _, input := range inputs {
			if _, err := rule.When.Bool(expr.Vars{Input: input}); err != nil && !errors.Is(err, expr.ErrMissing) {
				c.yaml(Fault, cannedFile, at, "rule %d fails, and so does not match, on the input %s: %v (write a condition that holds or does not)", i+1, schema.Render(input), err)
				break
			}
		}
	}
}

// cannedConstant reports a condition that does not depend on anything, and returns whether it always holds.
func (c *checker) cannedConstant(i int, rule task.Canned, at string) bool {
	if len(rule.When.Reads()) > 0 {
		return false
	}
	holds, err := rule.When.Bool(expr.Vars{})
	if err == nil && !holds {
		c.yaml(Fault, cannedFile, at, "rule %d can never match: its condition is always false; remove it", i+1)
	}
	return err == nil && holds
}

// cannedReads reports a condition on what is not there when a prepared answer is chosen.
func (c *checker) cannedReads(i int, rule task.Canned, at string) {
	for _, read := range rule.When.Reads() {
		switch {
		case read.Variable == "output":
			c.yaml(Fault, cannedFile, at, "rule %d can never match: it reads output, and a prepared answer is chosen where there is none; ask for input or state", i+1)
		case (read.Variable == "state" || read.Variable == "session") && c.task.Context.Session == task.SessionNone:
			c.yaml(Fault, cannedFile, at, "rule %d may never match: it reads %s, and the task has no session (context.session in %s is none)", i+1, read.Variable, manifestFile)
		}
	}
}

// cannedOutput holds a prepared answer to the rules that a model's answer must satisfy. One that speaks of the input is
// held to it for the inputs of cases that get this answer.
func (c *checker) cannedOutput(i int, canned task.Canned, inputs []any) {
	output, err := schema.Decode(canned.Output)
	if err != nil {
		return
	}
	for _, rule := range c.task.Output.Rules {
		if rule.Expr == nil {
			continue
		}
		for n, input := range inputs {
			chosen, _ := c.task.PickCanned(expr.Vars{Input: input})
			if isReal := n < len(c.task.Cases); readsInput(rule) && (!isReal || chosen != i+1) {
				continue
			}
			holds, err := rule.Expr.Bool(expr.Vars{Input: input, Output: output})
			if err == nil && holds {
				continue
			}
			because := rule.Say
			if err != nil {
				because = err.Error()
			}
			c.yaml(Fault, cannedFile, fmt.Sprintf("/%d/output", i), "the canned output breaks the rule %s of output.rules: %s (change one of the two)", rule.Name, because)
			break
		}
	}
}

func readsInput(rule task.Rule) bool {
	for _, read := range rule.Expr.Reads() {
		if read.Variable == "input" {
			return true
		}
	}
	return false
}
