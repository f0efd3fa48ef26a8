package services_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// outcome is a row of the table of faults: what the fault of a model ends in.
type outcome struct {
	name  string
	fault fakellm.Fault
	// interactive and batch are the calls that the failing model gets.
	interactive, batch int
	// alone is how the run ends when only the task's first model has the fault.
	alone ending
	// code is why a run ends when all models have it and there is no canned answer; "": it succeeds.
	code fate.Code
	// called is the outcome that the history gives the failed calls; "": the code.
	called string
}

// ending is a status with what goes with it.
type ending struct {
	status   job.Status
	source   job.Source
	model    string
	recovery string
}

var (
	byOtherModel = ending{status: job.Degraded, source: job.FromModel, model: "large"}
	byCanned     = ending{status: job.Degraded, source: job.FromCanned}
)

func succeeded(recovery string) ending {
	return ending{status: job.Succeeded, source: job.FromModel, model: "small", recovery: recovery}
}

const ok = "ok"

// outcomes are the rows that need no breaker.
func outcomes() []outcome {
	fault := func(kind string) fakellm.Fault { return fakellm.Fault{Kind: kind} }
	return []outcome{
		{"429 that asks for a wait that fits", fakellm.Fault{Kind: "429", RetryAfter: 30 * time.Millisecond, Form: fakellm.FormMillis}, 2, 5, byOtherModel, fate.ProviderRateLimited, ""},
		{"429 that asks for an hour", fakellm.Fault{Kind: "429", RetryAfter: time.Hour}, 1, 1, byOtherModel, fate.ProviderRateLimited, ""},
		{"429 for an unpaid bill", fault("429_quota"), 1, 1, byOtherModel, fate.ProviderQuota, ""},
		{"401", fault("401"), 1, 1, byOtherModel, fate.ProviderAuth, ""},
		{"403", fault("403"), 1, 1, byOtherModel, fate.ProviderAuth, ""},
		{"404", fault("404"), 1, 1, byOtherModel, fate.ProviderRefusedRequest, ""},
		{"400", fault("400"), 1, 1, byOtherModel, fate.ProviderRefusedRequest, ""},
		{"500", fault("500"), 2, 5, byOtherModel, fate.ProviderUnavailable, ""},
		{"502 in HTML", fault("502"), 2, 5, byOtherModel, fate.ProviderUnavailable, ""},
		{"503", fault("503"), 2, 5, byOtherModel, fate.ProviderUnavailable, ""},
		{"529", fault("529"), 2, 5, byOtherModel, fate.ProviderUnavailable, ""},
		{"connection reset", fault("reset"), 2, 5, byOtherModel, fate.ProviderUnreachable, ""},
		{"hang before a header", fault("hang"), 1, 2, byOtherModel, fate.ProviderTimeout, ""},
		{"hang before the first token", fault("hang_headers"), 1, 2, byOtherModel, fate.ProviderTimeout, ""},
		{"silence after the first token", fault("silence"), 1, 2, byOtherModel, fate.ProviderTimeout, ""},
		{"slow drip", fakellm.Fault{Kind: "drip", Every: 200 * time.Millisecond}, 1, 2, byOtherModel, fate.ProviderTimeout, ""},
		{"stream cut without a finish reason", fault("cut"), 2, 5, byOtherModel, fate.ProviderCut, ""},
		{"stream without its end mark", fault("no_done"), 1, 1, succeeded("strict"), "", ok},
		{"200 with empty choices", fault("empty_choices"), 2, 5, byOtherModel, fate.ProviderEmpty, ""},
		{"200 with an error body", fault("error_body"), 2, 5, byOtherModel, fate.ProviderEmpty, ""},
		{"200 with HTML", fault("html"), 2, 5, byOtherModel, fate.ProviderEmpty, ""},
		{"one malformed chunk", fault("malformed_chunk"), 1, 1, succeeded("strict"), "", ok},
		{"comments in the stream", fault("comments"), 1, 1, succeeded("strict"), "", ok},
		{"JSON in fences", fault("fenced"), 1, 1, succeeded("extracted"), "", ok},
		{"JSON in prose", fault("prose"), 1, 1, succeeded("extracted"), "", ok},
		{"trailing comma", fault("trailing_comma"), 1, 1, succeeded("repaired"), "", ok},
		{"off schema, right when told", fault("off_schema_once_told"), 2, 2, succeeded("corrected"), "", ok},
		{"off schema for ever", fault("off_schema"), 3, 3, byOtherModel, fate.OutputInvalid, ok},
		{"cut at the token limit for ever", fault("length"), 2, 2, byOtherModel, fate.OutputTruncated, ok},
		{"cut at the token limit once", fakellm.Fault{Kind: "length_until", Tokens: 400}, 2, 2, succeeded("strict"), "", ok},
		{"refusal", fault("refusal"), 1, 1, byCanned, fate.Refused, ok},
		{"content filter", fault("content_filter"), 1, 1, byCanned, fate.Refused, ok},
		{"content filter of the prompt", fault("400_content_filter"), 1, 1, byCanned, fate.Refused, ""},
		{"context length exceeded", fault("context_length"), 1, 1, byOtherModel, fate.ContextTooLong, ""},
		{"answer over 1 MB", fault("huge"), 1, 1, byOtherModel, fate.OutputTooLarge, ""},
	}
}

// TestEachFaultEndsAsTheTableSays runs every row on both lanes: with the fault on the first model only, on
// all models, and on all models of a task without a canned answer. The calls are the provider's own count.
func TestEachFaultEndsAsTheTableSays(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	var onFirst, onBoth []fakellm.Fault
	for _, row := range outcomes() {
		f := row.fault
		f.Match = tag(row.name)
		onFirst = append(onFirst, f)
		f.Match = tag(row.name) + " on all models"
		onBoth = append(onBoth, f)
	}
	r.first.SetFaults(onFirst...)
	r.second.SetFaults(onBoth...)
	r.run()
	var asked []faultTrial
	for _, row := range outcomes() {
		asked = append(asked, r.try(row, job.Interactive, row.interactive), r.try(row, job.Batch, row.batch))
	}
	for _, a := range asked {
		t.Run(a.row.name+"/"+a.lane, func(t *testing.T) { r.fails(t, a) })
	}
}

// tag makes a row's name a part of the input that no other row's contains.
func tag(name string) string { return "[" + name + "]" }

// faultTrial is a row on a lane, under way: the requests' inputs and ids.
type faultTrial struct {
	row                   outcome
	lane                  string
	calls                 int
	first, all            string
	onFirst, onAll, noCan string
}

func (r *rig) try(row outcome, lane string, calls int) faultTrial {
	a := faultTrial{row: row, lane: lane, calls: calls}
	a.first = fmt.Sprintf("%s on the first model, %s", tag(row.name), lane)
	a.onFirst = r.ask(lane, "toy", a.first)
	if row.alone.status != job.Succeeded {
		a.all = fmt.Sprintf("%s on all models, %s", tag(row.name), lane)
		a.onAll = r.ask(lane, "toy", a.all)
		a.noCan = r.ask(lane, "models", a.all+", no canned answer")
	}
	return a
}

func (r *rig) fails(t *testing.T, a faultTrial) {
	row := a.row
	alone := r.result(a.onFirst, 1)
	check(t, "first model only", alone, row.alone)
	r.calls(t, "first model only", a.first, a.calls)
	r.historyTells(t, alone, row)
	if row.alone.status == job.Succeeded {
		return
	}
	if alone.Degraded == nil || alone.Degraded.Reason != row.code {
		t.Fatalf("first model only: degraded %+v, want because of %s", alone.Degraded, row.code)
	}
	check(t, "all models", r.result(a.onAll, 1), byCanned)
	r.calls(t, "all models", a.all, a.calls)
	failed := r.result(a.noCan, 1)
	check(t, "no canned answer", failed, ending{status: job.Failed})
	if failed.Error == nil || failed.Error.Code != row.code || failed.Error.Message == "" || failed.Error.DeadLetter == "" {
		t.Errorf("no canned answer: error %+v, want code %s", failed.Error, row.code)
	}
	if failed.Output != nil && string(failed.Output) != "null" {
		t.Errorf("no canned answer: output %s", failed.Output)
	}
}

func check(t *testing.T, what string, r *job.Result, want ending) {
	t.Helper()
	if r.Status != want.status || r.Source != want.source || r.Recovery != want.recovery && want.recovery != "" || want.model != "" && r.Model != want.model {
		t.Errorf("%s: ended as %s from %q by %q (%s), want %+v; error %+v\nhistory %s", what, r.Status, r.Source, r.Model, r.Recovery, want, r.Error, lines(r.History))
	}
	if r.Late {
		t.Errorf("%s: late", what)
	}
}

// calls compares with what the provider of the first model counted for this input.
func (r *rig) calls(t *testing.T, what, text string, want int) {
	t.Helper()
	if got := r.first.Counts().Nonces[fakellm.Nonce(text)]; got != want {
		t.Errorf("%s: the provider counted %d calls, want %d", what, got, want)
	}
}

// historyTells checks that a result alone says which calls were made, of which model, and how they ended.
func (r *rig) historyTells(t *testing.T, result *job.Result, row outcome) {
	t.Helper()
	want := row.called
	if want == "" {
		want = string(row.code)
	}
	calls := 0
	for _, e := range result.History {
		if e.Kind != job.KindCall {
			continue
		}
		calls++
		if e.Model == "small" && e.Outcome != want {
			t.Errorf("history: call %d of small ended as %q, want %q", e.N, e.Outcome, want)
		}
	}
	if calls != result.Usage.Calls {
		t.Errorf("history has %d calls, usage %d", calls, result.Usage.Calls)
	}
	if stages := result.History; len(stages) == 0 || stages[0].Stage != "ingest" {
		t.Errorf("history does not begin at ingest: %s", lines(result.History))
	}
}

func lines(history []job.Event) string {
	var b strings.Builder
	for _, e := range history {
		fmt.Fprintf(&b, "\n  %s %s%s %s%s %s %s %s", e.Kind, e.Stage, e.Model, e.Fate, e.Rung, e.Outcome, e.Code, e.Detail)
	}
	return b.String()
}

func TestAHealthyRequestSucceedsWithItsOwnAnswerAndAnAccount(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	text := "What is the mood?"
	result := r.result(r.ask(job.Interactive, "toy", text), 1)
	check(t, "healthy", result, succeeded("strict"))
	if !answersTo(result, text) {
		t.Errorf("output %s is not the answer to this input", result.Output)
	}
	sent := r.first.Requests("small-1")
	if len(sent) != 1 {
		t.Fatalf("the provider recorded %d requests", len(sent))
	}
	// Prices of the test's models.yaml, USD per million tokens.
	want := float64(result.Usage.InputTokens)*1/1e6 + float64(result.Usage.OutputTokens)*2/1e6
	if result.Usage.InputTokens == 0 || result.Usage.OutputTokens == 0 || diff(result.CostUSD, want) > 1e-12 {
		t.Errorf("usage %+v costs %g, want %g", result.Usage, result.CostUSD, want)
	}
	if result.AnsweredBy != "small-1" || result.TraceID == "" || result.V != 1 || result.Run != 1 || result.Supersedes != nil {
		t.Errorf("result %+v", result)
	}
	if !strings.Contains(sent[0].Header.Get("traceparent"), result.TraceID) {
		t.Errorf("the provider saw traceparent %q, the result has trace %s", sent[0].Header.Get("traceparent"), result.TraceID)
	}
}

func diff(a, b float64) float64 {
	if a < b {
		return b - a
	}
	return a - b
}

func TestATextTaskDeliversItsTextAsAJSONString(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	r.first.SetAnswer("small-1", "Plain words,\nin two lines.")
	result := r.result(r.ask(job.Interactive, "plain", "Say something."), 1)
	check(t, "text", result, succeeded("strict"))
	if string(result.Output) != `"Plain words,\nin two lines."` {
		t.Fatalf("output %s", result.Output)
	}
}

func TestTheCacheRungAnswersWithAnEarlierAnswerToTheSameInput(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	text := "What is the mood?"
	live := r.result(r.ask(job.Interactive, "toy", text), 1)
	check(t, "live", live, succeeded("strict"))
	r.first.SetFaults(fakellm.Fault{Kind: "401"})
	r.second.SetFaults(fakellm.Fault{Kind: "401"})
	cached := r.result(r.ask(job.Interactive, "toy", text), 1)
	check(t, "cached", cached, ending{status: job.Degraded, source: job.FromCache})
	if string(cached.Output) != string(live.Output) || cached.Degraded.Rung != "cache" || cached.Degraded.Reason != fate.ProviderAuth {
		t.Errorf("cached %s %+v, live %s", cached.Output, cached.Degraded, live.Output)
	}
	other := r.result(r.ask(job.Interactive, "toy", "Another question."), 1)
	check(t, "another input", other, byCanned)
	stranger := r.result(r.publish(job.Interactive, "toy", "", map[string]any{"tenant": "other", "input": map[string]string{"text": text}}), 1)
	check(t, "another tenant", stranger, byCanned)
	bypass := r.result(r.publish(job.Interactive, "toy", "", map[string]any{"cache": "bypass", "input": map[string]string{"text": text}}), 1)
	check(t, "bypass", bypass, byCanned)
}
