package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fakellm"
)

func TestModelsCheckShowsWhatIsUnderstoodAndNeverTheKey(t *testing.T) {
	row := withEnv(t, map[string]string{"OPENAI_API_KEY": "sk-very-secret", "OPENAI_BASE_URL": "http://gateway.example:8089/v1"}, "models", "check", "small", "--json").
		with(exitOK).without("sk-very-secret").one()
	provider := row["provider"].(map[string]any)
	key := provider["key"].(map[string]any)
	if provider["host"] != "gateway.example:8089" || provider["base_url_from"] != "OPENAI_BASE_URL" || key["from"] != "environment OPENAI_API_KEY" || key["there"] != true {
		t.Errorf("the provider: %v", provider)
	}
	for name, want := range map[string]any{
		"model": "small", "id": "gpt-4o-mini-2024-07-18", "answers_as": "gpt-4o-mini-2024-07-18", "context_window": 128000.0, "structured_output": "json_schema", "retry_share": 0.2,
	} {
		if row[name] != want {
			t.Errorf("%s is %v, want %v", name, row[name], want)
		}
	}
	if prices := row["prices"].(map[string]any); prices["input"] != 0.15 || prices["as_of"] != "2026-11-01" || prices["age_days"] == nil {
		t.Errorf("the prices: %v", prices)
	}
	if tasks := row["used_by"].([]any); len(tasks) == 0 || tasks[0] != "analyze" {
		t.Errorf("used by %v", tasks)
	}
	spillway(t, "models", "check").with(exitOK, "host: api.openai.com", "there: false", "small: can not be called: no API key: set OPENAI_API_KEY")
	spillway(t, "models", "check", "smal").with(exitNotFound, `there is no model "smal" in models.yaml; there are large, simulated, small`)
}

func TestModelsCheckSaysWhatIsWrongAndWhatIsOld(t *testing.T) {
	dir := folder(t)
	change(t, dir, "models.yaml", `as_of: "2026-11-01", input: 2.50`, `as_of: "2020-01-01", input: 2.50`)
	change(t, dir, "models.yaml", "    answers_as: gpt-4o-mini-2024-07-18\n", "")
	spillway(t, "models", "check", "--schemas="+dir).with(exitOK,
		"large: the prices are of 2020-01-01, ", "small: answers_as is not set: nobody is told when another model answers under gpt-4o-mini-2024-07-18")
	change(t, dir, "models.yaml", "context_window: 128000\n    max_output_tokens: 16384\n    encoding: o200k_base\n    structured_output: json_schema\n    prices: {as_of: \"2020", "context_window: wide\n    prices: {as_of: \"2020")
	spillway(t, "models", "check", "--schemas="+dir).with(exitFailed, "models.yaml:", "context_window", "1 fault in models.yaml")
	write(t, filepath.Join(dir, "tasks", "bare", "task.yaml"), "model: smal\n")
	broken := spillway(t, "models", "check", "--schemas="+dir, "--json").with(exitFailed).lines()
	if len(broken) != 1 || broken[0]["file"] != "models.yaml" {
		t.Errorf("the faults: %v", broken)
	}
}

// liveRows are the rows of models check --live, by model.
func liveRows(s said) map[string]map[string]any {
	rows := map[string]map[string]any{}
	for _, row := range s.lines() {
		rows[row["model"].(string)] = row
	}
	return rows
}

func TestModelsCheckLiveCallsEachModelOnceAndSaysWhatItShows(t *testing.T) {
	provider := realProvider(t, fakellm.Options{Keys: []string{"sk-very-secret"}, Latency: fakellm.Latency{FirstToken: 20 * time.Millisecond, PerToken: time.Millisecond}})
	provider.SetUsage("", fakellm.Usage{Input: 400, Output: 30})
	s := at(t, provider, "models", "check", "--live", "--json").with(exitOK, "one call each to large, small: at most $0.0").without("sk-very-secret")
	rows := liveRows(s)
	if c := provider.Counts(); len(rows) != 2 || c.Calls != 2 || c.Models["gpt-4o-mini-2024-07-18"].Calls != 1 || c.Models["gpt-4o-2024-08-06"].Calls != 1 {
		t.Fatalf("%d rows of calls %+v", len(rows), c)
	}
	small := rows["small"]
	for name, want := range map[string]any{
		"ok": true, "answered_by": "gpt-4o-mini-2024-07-18", "streamed": true, "structured_output": "json_schema", "reported_tokens": 400.0,
		"cost_usd": (400*0.15 + 30*0.60) / 1e6,
	} {
		if small[name] != want {
			t.Errorf("%s is %v, want %v", name, small[name], want)
		}
	}
	counted := small["counted_tokens"].(float64)
	if ratio := small["token_safety_seen"].(float64); counted < 100 || ratio < 400/counted-0.01 || ratio > 400/counted+0.01 {
		t.Errorf("counted %v, a ratio of %v", counted, ratio)
	}
	if small["first_token_ms"].(float64) < 20 || small["took_ms"].(float64) < small["first_token_ms"].(float64) {
		t.Errorf("times: %v", small)
	}
	at(t, provider, "models", "check", "--live", "small").with(exitOK, "small  gpt-4o-mini-2024-07-18  yes", "token_safety: ")
	if c := provider.Counts(); c.Calls != 3 {
		t.Errorf("%d calls, want one more", c.Calls)
	}
}

func TestModelsCheckLiveFailsWhereAModelIsNotWhatModelsYAMLSays(t *testing.T) {
	const small, large = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
	for name, c := range map[string]struct {
		plant func(*fakellm.Server)
		says  []string
	}{
		"another model answers": {
			func(p *fakellm.Server) { p.SetName(small, "gpt-4o-mini-2026-10-01") },
			[]string{"small: gpt-4o-mini-2026-10-01 answered, models.yaml names gpt-4o-mini-2024-07-18 (answers_as)"},
		},
		"the id is not known": {
			func(p *fakellm.Server) { p.Script(small, fakellm.Fault{Kind: "404"}) },
			[]string{"small: no answer: provider_refused_request: ", "the provider answered 404"},
		},
		"the schema is not heard": {
			func(p *fakellm.Server) { p.SetAnswer(small, "It is written in English and German.") },
			[]string{"small: structured_output is json_schema, and the answer is invalid: set json_object or none"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			provider := realProvider(t, fakellm.Options{})
			c.plant(provider)
			at(t, provider, "models", "check", "--live").with(exitFailed, append(c.says, "1 model not as models.yaml has it", "large  "+large)...)
			if calls := provider.Counts().Calls; calls != 2 {
				t.Errorf("%d calls, want 2: a failed one is not repeated", calls)
			}
		})
	}
	t.Run("there is no key", func(t *testing.T) {
		spillway(t, "models", "check", "--live").with(exitFailed, "small: can not be called: no API key: set OPENAI_API_KEY", "2 models not as models.yaml has it")
	})
}

func TestModelsCheckLiveRemarksWhatElseIsNotAsConfigured(t *testing.T) {
	provider := realProvider(t, fakellm.Options{})
	dir := folder(t)
	models := filepath.Join(dir, "models.yaml")
	text, err := os.ReadFile(models)
	if err != nil {
		t.Fatal(err)
	}
	// The provider sends no usage with a stream that does not ask for it, and no schema is sent where none can be.
	write(t, models, strings.Replace(string(text), "    structured_output: json_schema\n", "    structured_output: none\n    stream_usage: false\n", 1))
	rows := liveRows(at(t, provider, "models", "check", "--live", "--json", "--schemas="+dir).with(exitOK))
	var remarked []string
	for _, remark := range rows["small"]["remarks"].([]any) {
		remarked = append(remarked, remark.(string))
	}
	if len(remarked) != 1 || !strings.HasPrefix(remarked[0], "no usage was reported: ") || rows["small"]["reported_tokens"] != 0.0 {
		t.Errorf("%v: %v", remarked, rows["small"])
	}
	for _, r := range provider.Requests("gpt-4o-mini-2024-07-18") {
		if strings.Contains(r.Body, "response_format") {
			t.Errorf("a schema is sent: %s", r.Body)
		}
	}
}

func TestModelsCheckLiveEndsWhenAModelHangsAndWhenItIsInterrupted(t *testing.T) {
	provider := realProvider(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "hang", Model: "gpt-4o-mini-2024-07-18"}}})
	at(t, provider, "models", "check", "--live", "--timeout=300ms").with(exitFailed, "small: no answer: ", "large  gpt-4o-2024-08-06  yes")

	env := map[string]string{"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": provider.URL()}
	ctx, interrupt := context.WithCancel(t.Context())
	var out, err bytes.Buffer
	ended := make(chan int)
	before := provider.Counts().Calls
	go func() {
		ended <- run(ctx, []string{"models", "check", "--live"}, func(name string) string { return env[name] }, &out, &err)
	}()
	if e := provider.Await(t.Context(), func(c fakellm.Counts) bool { return c.Calls == before+2 }); e != nil {
		t.Fatal(e)
	}
	interrupt()
	if code := <-ended; code != exitInterrupted || !strings.Contains(err.String(), "stopped") {
		t.Errorf("exit code %d: %s", code, err.String())
	}
}
