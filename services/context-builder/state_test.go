package contextbuilder

import (
	"encoding/json"
	"strings"
	"testing"

	"spillway/pkg/job"
)

func TestAnAnswerChangesTheStateAndThePromptSeesOnlyItsPart(t *testing.T) {
	t.Parallel()
	s := converse(t, stepTask, map[string]string{"prompt.tmpl": stateText})
	a := s.request("a", "first")
	if got := s.build(a)[0].Content; got != "Be kind." || a.State != nil {
		t.Errorf("%q, state %s", got, a.State)
	}
	s.answer(a, `{"say":"one","step":3}`)
	b := s.request("b", "second")
	if got := s.build(b)[0].Content; got != "Be kind. Step 3." || string(b.State) != `{"seen":1,"step":3}` {
		t.Errorf("%q, state %s", got, b.State)
	}
	s.answer(b, `{"say":"two"}`) // no step: that part stays
	c := s.request("c", "third")
	if s.build(c); string(c.State) != `{"seen":2,"step":3}` {
		t.Errorf("state %s", c.State)
	}
}

func TestAStateThatIsNotAllowedIsRefusedAsAWholeAndTold(t *testing.T) {
	t.Parallel()
	s := converse(t, stepTask, map[string]string{"prompt.tmpl": stateText})
	s.exchange("a", "first", `{"say":"one","step":3}`)
	s.exchange("b", "second", `{"say":"two","step":10}`) // beyond the schema's 9
	c := s.request("c", "third")
	s.build(c)
	if string(c.State) != `{"seen":1,"step":3}` {
		t.Errorf("state %s", c.State)
	}
	if e := c.History[len(c.History)-1]; e.Kind != job.KindContext || !strings.Contains(e.Detail, "the answer of b leaves the state as it was") || !strings.Contains(e.Detail, "/step") {
		t.Errorf("%+v", e)
	}
	if n := s.value("spillway_session_states_refused_total", "task=sample"); n != 1 {
		t.Errorf("%v refused", n)
	}
	s.answer(c, `{"say":"three","step":4}`)
	d := s.request("d", "fourth")
	if s.build(d); string(d.State) != `{"seen":3,"step":4}` {
		t.Errorf("state %s", d.State)
	}
}

func TestAStateThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: wide\ncontext: {session: optional, state: {update: {/said: output.say}}}", map[string]string{"state.schema.json": ""})
	s.exchange("a", "first", say("small"))
	s.exchange("b", "second", say(strings.Repeat("x", 33<<10)))
	c := s.request("c", "third")
	if s.build(c); string(c.State) != `{"said":"small"}` {
		t.Errorf("state of %d bytes", len(c.State))
	}
	if e := c.History[0]; !strings.Contains(e.Detail, "32768 is the most") {
		t.Errorf("%+v", e)
	}
}

func TestCannedAnswersChangeNoState(t *testing.T) {
	t.Parallel()
	s := converse(t, stepTask, map[string]string{"prompt.tmpl": stateText})
	a := s.request("a", "first")
	s.build(a)
	s.end(a, job.Outcome{Status: job.Degraded, Source: job.FromCanned, Output: json.RawMessage(`{"say":"canned","step":7}`)})
	b := s.request("b", "second")
	if got := spoken(s.build(b)); len(got) != 3 || got[1] != `a: {"say":"canned","step":7}` || b.State != nil {
		t.Errorf("%q, state %s", got, b.State)
	}
}

// What a request refused is told also when its prompt waits on, and is not made of the same record.
func TestARefusedStateIsToldByTheJobThatFoundIt(t *testing.T) {
	t.Parallel()
	s := converse(t, stepTask, map[string]string{"prompt.tmpl": stateText})
	a, b, c := s.request("a", "first"), s.request("b", "second"), s.request("c", "third")
	s.build(a)
	s.answer(a, `{"say":"one","step":10}`)
	if err := s.refused(c); !err.Waits() || len(c.History) != 1 || !strings.Contains(c.History[0].Detail, "the answer of a") {
		t.Errorf("%v, %+v", err, c.History)
	}
	s.build(b)
	if n := s.value("spillway_session_states_refused_total"); n != 1 || strings.Contains(b.History[0].Detail, "the answer of a") {
		t.Errorf("%v refused, %+v", n, b.History)
	}
}

// A record is for turns: inputs may have 256 KB each.
func TestAnInputIsKeptForTheStatesExpressionsThatReadItAlone(t *testing.T) {
	t.Parallel()
	for update, kept := range map[string]string{"output.say": "", "input.message + output.say": `{"message":"first"}`} {
		s := converse(t, "model: small\ncontext: {session: optional, state: {update: {/said: "+update+"}}}", map[string]string{"state.schema.json": ""})
		a := s.request("a", "first")
		s.build(a)
		if r := s.record(); r.Pending[0].User != "first" || string(r.Pending[0].Input) != kept {
			t.Errorf("%s: kept %q", update, r.Pending[0].Input)
		}
		s.answer(a, say(" one"))
		b := s.request("b", "second")
		if s.build(b); !strings.Contains(string(b.State), " one") {
			t.Errorf("%s: state %s", update, b.State)
		}
	}
}
