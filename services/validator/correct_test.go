package validator

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

const offSchema = `{"intent":"supp","urgency":7}`

func TestACorrectionTellsTheModelItsLastAnswerAndEachFaultInPlainWords(t *testing.T) {
	t.Parallel()
	h := handlerOf(t, taskOf(t, onboarding))
	j := answered(offSchema, "stop")
	if err := handle(t, h, j); err != nil {
		t.Fatal(err)
	}
	if j.To != broker.Inference || j.Corrections != 1 || j.Answer != nil || j.Model != firstModel || j.Prompt.IsZero() {
		t.Fatalf("%+v", j)
	}
	if len(j.Correction) != 2 || j.Correction[0].Role != "assistant" || j.Correction[1].Role != "user" {
		t.Fatalf("%+v", j.Correction)
	}
	if j.Correction[0].Content != offSchema {
		t.Errorf("the model's answer became %q", j.Correction[0].Content)
	}
	for _, want := range []string{"/intent", "/urgency", "supp", "exchange", "7", "corrected JSON only"} {
		if !strings.Contains(j.Correction[1].Content, want) {
			t.Errorf("%q is not in %q", want, j.Correction[1].Content)
		}
	}
	for _, trace := range []string{"goroutine", "json:", "jsontext", "&{", "map["} {
		if strings.Contains(j.Correction[1].Content, trace) {
			t.Errorf("%q is no plain word: %q", trace, j.Correction[1].Content)
		}
	}
}

func TestTheSecondCorrectionShowsOnlyTheLastBadAnswer(t *testing.T) {
	t.Parallel()
	h := handlerOf(t, taskOf(t, onboarding))
	j := answered(offSchema, "stop")
	handle(t, h, j)
	j.Answer = &job.Answer{Content: "Sorry! It is a support matter.", FinishReason: "stop"}
	j.Calls++
	handle(t, h, j)
	if len(j.Correction) != 2 || j.Correction[0].Content != "Sorry! It is a support matter." || j.Corrections != 2 {
		t.Errorf("%+v", j.Correction)
	}
	if strings.Contains(j.Correction[1].Content, "supp\"") {
		t.Errorf("the first answer is still told: %q", j.Correction[1].Content)
	}
}

func TestATextIsCorrectedAsText(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, "")
	tk.Output.Format = task.FormatText
	tk.Output.Rules = []task.Rule{rule(t, `size(output) < 10`, "be shorter than ten characters")}
	j := answered("much longer than that", "stop")
	if err := handle(t, handlerOf(t, tk), j); err != nil {
		t.Fatal(err)
	}
	if told := j.Correction[1].Content; strings.Contains(told, "JSON") || !strings.Contains(told, "be shorter") || !strings.Contains(told, "corrected text only") {
		t.Errorf("%q", told)
	}
}

func TestALongBadAnswerIsShownWithoutItsMiddle(t *testing.T) {
	t.Parallel()
	h := handlerOf(t, taskOf(t, onboarding))
	answer := "begin " + strings.Repeat("誕", 10_000) + " end"
	j := answered(answer, "stop")
	if err := handle(t, h, j); err != nil {
		t.Fatal(err)
	}
	shown := j.Correction[0].Content
	if len(shown) > maxExcerpt || len(shown) < maxExcerpt-16 || !utf8.ValidString(shown) {
		t.Errorf("%d bytes, valid %t", len(shown), utf8.ValidString(shown))
	}
	if !strings.HasPrefix(shown, "begin ") || !strings.HasSuffix(shown, " end") || !strings.Contains(shown, "[…]") {
		t.Errorf("%.20q … %q", shown, shown[len(shown)-20:])
	}
}

func TestManyFaultsAreToldInPart(t *testing.T) {
	t.Parallel()
	answer := `{"intent":"support","urgency":1` + strings.Repeat(`,"x":1`, 0)
	for i := range 40 {
		answer += `,"extra` + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + `":1`
	}
	j := answered(answer+"}", "stop")
	if err := handle(t, handlerOf(t, taskOf(t, onboarding)), j); err != nil {
		t.Fatal(err)
	}
	if told := j.Correction[1].Content; strings.Count(told, "\n- ") != maxTold+1 || !strings.Contains(told, "- and 28 more\n") {
		t.Errorf("%q", told)
	}
	if e := lastVerdict(t, j); !strings.Contains(e.Detail, "and 37 more") || len(e.Detail) > job.MaxDetail {
		t.Errorf("%q", e.Detail)
	}
}

func TestTheLastCorrectionIsAskedOfTheModelThatTheTaskNames(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	tk.Correction.LastOn = secondModel
	h := handlerOf(t, tk)
	j := answered(offSchema, "stop")
	for _, want := range []string{firstModel, secondModel} {
		j.Answer = &job.Answer{Content: offSchema, FinishReason: "stop"}
		if err := handle(t, h, j); err != nil || j.Model != want {
			t.Fatalf("%v, model %s, want %s", err, j.Model, want)
		}
	}
	j.Answer = &job.Answer{Content: good, FinishReason: "stop", AnsweredBy: "second-2026-01-01"}
	if err := handle(t, h, j); err != nil {
		t.Fatal(err)
	}
	if o := j.Outcome; o.Status != job.Succeeded || o.Model != secondModel || o.Recovery != "corrected" {
		t.Errorf("%+v", o)
	}
}

func TestOnTheLadderTheLastCorrectionStaysWithTheRungsModel(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	tk.Correction = task.Correction{Times: 1, MaxTokens: 4000, LastOn: secondModel}
	j := answered(offSchema, "stop")
	j.Trouble = &job.Trouble{Stage: broker.Inference, Code: fate.ProviderTimeout}
	if err := handle(t, handlerOf(t, tk), j); err != nil || j.Model != firstModel || j.Corrections != 1 {
		t.Errorf("%v, model %s", err, j.Model)
	}
}

func TestAnAnswerOfAnotherModelThatNeededNoCorrectionIsNotCalledCorrected(t *testing.T) {
	t.Parallel()
	j := answered(good, "stop")
	j.Trouble = &job.Trouble{Stage: broker.Validator, Code: fate.OutputInvalid}
	j.Model, j.Corrections = secondModel, 2
	if err := handle(t, handlerOf(t, taskOf(t, onboarding)), j); err != nil || j.Outcome.Recovery != "strict" {
		t.Errorf("%v, %+v", err, j.Outcome)
	}
}

func TestEachLimitOfCorrectionsHolds(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		set  func(*task.Task, *job.Job)
		code fate.Code
		says string
	}{
		"none in the task":        {func(tk *task.Task, _ *job.Job) { tk.Correction.Times = 0 }, fate.OutputInvalid, "no corrections"},
		"all made":                {func(_ *task.Task, j *job.Job) { j.Corrections = 2 }, fate.OutputInvalid, "2 of 2"},
		"all calls spent":         {func(_ *task.Task, j *job.Job) { j.Calls = 6 }, fate.OutputInvalid, "6 calls"},
		"all tokens spent":        {func(_ *task.Task, j *job.Job) { j.CorrectionTokens = 4000 }, fate.OutputInvalid, "4000 tokens"},
		"no time but the reserve": {func(_ *task.Task, j *job.Job) { j.Deadline = now.Add(2900 * time.Millisecond) }, fate.OutputInvalid, "no time"},
		"after the deadline":      {func(_ *task.Task, j *job.Job) { j.Deadline = now }, fate.Deadline, "deadline"},
		"long after the deadline": {func(_ *task.Task, j *job.Job) { j.Deadline = now.Add(-time.Hour) }, fate.Deadline, "deadline"},
		"no room in the window":   {func(_ *task.Task, j *job.Job) { j.PromptTokens = 7950 }, fate.OutputInvalid, "window"},
		"no room, without limit":  {func(_ *task.Task, j *job.Job) { j.PromptTokens, j.MaxOutputTokens = 7990, 0 }, fate.OutputInvalid, "window"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tk, j := taskOf(t, onboarding), answered(offSchema, "stop")
			row.set(tk, j)
			before := j.Corrections
			err := handle(t, handlerOf(t, tk), j)
			if err == nil || err.Fate != fate.Divert || err.Code != row.code || !strings.Contains(err.Message, row.says) {
				t.Fatalf("%v", err)
			}
			if row.code == fate.OutputInvalid && !strings.Contains(err.Message, "/intent") {
				t.Errorf("the message does not say what was wrong: %s", err.Message)
			}
			if j.Corrections != before || j.To != "" || j.Answer == nil {
				t.Errorf("the job was changed: %+v", j)
			}
			if e := lastVerdict(t, j); e.Outcome != Invalid || !strings.Contains(e.Detail, "/intent") {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestALittleMoreThanTheReserveIsTimeEnough(t *testing.T) {
	t.Parallel()
	j := answered(offSchema, "stop")
	j.Deadline = now.Add(3 * time.Second) // acknowledged 10 s ago: the reserve is the task's 2 s
	if err := handle(t, handlerOf(t, taskOf(t, onboarding)), j); err != nil || j.To != broker.Inference {
		t.Errorf("%v", err)
	}
}

func TestAValidAnswerIsTakenAlsoAfterTheDeadline(t *testing.T) {
	t.Parallel()
	j := answered(good, "stop")
	j.Deadline = now.Add(-time.Minute)
	if err := handle(t, handlerOf(t, taskOf(t, onboarding)), j); err != nil || j.Outcome == nil || j.Outcome.Status != job.Succeeded {
		t.Errorf("%v, %+v", err, j.Outcome)
	}
}

func TestOnlyTheCallsOfCorrectionsAreChargedToThem(t *testing.T) {
	t.Parallel()
	h := handlerOf(t, taskOf(t, onboarding))
	j := answered(offSchema, "stop") // its call took 140 tokens, and was no correction
	if err := handle(t, h, j); err != nil || j.CorrectionTokens != 0 {
		t.Fatalf("%v, %d tokens", err, j.CorrectionTokens)
	}
	j.Answer = &job.Answer{Content: offSchema, FinishReason: "stop"}
	j.Record(job.Event{Kind: job.KindCall, Model: firstModel, Outcome: "ok", InputTokens: 200, OutputTokens: 50})
	j.Record(job.Event{Kind: job.KindHop, Stage: broker.Inference})
	if err := handle(t, h, j); err != nil || j.CorrectionTokens != 250 {
		t.Fatalf("%v, %d tokens", err, j.CorrectionTokens)
	}
	j.Answer = &job.Answer{Content: good, FinishReason: "stop"}
	j.Record(job.Event{Kind: job.KindCall, Model: firstModel, Outcome: "ok", InputTokens: 210, OutputTokens: 40})
	if err := handle(t, h, j); err != nil || j.CorrectionTokens != 500 {
		t.Fatalf("%v, %d tokens", err, j.CorrectionTokens)
	}
}

func TestTheCorrectedAnswerLeavesRoomForTheDialogue(t *testing.T) {
	t.Parallel()
	j := answered(offSchema, "stop")
	j.PromptTokens, j.MaxOutputTokens = 7000, 1000 // the whole window of 8000
	if err := handle(t, handlerOf(t, taskOf(t, onboarding)), j); err != nil {
		t.Fatal(err)
	}
	dialogue := len(j.Correction[0].Content) + len(j.Correction[1].Content)
	if most := 1000 - dialogue/4; j.MaxOutputTokens > most || j.MaxOutputTokens < 500 {
		t.Errorf("%d tokens, beside a dialogue of %d bytes", j.MaxOutputTokens, dialogue)
	}
}
