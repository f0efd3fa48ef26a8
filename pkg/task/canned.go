package task

import (
	"errors"
	"fmt"

	"spillway/pkg/expr"
)

const cannedFile = "canned.yaml"

// Canned is a prepared answer. When is nil for the rule that always matches.
type Canned struct {
	When   *expr.Program
	Output []byte // canonical JSON
}

// canned reads canned.yaml.
func (t *taskLoader) canned() {
	text, ok := t.task.Files[cannedFile]
	if !ok {
		return
	}
	file := t.path(cannedFile)
	root, fault := parseYAML(file, text)
	switch {
	case fault != nil:
		t.add(*fault)
		return
	case root.kind != kindList || len(root.items) == 0:
		t.at(file, root, "must be a list of {when, output}, the last without when")
		return
	}
	for i, n := range root.items {
		t.cannedRule(file, n, i == len(root.items)-1)
	}
}

func (t *taskLoader) cannedRule(file string, n node, last bool) {
	m := t.mapping(file, n)
	var rule Canned
	when, conditional := m.get("when")
	switch {
	case conditional && last:
		t.at(file, when, "the last rule must always match: write one more without when")
	case !conditional && !last:
		t.at(file, n, "a rule without when always matches, so it must be the last")
	}
	if conditional {
		rule.When = t.expression(file, when, true)
	}
	output, ok := m.get("output")
	m.done()
	switch {
	case !ok && n.kind == kindMapping && t.task.Output.Format == FormatJSON && hasKey(n, "output"): // null may be valid
	case !ok:
		t.at(file, n, "a rule needs output")
		return
	case t.task.Output.Format == FormatText && output.kind != kindText:
		t.at(file, output, "output must be a text, as output.format is text, not %v", output.kind)
		return
	}
	t.satisfies(file, output, "the canned output", outputFile, t.task.OutputSchema)
	canonical, err := Canonical(output.json())
	if err != nil {
		t.at(file, output, "%v", err)
	}
	rule.Output = canonical
	t.task.Canned = append(t.task.Canned, rule)
}

func hasKey(n node, key string) bool {
	_, ok := n.child(key)
	return ok
}

// PickCanned returns the first prepared answer whose rule matches, counted from 1; 0: the task has none.
//
// A rule that reads a key which is not there does not match: the state of a new session is empty. The error
// joins what else went wrong in rules on the way, which are passed over; the index is right all the same.
func (t *Task) PickCanned(vars expr.Vars) (index int, err error) {
	var failed []error
	for i, rule := range t.Canned {
		if rule.When == nil {
			return i + 1, errors.Join(failed...)
		}
		matches, err := rule.When.Bool(vars)
		switch {
		case matches:
			return i + 1, errors.Join(failed...)
		case err != nil && !errors.Is(err, expr.ErrMissing):
			failed = append(failed, fmt.Errorf("rule %d of %s: %w", i+1, cannedFile, err))
		}
	}
	return 0, errors.Join(failed...)
}
