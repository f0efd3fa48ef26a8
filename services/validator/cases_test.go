package validator

import (
	"slices"
	"strings"
	"testing"

	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
	"spillway/schemas"
)

// The cases that ship with the tasks say what comes of recorded answers.
func TestTheShippedCasesEndAsTheySay(t *testing.T) {
	t.Parallel()
	set, err := task.Load(schemas.FS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tk := range set.Tasks {
		for i := range tk.Cases {
			c := &tk.Cases[i]
			t.Run(tk.Name+" "+c.Name, func(t *testing.T) {
				t.Parallel()
				playCase(t, tk, c)
			})
		}
	}
}

func playCase(t *testing.T, tk *task.Task, c *task.Case) {
	t.Helper()
	j := answered("", "")
	j.Task, j.Input = tk.Name, c.Input
	var answers []job.Answer
	for _, a := range c.Answers {
		answers = append(answers, job.Answer{Content: a.Content, FinishReason: a.FinishReason, Refusal: a.Refusal})
	}
	first := Judge(tk, c.Input, &answers[0])
	for _, want := range c.Expect.Errors {
		if !slices.ContainsFunc(first.Faults, func(v schema.Violation) bool { return want.Matches(v) }) {
			t.Errorf("no fault %+v in %+v", want, first.Faults)
		}
	}
	h := handlerOf(t, tk)
	diverted := play(t, h, j, answers)
	switch got := j.Outcome; {
	case got == nil:
		if e := lastVerdict(t, j); e.Outcome != c.Expect.Verdict {
			t.Errorf("%s (%v), want %s", e.Outcome, diverted, c.Expect.Verdict)
		}
	case strings.Replace(got.Recovery, "strict", Valid, 1) != c.Expect.Verdict:
		t.Errorf("%s, want %s", got.Recovery, c.Expect.Verdict)
	case c.Expect.Output != nil && !same(t, got.Output, string(c.Expect.Output)):
		t.Errorf("%s, want %s", got.Output, c.Expect.Output)
	}
	if c.Expect.Calls != 0 && j.Calls != c.Expect.Calls {
		t.Errorf("%d calls, want %d", j.Calls, c.Expect.Calls)
	}
}
