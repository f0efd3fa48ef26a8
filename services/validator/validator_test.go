package validator

import (
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// A row of the table of faults: what the model says to call after call, and how the validator ends it.
type row struct {
	name    string
	answers []job.Answer
	calls   int
	// code is why the job is diverted; "": it is not, and recovery says how the output was won.
	code     fate.Code
	recovery string
	verdicts string
}

func stop(content string) job.Answer { return job.Answer{Content: content, FinishReason: "stop"} }

func TestEachRowOfTheValidatorEndsAsOutcomesSay(t *testing.T) {
	t.Parallel()
	bad, cut := stop(`{"intent":"supp","urgency":0.9}`), job.Answer{Content: `{"intent":"sup`, FinishReason: "length"}
	for _, r := range []row{
		{"right at once", []job.Answer{stop(good)}, 1, "", "strict", "valid"},
		{"JSON in fences", []job.Answer{stop("```json\n" + good + "\n```")}, 1, "", "extracted", "extracted"},
		{"JSON in prose", []job.Answer{stop("Here: " + good + " I hope that helps.")}, 1, "", "extracted", "extracted"},
		{"a trailing comma", []job.Answer{stop(`{"intent":"support","urgency":0.9,"suggestedRoute":"/support",}`)}, 1, "", "repaired", "repaired"},
		{"off schema, right when told", []job.Answer{bad, stop(good)}, 2, "", "corrected", "invalid valid"},
		{"off schema, right when told, in fences", []job.Answer{bad, stop("```\n" + good + "\n```")}, 2, "", "corrected", "invalid extracted"},
		{"off schema, right at the second correction", []job.Answer{bad, bad, stop(good)}, 3, "", "corrected", "invalid invalid valid"},
		{"off schema for ever", []job.Answer{bad, bad, bad}, 3, fate.OutputInvalid, "", "invalid invalid invalid"},
		{"two answers, one when told", []job.Answer{stop(good + `{"intent":"inquiry","urgency":0}`), stop(good)}, 2, "", "corrected", "ambiguous valid"},
		{"cut, whole with more tokens", []job.Answer{cut, stop(good)}, 2, "", "strict", "truncated valid"},
		{"cut for ever", []job.Answer{cut, cut}, 2, fate.OutputTruncated, "", "truncated truncated"},
		{"cut, though what came is whole", []job.Answer{{Content: good, FinishReason: "length"}, stop(good)}, 2, "", "strict", "truncated valid"},
		{"a refusal", []job.Answer{{Refusal: "I can not help with that.", FinishReason: "stop"}}, 1, fate.Refused, "", "refusal"},
		{"a refusal beside an output", []job.Answer{{Content: good, Refusal: "No.", FinishReason: "stop"}}, 1, fate.Refused, "", "refusal"},
		{"the content filter", []job.Answer{{Content: good, FinishReason: "content_filter"}}, 1, fate.Refused, "", "refusal"},
		{"nothing", []job.Answer{stop("")}, 1, fate.ProviderEmpty, "", "empty"},
		{"blanks", []job.Answer{stop(" \n\t")}, 1, fate.ProviderEmpty, "", "empty"},
		{"larger than the task takes", []job.Answer{stop(`{"intent":"` + strings.Repeat("x", 64<<10) + `"}`)}, 1, fate.OutputTooLarge, "", "too_large"},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			h := handlerOf(t, taskOf(t, onboarding))
			j := answered("", "")
			err := play(t, h, j, r.answers)
			checkRow(t, &r, j, err)
		})
	}
}

// play gives the job one answer after the other, as inference would, until the handler asks for none.
func play(t *testing.T, h *Handler, j *job.Job, answers []job.Answer) *fate.Error {
	t.Helper()
	j.Calls = 0
	for i := range answers {
		j.Answer = &answers[i]
		j.Answer.AnsweredBy = "first-2026-01-01"
		j.Calls++
		j.Record(job.Event{Kind: job.KindCall, N: j.Calls, Model: j.Model, Outcome: "ok", InputTokens: 100, OutputTokens: 40})
		j.To, j.Attempts = "", 1
		err := handle(t, h, j)
		if err != nil || j.To == "" {
			return err
		}
		if j.To != broker.Inference || j.Answer != nil || j.Attempts != 0 {
			t.Fatalf("to %q, answer %v, %d attempts", j.To, j.Answer, j.Attempts)
		}
	}
	return nil
}

func checkRow(t *testing.T, r *row, j *job.Job, err *fate.Error) {
	t.Helper()
	var verdicts []string
	for _, e := range j.History {
		if e.Kind == job.KindVerdict {
			verdicts = append(verdicts, e.Outcome)
		}
	}
	if got := strings.Join(verdicts, " "); got != r.verdicts {
		t.Errorf("verdicts %q, want %q", got, r.verdicts)
	}
	if j.Calls != r.calls {
		t.Errorf("%d calls, want %d", j.Calls, r.calls)
	}
	if r.code != "" {
		if err == nil || err.Fate != fate.Divert || err.Code != r.code || j.Outcome != nil {
			t.Errorf("%v, outcome %v; want a diversion with %s", err, j.Outcome, r.code)
		}
		return
	}
	if err != nil || j.Outcome == nil {
		t.Fatalf("%v, outcome %v", err, j.Outcome)
	}
	o := j.Outcome
	if o.Status != job.Succeeded || o.Source != job.FromModel || o.Recovery != r.recovery || o.Degraded != nil || o.Error != nil {
		t.Errorf("%+v, want recovery %s", o, r.recovery)
	}
	if o.Model != firstModel || o.AnsweredBy != "first-2026-01-01" || !same(t, o.Output, good) {
		t.Errorf("%+v: %s", o, o.Output)
	}
	if j.Answer != nil || !j.Prompt.IsZero() || j.Correction != nil || j.Keep != nil || j.To != "" || len(j.Input) == 0 {
		t.Errorf("the job is not as result-writer wants it: %+v", j)
	}
}

func TestOnTheLadderAnAnswerIsDegradedAndTheJobIsKept(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for _, keep := range []bool{true, false} {
		tk.KeepDegraded = keep
		j := answered(good, "stop")
		j.Model = secondModel
		j.Trouble = &job.Trouble{Stage: broker.Inference, Code: fate.ProviderTimeout, Message: "silence"}
		j.Setback = &job.Trouble{Stage: broker.Inference, Code: fate.ProviderCut}
		if err := handle(t, handlerOf(t, tk), j); err != nil {
			t.Fatal(err)
		}
		o := j.Outcome
		if o.Status != job.Degraded || o.Model != secondModel || o.Source != job.FromModel || o.Recovery != "strict" {
			t.Errorf("%+v", o)
		}
		if d := o.Degraded; d == nil || d.Reason != fate.ProviderTimeout || d.Rung != "model" {
			t.Errorf("%+v", d)
		}
		if (j.Keep != nil) != keep {
			t.Fatalf("kept: %+v", j.Keep)
		}
		if keep && (j.Keep.Stage != broker.Inference || j.Keep.Code != fate.ProviderTimeout || j.Keep.Message != "silence" || !j.Keep.Degraded) {
			t.Errorf("%+v", j.Keep)
		}
	}
}

func TestTheOutputIsCompactAndKeepsTheModelsOrderAndDigits(t *testing.T) {
	t.Parallel()
	v := judged(t, taskOf(t, permissive), "{\n \"z\": 1.10,\n \"a\": \"<b> & \\u00e4\",\n \"n\": 12345678901234567890\n}")
	if want := `{"z":1.10,"a":"<b> & \u00e4","n":12345678901234567890}`; string(v.Output) != want {
		t.Errorf("%s, want %s", v.Output, want)
	}
}

func TestATextTaskTakesTheTextAsItIs(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, "")
	tk.Output.Format = task.FormatText
	for _, text := range []string{"Dear customer,\n\"quoted\" <b>ä</b> 😀", "```json\n{}\n```", good, " padded "} {
		j := answered(text, "stop")
		if err := handle(t, handlerOf(t, tk), j); err != nil {
			t.Fatal(err)
		}
		if want := encode(text); string(j.Outcome.Output) != string(want) || j.Outcome.Recovery != "strict" {
			t.Errorf("%s, %s", j.Outcome.Output, j.Outcome.Recovery)
		}
		if strings.Contains(string(j.Outcome.Output), `\u003c`) {
			t.Errorf("escaped for HTML: %s", j.Outcome.Output)
		}
	}
	for content, want := range map[string]string{"": Empty, "  ": Empty, "\ufeff\u200b\n": Empty, strings.Repeat("x", 65<<10): TooLarge} {
		if v := judged(t, tk, content); v.Outcome != want {
			t.Errorf("%d bytes: %s, want %s", len(content), v.Outcome, want)
		}
	}
}

func TestRulesHoldForTextsAndValuesAndAreToldInTheirOwnWords(t *testing.T) {
	t.Parallel()
	const say = "suggestedRoute is required when intent is support"
	tk := taskOf(t, onboarding)
	tk.Output.Rules = []task.Rule{rule(t, `output.intent != "support" || has(output.suggestedRoute)`, say)}
	v := judged(t, tk, `{"intent":"support","urgency":0.9}`)
	if v.Outcome != Invalid || v.Output != nil || len(v.Faults) != 1 || v.Faults[0].Message != say {
		t.Errorf("%+v", v)
	}
	for _, answer := range []string{good, `{"intent":"inquiry","urgency":0.1}`} {
		if v := judged(t, tk, answer); v.Outcome != Valid {
			t.Errorf("%s: %+v", answer, v)
		}
	}
	text := taskOf(t, "")
	text.Output.Format = task.FormatText
	text.Output.Rules = []task.Rule{rule(t, `output.contains(input.name)`, "name the customer")}
	for answer, want := range map[string]string{"Dear Ann": Valid, "Dear customer": Invalid} {
		a := stop(answer)
		if v := Judge(text, []byte(`{"name":"Ann"}`), &a); v.Outcome != want {
			t.Errorf("%s: %+v", answer, v)
		}
	}
}

func TestARuleThatCanNotBeEvaluatedDoesNotHold(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	tk.Output.Rules = []task.Rule{rule(t, `output.suggestedRoute.startsWith("/")`, "")}
	v := judged(t, tk, `{"intent":"support","urgency":0.9}`)
	if v.Outcome != Invalid || !strings.Contains(v.Faults[0].Message, "startsWith") {
		t.Errorf("%+v", v)
	}
	if v := judged(t, tk, good); v.Outcome != Valid {
		t.Errorf("%+v", v)
	}
}

func TestWithoutATaskOrAnAnswerTheJobIsDiverted(t *testing.T) {
	t.Parallel()
	h := handlerOf(t, taskOf(t, onboarding))
	unknown, unanswered := answered(good, "stop"), answered(good, "stop")
	unknown.Task, unanswered.Answer = "gone", nil
	for _, j := range []*job.Job{unknown, unanswered} {
		if err := handle(t, h, j); err == nil || err.Fate != fate.Divert || err.Code != fate.Internal {
			t.Errorf("%v", err)
		}
	}
}

func TestVerdictsAndCorrectionsAreCounted(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	registry := prometheus.NewRegistry()
	for range 2 { // two handlers of a process share the metrics
		h, err := New(&stage.Env{Metrics: registry, Tasks: &task.Set{Tasks: map[string]*task.Task{tk.Name: tk}}})
		if err != nil {
			t.Fatal(err)
		}
		h.now = handlerOf(t, tk).now
		for _, answer := range []string{good, "no", "```\n" + good + "\n```"} {
			handle(t, h, answered(answer, "stop"))
		}
	}
	want := map[string]float64{
		"spillway_outputs_total extracted sample": 2, "spillway_outputs_total strict sample": 2, "spillway_corrections_total sample": 2, "spillway_verdicts_total sample extracted": 2,
		"spillway_verdicts_total sample invalid": 2, "spillway_verdicts_total sample valid": 2, "spillway_drift_total invalid sample": 0,
	}
	if got := counted(t, registry); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// counted returns the counters by name and values of labels.
func counted(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			counts[name] = m.GetCounter().GetValue()
		}
	}
	return counts
}

func TestTheDefinitionNamesWhereTheValidatorSends(t *testing.T) {
	t.Parallel()
	d := Definition()
	if d.Name != "validator" || len(d.SendsOn) != 1 || d.SendsOn[0] != "inference" || !d.FinishesLate {
		t.Errorf("%+v", d)
	}
	if _, err := d.New(&stage.Env{}); err != nil {
		t.Error(err)
	}
}
