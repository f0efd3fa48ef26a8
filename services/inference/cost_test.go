package inference

import (
	"math"
	"net/http"
	"strings"
	"testing"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

func TestACallCostsWhatItsTokensCost(t *testing.T) {
	t.Parallel()
	prices := task.Prices{Input: 2.50, CachedInput: 1.25, Output: 10}
	tests := []struct {
		tokens tokens
		prices task.Prices
		want   float64
	}{
		{tokens{input: 1_000_000}, prices, 2.50},
		{tokens{output: 1_000_000}, prices, 10},
		{tokens{input: 1_000_000, cached: 400_000}, prices, 0.6*2.50 + 0.4*1.25},
		{tokens{input: 100, cached: 400}, prices, 100 * 1.25 / 1e6},
		{tokens{input: 1_000_000, cached: 1_000_000}, task.Prices{Input: 2.50}, 2.50},
		{tokens{}, prices, 0},
	}
	for _, tt := range tests {
		if got := tt.tokens.cost(tt.prices); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("%+v cost %v, want %v", tt.tokens, got, tt.want)
		}
	}
}

func TestUsageIsTheProvidersWhereItSendsOne(t *testing.T) {
	t.Parallel()
	report := `{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":0}}}`
	b := setup(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req_1")
		stream(delta("hello"), stop, report, done)(w, r)
	}))
	j := newJob(job.Batch)
	if err := b.Handle(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	e := calls(j)[0]
	const cost = (100*1 + 20*10) / 1e6
	if e.CountedTokens != 12 || e.InputTokens != 100 || e.OutputTokens != 20 || e.CostUSD != cost || e.Detail != "" || e.ProviderRequestID != "req_1" {
		t.Errorf("event %+v", e)
	}
	if want := (job.Usage{InputTokens: 100, OutputTokens: 20, Calls: 1}); j.Usage != want || j.CostUSD != cost {
		t.Errorf("usage %+v, cost %v", j.Usage, j.CostUSD)
	}
	for name, want := range map[string]float64{
		"spillway_calls_total": 1, "spillway_call_seconds": 1, "spillway_first_token_seconds": 1,
		"spillway_tokens_total": 132, "spillway_cost_usd_total": cost, "spillway_calls_repeated_total": 0,
	} {
		if got := b.value(t, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if b.value(t, "spillway_calls_total", "model=small", "outcome=ok") != 1 || b.value(t, "spillway_tokens_total", "task=greet", "model=small", "direction=output") != 20 ||
		b.value(t, "spillway_tokens_total", "direction=counted") != 12 || b.value(t, "spillway_cost_usd_total", "task=greet") != cost {
		t.Error("the labels are not as they should be")
	}
}

func TestUsageIsEstimatedAndSaidToBeWhereTheProviderSendsNone(t *testing.T) {
	t.Parallel()
	j := newJob(job.Batch)
	j.Correction = []job.Message{{Role: "user", Content: "12345678"}}
	if err := setup(t, serve(t, stream(delta("12345678901234567890"), stop, done))).Handle(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	e := calls(j)[0]
	if e.InputTokens != j.PromptTokens+2 || e.CountedTokens != j.PromptTokens+2 || e.OutputTokens != 5 || !strings.Contains(e.Detail, "estimated") {
		t.Errorf("event %+v", e)
	}
}

func TestFailedCallsThatCostTokensAreCounted(t *testing.T) {
	t.Parallel()
	cut := setup(t, serve(t, stream(delta("12345678"))))
	j := newJob(job.Batch)
	wantFate(t, cut.Handle(t.Context(), j), fate.Retry, fate.ProviderCut)
	if e := calls(j)[0]; e.OutputTokens != 2 || e.InputTokens != 12 || j.CostUSD != (12*1+2*10)/1e6 {
		t.Errorf("event %+v, cost %v", e, j.CostUSD)
	}
	refused := setup(t, serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	j = newJob(job.Batch)
	wantFate(t, refused.Handle(t.Context(), j), fate.Retry, fate.ProviderUnavailable)
	if e := calls(j)[0]; e.OutputTokens != 0 || e.InputTokens != 0 || j.CostUSD != 0 {
		t.Errorf("event %+v, cost %v", e, j.CostUSD)
	}
}

func TestMalformedChunksThatWereSkippedAreSaid(t *testing.T) {
	t.Parallel()
	j := newJob(job.Batch)
	if err := setup(t, serve(t, stream(delta("hello"), "{oops", stop, done))).Handle(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if e := calls(j)[0]; !strings.Contains(e.Detail, "1 malformed") {
		t.Errorf("detail %q", e.Detail)
	}
}
