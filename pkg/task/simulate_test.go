package task_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"spillway/pkg/task"
)

func TestASimulatedSetCallsOnlyTheSimulatedModel(t *testing.T) {
	t.Parallel()
	set := versioned().mustLoad(t)
	before, after := set.Tasks["demo"], set.Simulated().Tasks["demo"]
	want := []task.Rung{{Kind: "model", Model: "simulated"}, {Kind: "canned"}}
	if after.Model != "simulated" || !reflect.DeepEqual(after.Ladder, want) || after.Correction.LastOn != "simulated" {
		t.Errorf("got %+v", after)
	}
	if before.Model != "small" || before.Ladder[0].Model != "large" || before.Correction.LastOn != "last" {
		t.Errorf("the set itself became %+v", before)
	}
	if after.Version == before.Version || after.ShapeHash == before.ShapeHash {
		t.Error("simulated answers would be taken for real ones")
	}
	if _, ok := set.Models["simulated"]; ok {
		t.Error("the set itself got a model")
	}
	model := set.Simulated().Models["simulated"]
	if provider := set.Simulated().Providers[model.Provider]; provider.Kind != task.KindSimulated || model.ContextWindow == 0 || model.Timeouts.Call == 0 {
		t.Errorf("the built-in model is %+v of %+v", model, provider)
	}
	if again := set.Simulated().Simulated().Tasks["demo"]; again.Version != after.Version {
		t.Error("simulated twice is another version")
	}
}

func TestASetNamesTheKeysThatItsTasksNeed(t *testing.T) {
	t.Parallel()
	files := versioned().with(folder{"models.yaml": `providers:
  a: {kind: openai, base_url: "http://h/v1", api_key_env: A_KEY}
  b: {kind: openai, base_url: "http://h/v1", api_key_env: B_KEY}
  c: {kind: openai, base_url: "http://h/v1", api_key_env: C_KEY}
  file: {kind: openai, base_url: "http://h/v1", api_key_file: /run/key}
  unused: {kind: openai, base_url: "http://h/v1", api_key_env: UNUSED_KEY}
  simulated: {kind: simulated}
models:
  small: {provider: a, id: x, context_window: 8000, prices: {input: 1, output: 2}}
  large: {provider: b, id: x, context_window: 8000, prices: {input: 1, output: 2}}
  last: {provider: c, id: x, context_window: 8000, prices: {input: 1, output: 2}}
  idle: {provider: file, id: x, context_window: 8000, prices: {input: 1, output: 2}}
  nobody: {provider: unused, id: x, context_window: 8000, prices: {input: 1, output: 2}}
  simulated: {provider: simulated, id: x, context_window: 8000, prices: {input: 1, output: 2}}
`})
	set := files.mustLoad(t)
	for given, want := range map[string][]string{
		"":                  {"A_KEY (provider a)", "B_KEY (provider b)", "C_KEY (provider c)"},
		"A_KEY B_KEY":       {"C_KEY (provider c)"},
		"A_KEY B_KEY C_KEY": nil,
	} {
		getenv := func(name string) string {
			if slices.Contains(strings.Fields(given), name) {
				return "sk-1"
			}
			return ""
		}
		if got := set.NeedsKeys(getenv); !slices.Equal(got, want) {
			t.Errorf("with %q: got %v, want %v", given, got, want)
		}
	}
	if got := set.Simulated().NeedsKeys(func(string) string { return "" }); len(got) != 0 {
		t.Errorf("simulated: got %v", got)
	}
}

func TestASampleIsTheFirstCaseOrMadeFromTheSchema(t *testing.T) {
	t.Parallel()
	for want, files := range map[string]folder{
		`{"name":"sample text","note":"sample text","text":"sample text"}`: {},
		`{"text":"from b"}`: {
			"tasks/demo/cases/c.yaml": "input: {text: from c}\nanswer: [{content: x}]\nexpect: {verdict: invalid}\n",
			"tasks/demo/cases/b.yaml": "input: {text: from b}\nanswer: {content: x}\nexpect: {verdict: invalid}\n",
		},
		`{}`: {"tasks/demo/input.schema.json": ""},
	} {
		if got := string(good().with(files).mustLoad(t).Sample("demo")); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := good().mustLoad(t).Sample("nobody"); got != nil {
		t.Errorf("got %s of a task that is not there", got)
	}
}
