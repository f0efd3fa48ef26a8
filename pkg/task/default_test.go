package task_test

import (
	"reflect"
	"testing"
	"time"

	"spillway/pkg/task"
)

// The expected values are those of reference/task.yaml that no remark calls "set".
func TestATaskThatOnlyNamesItsModelHasAllDefaults(t *testing.T) {
	t.Parallel()
	set := good().mustLoad(t)
	got := *set.Tasks["demo"]
	if got.Input == nil || got.OutputSchema == nil || got.State != nil || got.Prompt.System == nil || got.Prompt.User == nil {
		t.Errorf("the schemas or the prompt are wrong: %+v", got)
	}
	got.Version, got.ShapeHash, got.Files, got.Input, got.OutputSchema, got.Prompt = "", "", nil, nil, nil, task.Prompt{}
	want := task.Task{
		Name: "demo", Model: "small", MaxInputBytes: 256 << 10, Lane: "interactive",
		Deadline: task.Deadline{Default: time.Minute, Max: 10 * time.Minute, Reserve: 2 * time.Second},
		Retry: task.Retry{
			Attempts: 5, MaxCalls: 6, FirstDelay: 3 * time.Second, Factor: 2, MaxDelay: 30 * time.Second, Jitter: 0.2, RetryAfterMax: time.Minute,
			InteractiveAttempts: 5, InteractiveFirstDelay: 3 * time.Second,
		},
		OnOutage: task.OnOutage{Interactive: "degrade", Batch: "degrade"},
		Ladder:   []task.Rung{{Kind: "cache", MaxAge: 24 * time.Hour}}, AfterRefusal: "canned", KeepDegraded: true,
		Output:     task.Output{Format: "json", MaxBytes: 64 << 10, ProviderSchema: "auto", AdditionalProperties: "reject", OptionalNull: "drop", Repair: true, Stream: "draft"},
		Correction: task.Correction{Times: 2, MaxTokens: 4000, OnTruncation: "raise_once"},
		Context:    task.Context{Reserve: 0.2, Session: "none", Order: "one_at_a_time", RecentTurns: 10},
		Cache:      task.Cache{Serve: "fallback", FreshFor: 10 * time.Minute, Keep: 168 * time.Hour, Scope: "tenant"},
		Retention:  task.Retention{Result: 24 * time.Hour, Dead: 720 * time.Hour, Session: 720 * time.Hour},
		Delivery:   task.Delivery{Postgres: true, Webhook: "allowed"},
		Redaction:  task.Redaction{Detect: []string{"email", "phone", "card", "iban", "ip", "secret"}, LogContent: "debug"},
	}
	if len(got.Models) != 1 || got.Models["small"] == nil {
		t.Errorf("it may call %v", got.Models)
	}
	got.Models = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestWithoutALadderCannedIsTheLastRungWhenThereIsOne(t *testing.T) {
	t.Parallel()
	set := good().with(folder{"tasks/demo/canned.yaml": "- output: {mood: good}\n"}).mustLoad(t)
	if got, want := set.Tasks["demo"].Ladder, []task.Rung{{Kind: "cache", MaxAge: 24 * time.Hour}, {Kind: "canned"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestAModelHasTheDefaultsOfItsFileThenOurs(t *testing.T) {
	t.Parallel()
	set := good().with(folder{"models.yaml": `defaults: {timeouts: {call: 20s}, breaker: {probes: 2}, retry_share: 0.1}
providers:
  here: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}
models:
  small: {provider: here, id: s-1, context_window: 8000, prices: {input: 1, output: 2}, timeouts: {silence: 5s}, breaker:}
`}).mustLoad(t)
	want := task.Model{
		Name: "small", Provider: "here", ID: "s-1", ContextWindow: 8000, MaxOutputTokens: 8000, Encoding: "o200k_base", TokenSafety: 1,
		StructuredOutput: "none", SystemRole: "system", MaxTokensField: "max_completion_tokens", Stream: true, StreamUsage: true,
		Prices: task.Prices{Input: 1, CachedInput: 1, Output: 2}, Limits: task.Limits{BatchShare: 0.5},
		Timeouts:   task.Timeouts{Connect: 3 * time.Second, FirstToken: 10 * time.Second, Silence: 5 * time.Second, Call: 20 * time.Second},
		Breaker:    task.Breaker{ConsecutiveFailures: 5, FailureShare: 0.5, MinCalls: 5, Window: time.Minute, HalfOpenAfter: time.Minute, Probes: 2},
		RetryShare: 0.1,
	}
	got, expected := reflect.ValueOf(*set.Models["small"]), reflect.ValueOf(want)
	for i := range got.NumField() {
		field := got.Type().Field(i)
		if field.IsExported() && !reflect.DeepEqual(got.Field(i).Interface(), expected.Field(i).Interface()) {
			t.Errorf("%s is %+v, want %+v", field.Name, got.Field(i), expected.Field(i))
		}
	}
}

func TestTheVariableWinsOverTheWrittenURL(t *testing.T) {
	t.Parallel()
	files := good().with(folder{"models.yaml": `providers:
  here: {kind: openai, base_url: "http://written/v1", base_url_env: HERE_URL, api_key: none}
models:
  small: {provider: here, id: s-1, context_window: 8000, prices: {input: 1, output: 2}}
`})
	for value, want := range map[string]string{"": "http://written/v1", "https://proxy/v1": "https://proxy/v1"} {
		set, err := task.Load(files.fs(), func(name string) string { return map[string]string{"HERE_URL": value}[name] })
		if err != nil || set.Providers["here"].BaseURL != want {
			t.Errorf("with %q: got %+v, %v", value, set, err)
		}
	}
	_, err := task.Load(files.fs(), func(string) string { return "proxy:80" })
	if want := "models.yaml:2:69: HERE_URL, which base_url_env names, must begin with http:// or https:// and a host"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
