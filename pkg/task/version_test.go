package task_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"spillway/pkg/task"
)

func versioned() folder {
	return good().with(folder{
		"models.yaml": `defaults: {timeouts: {call: 20s}, retry_share: 0.1}
providers:
  here: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}
models:
  small: {provider: here, id: s-1, context_window: 8000, max_output_tokens: 1000, timeouts: {silence: 5s}, prices: {input: 1, output: 2}}
  large: {provider: here, id: l-1, context_window: 8000, prices: {input: 1, output: 2}}
  last: {provider: here, id: last-1, context_window: 8000, prices: {input: 1, output: 2}}
  idle: {provider: here, id: i-1, context_window: 8000, prices: {input: 1, output: 2}}
`,
		"tasks/demo/task.yaml":          "model: small\nladder: [{rung: model, model: large}, {rung: canned}]\ncorrection: {last_on: last}\n",
		"tasks/demo/canned.yaml":        "- output: {mood: good}\n",
		"tasks/demo/state.schema.json":  "{}",
		"tasks/demo/warm.jsonl":         "{\"text\":\"a\"}\n",
		"tasks/demo/cases/one.yaml":     "input: {text: a}\nanswer: [{content: x}]\nexpect: {verdict: invalid}\n",
		"tasks/demo/README.md":          "notes\n",
		"tasks/other/task.yaml":         "model: idle\noutput: {format: text}\n",
		"tasks/other/prompt.tmpl":       `{{define "user"}}{{json .Input}}{{end}}`,
		"tasks/other/input.schema.json": "{}",
	})
}

func TestAVersionIsEightHexadecimalDigitsAndStable(t *testing.T) {
	t.Parallel()
	first, second := versioned().mustLoad(t), versioned().mustLoad(t)
	for name, loaded := range first.Tasks {
		if !regexp.MustCompile(`^[0-9a-f]{8}$`).MatchString(loaded.Version) || loaded.Version != second.Tasks[name].Version {
			t.Errorf("%s has the versions %q and %q", name, loaded.Version, second.Tasks[name].Version)
		}
	}
	if first.Tasks["demo"].Version == first.Tasks["other"].Version {
		t.Error("two tasks have one version")
	}
}

func TestAVersionChangesWithEachFileOfTheFolder(t *testing.T) {
	t.Parallel()
	before := versioned().mustLoad(t).Tasks["demo"].Version
	seen := map[string]string{before: "nothing"}
	changes := map[string]folder{"a new file": {"tasks/demo/more.txt": "x"}, "a file less": {"tasks/demo/README.md": ""}}
	for name, text := range versioned() {
		if strings.HasPrefix(name, "tasks/demo/") {
			changes[name] = folder{name: text + "\n"}
		}
	}
	changes["a file under another name"] = folder{"tasks/demo/README.md": "", "tasks/demo/NOTES.md": "notes\n"}
	if len(changes) != 12 {
		t.Fatalf("%d changes", len(changes))
	}
	for change, files := range changes {
		after := versioned().with(files).mustLoad(t).Tasks["demo"].Version
		if other, ok := seen[after]; ok {
			t.Errorf("after a change of %s the version is that after %s", change, other)
		}
		seen[after] = change
	}
}

func TestAVersionChangesWithEachEntryOfItsModelsAndNoOther(t *testing.T) {
	t.Parallel()
	before := versioned().mustLoad(t).Tasks["demo"]
	for replace, changes := range map[[2]string]bool{
		{"id: s-1", "id: s-2"}:                                            true,
		{"max_output_tokens: 1000", "max_output_tokens: 999"}:             true,
		{"silence: 5s", "silence: 6s"}:                                    true,
		{"id: l-1", "id: l-2"}:                                            true, // a rung's
		{"id: last-1", "id: last-2"}:                                      true, // the correction's
		{"call: 20s", "call: 21s"}:                                        true, // a default, which the entries resolve to
		{"retry_share: 0.1", "retry_share: 0.11"}:                         true,
		{"id: i-1", "id: i-2"}:                                            false,
		{"api_key: none", "api_key_env: KEY"}:                             false,
		{"models:\n", "# a comment\n\nmodels:\n"}:                         false,
		{"provider: here, id: s-1", "id: \"s-1\",   provider: here"}:      false,
		{"timeouts: {silence: 5s}", "timeouts: {call: 20s, silence: 5s}"}: false, // says the default
	} {
		models := strings.Replace(versioned()["models.yaml"], replace[0], replace[1], 1)
		if models == versioned()["models.yaml"] {
			t.Fatalf("%q is not in models.yaml", replace[0])
		}
		after := versioned().with(folder{"models.yaml": models}).mustLoad(t).Tasks["demo"]
		if (after.Version != before.Version) != changes {
			t.Errorf("%q: the version changes: %v, want %v", replace[1], after.Version != before.Version, changes)
		}
	}
	other := versioned().with(folder{"tasks/other/prompt.tmpl": `{{define "user"}}x{{end}}`, "tasks/third/task.yaml": "model: small\noutput: {format: text}\n", "tasks/third/prompt.tmpl": `{{define "user"}}x{{end}}`})
	if after := other.mustLoad(t).Tasks["demo"]; after.Version != before.Version {
		t.Error("a change of another task changes the version")
	}
}

func TestAShapeChangesOnlyWithWhatShapesAnswers(t *testing.T) {
	t.Parallel()
	before := versioned().mustLoad(t).Tasks["demo"].ShapeHash
	models, manifest := versioned()["models.yaml"], versioned()["tasks/demo/task.yaml"]
	for name, test := range map[string]struct {
		files   folder
		changes bool
	}{
		"the prompt":             {folder{"tasks/demo/prompt.tmpl": `{{define "user"}}{{.Input.text}}!{{end}}`}, true},
		"the output schema":      {folder{"tasks/demo/output.schema.json": `{"type":"object","properties":{"mood":{"enum":["good","bad","so"]}},"required":["mood"]}`}, true},
		"its spacing":            {folder{"tasks/demo/output.schema.json": strings.ReplaceAll(versioned()["tasks/demo/output.schema.json"], ",", " , ")}, false},
		"the model's id":         {folder{"models.yaml": strings.Replace(models, "id: s-1", "id: s-2", 1)}, true},
		"the model":              {folder{"tasks/demo/task.yaml": strings.Replace(manifest, "model: small", "model: idle", 1)}, true},
		"a parameter":            {folder{"tasks/demo/task.yaml": manifest + "parameters: {temperature: 0}\n"}, true},
		"the prices":             {folder{"models.yaml": strings.Replace(models, "input: 1", "input: 3", 1)}, false},
		"the retries":            {folder{"tasks/demo/task.yaml": manifest + "retry: {attempts: 2}\n"}, false},
		"the ladder":             {folder{"tasks/demo/task.yaml": "model: small\ncorrection: {last_on: last}\n"}, false},
		"who corrects":           {folder{"tasks/demo/task.yaml": strings.Replace(manifest, "last_on: last", "last_on: large", 1)}, true},
		"the corrector's id":     {folder{"models.yaml": strings.Replace(models, "id: last-1", "id: last-2", 1)}, true},
		"where it is called":     {folder{"models.yaml": strings.Replace(models, "127.0.0.1:1", "127.0.0.1:2", 1)}, true},
		"what the model can":     {folder{"models.yaml": strings.Replace(models, "id: s-1,", "id: s-1, structured_output: json_schema,", 1)}, true},
		"its system role":        {folder{"models.yaml": strings.Replace(models, "id: s-1,", "id: s-1, system_role: developer,", 1)}, true},
		"its window":             {folder{"models.yaml": strings.Replace(models, "id: s-1, context_window: 8000", "id: s-1, context_window: 9000", 1)}, true},
		"what it does not take":  {folder{"models.yaml": strings.Replace(models, "id: s-1,", "id: s-1, unsupported: [temperature],", 1)}, true},
		"the provider's headers": {folder{"models.yaml": strings.Replace(models, "api_key: none", "api_key: none, headers: {OpenAI-Organization: other}", 1)}, true},
		"the provider's limits":  {folder{"models.yaml": strings.Replace(models, "api_key: none", "api_key: none, limits: {concurrency: 3}", 1)}, false},
		"the provider's key":     {folder{"models.yaml": strings.Replace(models, "api_key: none", "api_key_env: KEY", 1)}, false},
		"a rule":                 {folder{"tasks/demo/task.yaml": manifest + "output: {rules: [{name: r, expr: output.mood != 'x', say: no}]}\n"}, true},
		"what is dropped":        {folder{"tasks/demo/task.yaml": manifest + "output: {additional_properties: drop}\n"}, true},
		"the context":            {folder{"tasks/demo/task.yaml": manifest + "context: {max_input_tokens: 100}\n"}, true},
		"the drafts":             {folder{"tasks/demo/task.yaml": manifest + "output: {stream: never}\n"}, false},
		"how long it is kept":    {folder{"tasks/demo/task.yaml": manifest + "cache: {serve: fresh, fresh_for: 1h, keep: 2h}\n"}, false},
		"the canned answer":      {folder{"tasks/demo/canned.yaml": "- output: {mood: bad}\n"}, false},
	} {
		after := versioned().with(test.files).mustLoad(t).Tasks["demo"].ShapeHash
		if (after != before) != test.changes {
			t.Errorf("%s: the shape changes: %v, want %v", name, after != before, test.changes)
		}
	}
}

func TestACacheKeyTellsApartWhatMustNotBeMixedUp(t *testing.T) {
	t.Parallel()
	set := versioned().mustLoad(t)
	demo := *set.Tasks["demo"]
	everyone, byText, byBoth, other := demo, demo, demo, *set.Tasks["other"]
	everyone.Cache.Scope = "everyone"
	byText.Cache.Key, byBoth.Cache.Key = []string{"/text"}, []string{"/text", "/note"}
	key := func(t *task.Task, tenant, input, session string) string {
		return t.CacheKey(tenant, []byte(input), session)
	}
	base := key(&demo, "acme", `{"text":"a"}`, "")
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(base) || base != key(&demo, "acme", `{"text":"a"}`, "") {
		t.Errorf("the key is %q", base)
	}
	seen := map[string]int{base: 0}
	for i, different := range []string{
		key(&demo, "other", `{"text":"a"}`, ""), key(&demo, "", `{"text":"a"}`, ""), key(&demo, "acme", `{"text":"b"}`, ""), key(&demo, "acme", `{"text":"a"}`, "s"),
		key(&other, "acme", `{"text":"a"}`, ""), key(&everyone, "acme", `{"text":"a"}`, "s"), key(&byText, "acme", `{"text":"a"}`, ""),
		key(&byBoth, "acme", `{"text":"a"}`, ""), key(&byBoth, "acme", `{"note":null,"text":"a"}`, ""), key(&byBoth, "acme", `{"note":"","text":"a"}`, ""),
		key(&byBoth, "acme", `{"note":"a","text":""}`, ""), key(&byBoth, "acme", `{}`, ""), key(&demo, "ac", `me{"text":"a"}`, ""),
	} {
		if earlier, ok := seen[different]; ok {
			t.Errorf("keys %d and %d are equal", i+1, earlier)
		}
		seen[different] = i + 1
	}
	if key(&everyone, "acme", `{"text":"a"}`, "") != key(&everyone, "other", `{"text":"a"}`, "") {
		t.Error("with the scope everyone, two tenants have two keys")
	}
	if key(&byText, "acme", `{"note":"a"}`, "") == key(&byText, "acme", `{"note":"b"}`, "") {
		t.Error("two inputs without any of the key's pointers have one key")
	}
	if key(&byText, "acme", `{"text":"a"}`, "") != key(&byText, "acme", `{"text":"a","time":"now"}`, "") {
		t.Error("with a key of pointers, another part of the input makes another key")
	}
}

func ExampleCanonical() {
	text, _ := task.Canonical(map[string]any{"b": "<é>\n", "a": []any{nil, true}})
	fmt.Println(string(text))
	// Output: {"a":[null,true],"b":"<é>\n"}
}
