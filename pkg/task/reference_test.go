package task_test

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/pkg/expr"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

func reference(t testing.TB) *task.Set {
	t.Helper()
	set, err := task.Load(os.DirFS("testdata/reference"), nil)
	if err != nil {
		t.Fatalf("load the reference:\n%v", err)
	}
	return set
}

// The expected values are read off reference/task.yaml by hand.
func TestTheReferenceTaskLoadsAsItReads(t *testing.T) {
	t.Parallel()
	got := *reference(t).Tasks["onboarding"]
	got.Version, got.ShapeHash, got.Files = "", "", nil
	got.Input, got.OutputSchema, got.State, got.Prompt, got.Canned, got.Cases = nil, nil, nil, task.Prompt{}, nil, nil
	rule, updates := got.Output.Rules, got.Context.StateUpdate
	got.Output.Rules, got.Context.StateUpdate = nil, nil
	want := task.Task{
		Name: "onboarding", Description: "Finds what a new customer wants, how urgent it is, and where to send them.", Owner: "team-growth",
		Model: "small", Parameters: task.Parameters{Temperature: new(0.0), Seed: new(7), MaxOutputTokens: 300},
		MaxInputBytes: 262144, Lane: "interactive",
		Deadline: task.Deadline{Default: 60 * time.Second, Max: 10 * time.Minute, Reserve: 2 * time.Second},
		Retry: task.Retry{
			Attempts: 5, MaxCalls: 6, FirstDelay: 3 * time.Second, Factor: 2, MaxDelay: 30 * time.Second, Jitter: 0.2,
			RetryAfterMax: 60 * time.Second, InteractiveAttempts: 2, InteractiveFirstDelay: 500 * time.Millisecond,
		},
		OnOutage: task.OnOutage{Interactive: "degrade", Batch: "wait"},
		Ladder: []task.Rung{
			{Kind: "cache", MaxAge: 24 * time.Hour}, {Kind: "model", Model: "large"}, {Kind: "model", Model: "elsewhere"}, {Kind: "canned"},
		},
		AfterRefusal: "canned", KeepDegraded: true,
		Output: task.Output{
			Format: "json", MaxBytes: 65536, ProviderSchema: "auto", AdditionalProperties: "reject", OptionalNull: "drop", Repair: true, Stream: "draft",
		},
		Correction: task.Correction{Times: 2, MaxTokens: 4000, LastOn: "large", OnTruncation: "raise_once"},
		Context: task.Context{
			MaxInputTokens: 6000, Reserve: 0.2, Session: "optional", Order: "one_at_a_time", RecentTurns: 10,
			Summary: &task.Summary{Task: "summarize", MaxTokens: 400}, StateInPrompt: []string{"/intent", "/step"},
		},
		Cache:     task.Cache{Serve: "fallback", FreshFor: 10 * time.Minute, Keep: 168 * time.Hour, Scope: "tenant", Key: []string{}},
		Retention: task.Retention{Result: 24 * time.Hour, Dead: 720 * time.Hour, Session: 720 * time.Hour},
		Delivery:  task.Delivery{Postgres: true, Webhook: "allowed"},
		Redaction: task.Redaction{
			Detect: []string{"email", "phone", "card", "iban", "ip", "secret"}, Fields: []string{"/message", "/customer/name"}, LogContent: "debug",
		},
		Budget: task.Budget{USDPerRequest: 0.02},
	}
	if models := slices.Sorted(maps.Keys(got.Models)); !slices.Equal(models, []string{"elsewhere", "large", "small"}) {
		t.Errorf("it may call %v", models)
	}
	got.Models = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if len(rule) != 1 || rule[0].Name != "support-has-a-route" || rule[0].Say != "suggestedRoute is required when intent is support" ||
		rule[0].Expr.String() != `output.intent != "support" || has(output.suggestedRoute)` {
		t.Errorf("the rules are %+v", rule)
	}
	if len(updates) != 2 || updates[0].Pointer != "/intent" || updates[1].Expr.String() != "output.urgency" {
		t.Errorf("the updates are %+v", updates)
	}
}

func TestTheReferenceModelsLoadAsTheyRead(t *testing.T) {
	t.Parallel()
	set := reference(t)
	small, large, elsewhere := *set.Models["small"], *set.Models["large"], set.Models["elsewhere"]
	if small.AnswersAs != "gpt-4o-mini-2024-07-18" || small.ContextWindow != 128000 || small.MaxTokensField != "max_completion_tokens" || !small.Stream {
		t.Errorf("small is %+v", small)
	}
	if want := (task.Timeouts{Connect: 3 * time.Second, FirstToken: 8 * time.Second, Silence: 10 * time.Second, Call: 30 * time.Second}); small.Timeouts != want {
		t.Errorf("small's timeouts are %+v", small.Timeouts)
	}
	if want := (task.Breaker{ConsecutiveFailures: 5, FailureShare: 0.5, MinCalls: 5, Window: time.Minute, HalfOpenAfter: time.Minute, Probes: 1}); large.Breaker != want || small.Breaker != want {
		t.Errorf("the breakers are %+v and %+v", large.Breaker, small.Breaker)
	}
	if want := (task.Limits{Concurrency: 200, RequestsPerMinute: 5000, TokensPerMinute: 2000000, BatchShare: 0.5}); small.Limits != want {
		t.Errorf("small's limits are %+v", small.Limits)
	}
	if want := (task.Prices{AsOf: "2026-11-01", Input: 1, CachedInput: 1, Output: 5}); elsewhere.Prices != want || elsewhere.TokenSafety != 1.2 || elsewhere.Unsupported[0] != "seed" {
		t.Errorf("elsewhere is %+v", elsewhere)
	}
	azure := set.Providers["azure-eu"]
	if azure.Kind != "azure" || azure.APIVersion != "2024-10-21" || azure.APIKeyFile != "/run/secrets/azure-eu" || azure.RateLimitHeaders != "ignore" {
		t.Errorf("azure-eu is %+v", azure)
	}
	if set.Providers["local"].APIKey != "none" || set.Providers["simulated"].Kind != "simulated" {
		t.Error("local or simulated is wrong")
	}
}

func TestTheReferenceCasePlaysAsItReads(t *testing.T) {
	t.Parallel()
	got := reference(t).Tasks["onboarding"].Cases
	want := []task.Case{{
		Name: "prose-around-json", Input: []byte(`{"message":"My card is blocked!!"}`), State: []byte(`{}`),
		Answers: []task.CaseAnswer{
			{Content: `Sure! Here it is: {"intent": "supp", "urgency": 0.9}`, FinishReason: "stop"},
			{Content: `{"intent": "support", "urgency": 0.9, "suggestedRoute": "/support"}`, FinishReason: "stop"},
		},
		Expect: task.CaseExpect{
			Verdict: "corrected", Errors: []task.CaseError{{Pointer: "/intent", Got: "supp"}},
			Output: []byte(`{"intent":"support","suggestedRoute":"/support","urgency":0.9}`), Calls: 2,
		},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestAnExpectedErrorMatchesByPointerAndValue(t *testing.T) {
	t.Parallel()
	onboarding := reference(t).Tasks["onboarding"]
	value, _ := schema.Decode([]byte(`{"intent":"supp","urgency":0.9}`))
	violations := onboarding.OutputSchema.Validate(value)
	if len(violations) != 1 || !onboarding.Cases[0].Expect.Errors[0].Matches(violations[0]) {
		t.Errorf("the case's error does not match %v", violations)
	}
	for _, other := range []task.CaseError{{Pointer: "/intent", Got: "sup"}, {Pointer: "/urgency", Got: "supp"}} {
		if other.Matches(violations[0]) {
			t.Errorf("%+v matches %v", other, violations)
		}
	}
	if !(task.CaseError{Pointer: "/intent"}).Matches(violations[0]) {
		t.Error("an error without a value does not match by its pointer")
	}
}

func TestTheReferencePromptShowsOnlyWhatItMay(t *testing.T) {
	t.Parallel()
	onboarding := reference(t).Tasks["onboarding"]
	input := map[string]any{"message": "Hi {{.Schema}}"}
	for state, want := range map[string]string{
		`{}`: "You route new customers. Answer with one JSON object that satisfies this schema:\nSCHEMA\n",
		`{"intent":"exchange","secret":"s"}`: "You route new customers. Answer with one JSON object that satisfies this schema:\nSCHEMA\n" +
			"Known so far: the customer wants exchange.",
		`{"intent":null}`: "You route new customers. Answer with one JSON object that satisfies this schema:\nSCHEMA\n",
	} {
		members, _ := schema.Decode([]byte(state))
		system, examples, user, err := onboarding.Prompt.Render(task.PromptData{Input: input, State: members.(map[string]any), Schema: "SCHEMA"})
		if err != nil || system != want || user != "Hi {{.Schema}}" || examples != nil {
			t.Errorf("state %s: got %q, %q, %v", state, system, user, err)
		}
	}
}

func TestTheFirstCannedRuleThatMatchesAnswers(t *testing.T) {
	t.Parallel()
	onboarding := reference(t).Tasks["onboarding"]
	input := func(message string) map[string]any { return map[string]any{"message": message} }
	for name, test := range map[string]struct {
		vars expr.Vars
		want int
	}{
		"the intent is known":    {expr.Vars{Input: input("refund!"), State: map[string]any{"intent": "exchange"}}, 1},
		"the intent is another":  {expr.Vars{Input: input("REFUND!"), State: map[string]any{"intent": "inquiry"}}, 2},
		"a new session":          {expr.Vars{Input: input("my card is Blocked")}, 2},
		"nothing else matches":   {expr.Vars{Input: input("hello"), State: map[string]any{}}, 3},
		"the input lacks a part": {expr.Vars{Input: map[string]any{}}, 3},
	} {
		got, err := onboarding.PickCanned(test.vars)
		if err != nil || got != test.want {
			t.Errorf("%s: got rule %d, %v; want %d", name, got, err, test.want)
		}
	}
	got, err := onboarding.PickCanned(expr.Vars{Input: map[string]any{"message": true}})
	if got != 3 || err == nil || !strings.Contains(err.Error(), "rule 2 of canned.yaml") {
		t.Errorf("a rule that fails: got rule %d, %v; want 3 and its error", got, err)
	}
	if text := string(onboarding.Canned[0].Output); text != `{"intent":"exchange","suggestedRoute":"/exchange/start","urgency":0.5}` {
		t.Errorf("the first output is %s", text)
	}
}
