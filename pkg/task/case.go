package task

import (
	"math"
	"path"
	"slices"
	"strings"

	"spillway/pkg/schema"
)

const casesDir = "cases/"

// Case is a recorded example of cases/*.yaml.
type Case struct {
	Name    string
	Input   []byte // JSON
	State   []byte // JSON
	Answers []CaseAnswer
	Expect  CaseExpect
}

// CaseAnswer is what the model said to one call.
type CaseAnswer struct {
	Content      string
	FinishReason string
	Refusal      string
}

// CaseExpect is what must come of it.
type CaseExpect struct {
	Verdict string
	Errors  []CaseError
	Output  []byte // JSON; nil: not checked
	Calls   int    // 0: not checked
}

// CaseError is one expected error of the first answer.
type CaseError struct {
	Pointer string
	Got     any
}

// verdicts are what can come of an answer.
func verdicts() []string {
	return []string{"valid", "extracted", "repaired", "corrected", "invalid", "refusal", "truncated", "empty", "ambiguous"}
}

// cases reads cases/*.yaml, in the order of their names.
func (t *taskLoader) cases() {
	var names []string
	for name := range t.task.Files {
		inside, ok := strings.CutPrefix(name, casesDir)
		switch {
		case !ok:
		case path.Ext(name) == ".yaml" && !strings.Contains(inside, "/"):
			names = append(names, name)
		default:
			t.file(t.path(name), "cases/ holds only *.yaml")
		}
	}
	slices.Sort(names)
	for _, name := range names {
		t.readCase(name)
	}
}

func (t *taskLoader) readCase(name string) {
	file := t.path(name)
	root, fault := parseYAML(file, t.task.Files[name])
	if fault != nil {
		t.add(*fault)
		return
	}
	m := t.mapping(file, root)
	c := Case{Name: strings.TrimSuffix(path.Base(name), ".yaml"), State: []byte("{}")}
	if input, ok := m.get("input"); ok {
		t.satisfies(file, input, "the input", inputFile, t.task.Input)
		c.Input = t.canonical(file, input)
	} else {
		t.at(file, node{line: 1}, "a case needs input")
	}
	if state, ok := m.get("state"); ok {
		if state.kind != kindMapping {
			t.at(file, state, "state must be a mapping, not %v", state.kind)
		} else if len(state.members) > 0 { // a new session has none, whatever is required of one
			t.satisfies(file, state, "the state", stateFile, t.task.State)
		}
		c.State = t.canonical(file, state)
	}
	t.caseAnswers(m, &c)
	t.caseExpect(m, &c)
	m.done()
	t.task.Cases = append(t.task.Cases, c)
}

func (t *taskLoader) canonical(file string, n node) []byte {
	text, err := Canonical(n.json())
	if err != nil {
		t.at(file, n, "%v", err)
	}
	return text
}

// caseAnswers reads one answer, or a list of one a call.
func (t *taskLoader) caseAnswers(m *mapping, c *Case) {
	n, ok := m.get("answer")
	if !ok {
		t.at(m.file, node{line: 1}, "a case needs answer: what the model said")
		return
	}
	items := n.items
	if n.kind != kindList {
		items = []node{n}
	}
	for _, item := range items {
		a := t.mapping(m.file, item)
		answer := CaseAnswer{FinishReason: "stop"}
		a.text("content", &answer.Content)
		a.text("finish_reason", &answer.FinishReason)
		a.text("refusal", &answer.Refusal)
		a.done()
		c.Answers = append(c.Answers, answer)
	}
}

func (t *taskLoader) caseExpect(m *mapping, c *Case) {
	n, ok := m.get("expect")
	if !ok {
		t.at(m.file, node{line: 1}, "a case needs expect: what must come of the answer")
		return
	}
	e := t.mapping(m.file, n)
	e.choice("verdict", &c.Expect.Verdict, verdicts()...)
	if _, ok := e.get("verdict"); !ok {
		t.at(m.file, n, "expect needs verdict: %s", anyOf(verdicts()))
	}
	e.integer("calls", &c.Expect.Calls, 1, math.MaxInt32)
	if output, ok := e.get("output"); ok {
		t.satisfies(m.file, output, "the expected output", outputFile, t.task.OutputSchema)
		c.Expect.Output = t.canonical(m.file, output)
	}
	items, _ := e.list("errors")
	for _, item := range items {
		one := t.mapping(m.file, item)
		var expected CaseError
		if place, ok := one.text("pointer", &expected.Pointer); ok {
			one.pointer(place)
		} else {
			t.at(m.file, item, "an expected error needs pointer")
		}
		if got, ok := one.get("got"); ok {
			expected.Got = got.json()
		}
		one.done()
		c.Expect.Errors = append(c.Expect.Errors, expected)
	}
	e.done()
}

// Matches reports whether a violation is the expected error: by its pointer, and by the value if one is
// expected.
func (e CaseError) Matches(v schema.Violation) bool {
	if e.Pointer != v.Pointer {
		return false
	}
	return e.Got == nil || schema.Render(e.Got) == v.Got
}
