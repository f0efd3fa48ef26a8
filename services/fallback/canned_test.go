package fallback

import (
	"encoding/json"
	"testing"

	"spillway/pkg/broker"
	"spillway/pkg/expr"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

func TestCannedAnswersKnowTheStateOfTheSession(t *testing.T) {
	t.Parallel()
	rule := func(source, output string) task.Canned {
		p, err := expr.Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		return task.Canned{When: p, Output: json.RawMessage(output)}
	}
	tk := &task.Task{Name: "toy", Ladder: []task.Rung{{Kind: task.RungCanned}}, Canned: []task.Canned{
		rule(`state.intent == "exchange"`, `"by the state"`), rule(`session.id == "mine"`, `"by the session"`), {Output: []byte(`"any"`)},
	}}
	f := &fallback{tasks: task.NewBook(&task.Set{Tasks: map[string]*task.Task{"toy": tk}}), m: newMetrics(nil)}
	for _, row := range []struct{ state, session, want string }{
		{`{"intent":"exchange"}`, "other", `"by the state"`},
		{`{"intent":"inquiry"}`, "mine", `"by the session"`},
		{``, "mine", `"by the session"`},
		{`{}`, "other", `"any"`},
		{``, "", `"any"`},
		{`["intent"]`, "", `"any"`},
	} {
		j := &job.Job{
			ID: "a", Task: "toy", Run: 1, Input: json.RawMessage(`{}`), State: json.RawMessage(row.state), Session: row.session,
			Trouble: &job.Trouble{Stage: broker.Inference, Code: fate.ProviderTimeout},
		}
		if err := f.climb(t.Context(), j); err != nil || string(j.Outcome.Output) != row.want {
			t.Errorf("state %q, session %q: %v, %+v; want %s", row.state, row.session, err, j.Outcome, row.want)
		}
	}
}
