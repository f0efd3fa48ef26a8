package services_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker"
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
	// breaker is what a call that ends so does to it.
	breaker effect
	// alone is how the run ends when only the task's first model has the fault.
	alone ending
	// code is why a run ends when all models have it and there is no canned answer; "": it succeeds.
	code fate.Code
	// called is the outcome that the history gives the failed calls; "": the code.
	called string
}

// effect is what a failure means for the breakers.
type effect string

const (
	// counts: five in a row, or half of at least five in the window, open the model's.
	counts        effect = "counts"
	opensModel    effect = "opens the model's"
	opensProvider effect = "opens the provider's"
	never         effect = "never"
)

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

// outcomes are the rows of faults that the fake provider has.
func outcomes() []outcome {
	fault := func(kind string) fakellm.Fault { return fakellm.Fault{Kind: kind} }
	return []outcome{
		{"429 that asks for a wait that fits", fakellm.Fault{Kind: "429", RetryAfter: 30 * time.Millisecond, Form: fakellm.FormMillis}, 2, 5, counts, byOtherModel, fate.ProviderRateLimited, ""},
		{"429 that asks for an hour", fakellm.Fault{Kind: "429", RetryAfter: time.Hour}, 1, 1, counts, byOtherModel, fate.ProviderRateLimited, ""},
		{"429 for an unpaid bill", fault("429_quota"), 1, 1, opensProvider, byOtherModel, fate.ProviderQuota, ""},
		{"401", fault("401"), 1, 1, opensProvider, byOtherModel, fate.ProviderAuth, ""},
		{"403", fault("403"), 1, 1, opensProvider, byOtherModel, fate.ProviderAuth, ""},
		{"404", fault("404"), 1, 1, opensModel, byOtherModel, fate.ProviderRefusedRequest, ""},
		{"400", fault("400"), 1, 1, never, byOtherModel, fate.ProviderRefusedRequest, ""},
		{"500", fault("500"), 2, 5, counts, byOtherModel, fate.ProviderUnavailable, ""},
		{"502 in HTML", fault("502"), 2, 5, counts, byOtherModel, fate.ProviderUnavailable, ""},
		{"503", fault("503"), 2, 5, counts, byOtherModel, fate.ProviderUnavailable, ""},
		{"529", fault("529"), 2, 5, counts, byOtherModel, fate.ProviderUnavailable, ""},
		{"connection reset", fault("reset"), 2, 5, counts, byOtherModel, fate.ProviderUnreachable, ""},
		{"hang before a header", fault("hang"), 1, 2, counts, byOtherModel, fate.ProviderTimeout, ""},
		{"hang before the first token", fault("hang_headers"), 1, 2, counts, byOtherModel, fate.ProviderTimeout, ""},
		{"silence after the first token", fault("silence"), 1, 2, counts, byOtherModel, fate.ProviderTimeout, ""},
		{"slow drip", fakellm.Fault{Kind: "drip", Every: 200 * time.Millisecond}, 1, 2, counts, byOtherModel, fate.ProviderTimeout, ""},
		{"stream cut without a finish reason", fault("cut"), 2, 5, counts, byOtherModel, fate.ProviderCut, ""},
		{"stream without its end mark", fault("no_done"), 1, 1, never, succeeded("strict"), "", ok},
		{"200 with empty choices", fault("empty_choices"), 2, 5, counts, byOtherModel, fate.ProviderEmpty, ""},
		{"200 with an error body", fault("error_body"), 2, 5, counts, byOtherModel, fate.ProviderEmpty, ""},
		{"200 with empty content", fault("empty_content"), 2, 5, counts, byOtherModel, fate.ProviderEmpty, ""},
		{"error in the stream", fault("error_chunk"), 2, 5, counts, byOtherModel, fate.ProviderEmpty, ""},
		{"200 with HTML", fault("html"), 2, 5, counts, byOtherModel, fate.ProviderEmpty, ""},
		{"one malformed chunk", fault("malformed_chunk"), 1, 1, never, succeeded("strict"), "", ok},
		{"comments in the stream", fault("comments"), 1, 1, never, succeeded("strict"), "", ok},
		{"JSON in fences", fault("fenced"), 1, 1, never, succeeded("extracted"), "", ok},
		{"JSON in prose", fault("prose"), 1, 1, never, succeeded("extracted"), "", ok},
		{"trailing comma", fault("trailing_comma"), 1, 1, never, succeeded("repaired"), "", ok},
		{"off schema, right when told", fault("off_schema_once_told"), 2, 2, never, succeeded("corrected"), "", ok},
		{"off schema for ever", fault("off_schema"), 3, 3, never, byOtherModel, fate.OutputInvalid, ok},
		{"cut at the token limit for ever", fault("length"), 2, 2, never, byOtherModel, fate.OutputTruncated, ok},
		{"cut at the token limit once", fakellm.Fault{Kind: "length_until", Tokens: 400}, 2, 2, never, succeeded("strict"), "", ok},
		{"refusal", fault("refusal"), 1, 1, never, byCanned, fate.Refused, ok},
		{"content filter", fault("content_filter"), 1, 1, never, byCanned, fate.Refused, ok},
		{"content filter of the prompt", fault("400_content_filter"), 1, 1, never, byCanned, fate.Refused, ""},
		{"context length exceeded", fault("context_length"), 1, 1, never, byOtherModel, fate.ContextTooLong, ""},
		{"answer over 1 MB", fault("huge"), 1, 1, counts, byOtherModel, fate.OutputTooLarge, ""},
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
	brokertest.Eventually(t, 5*time.Second, "the answer is cached", func() bool {
		subjects, err := r.conn.SubjectsOf(t.Context(), broker.CacheStream, broker.AllCached)
		return err == nil && len(subjects) == 1
	})
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
