package task_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"spillway/pkg/task"
)

func TestTheGoodFolderIsGood(t *testing.T) {
	t.Parallel()
	good().mustLoad(t)
}

func TestFaultsOfTaskYAMLNameTheirPlace(t *testing.T) {
	t.Parallel()
	checkFaults(t, []faultyFolder{
		{"no model", taskYAML("description: x\n"), `tasks/demo/task.yaml:1: model is required: a name of models.yaml`},
		{"an empty file", taskYAML("# nothing\n"), `tasks/demo/task.yaml:1: model is required: a name of models.yaml`},
		{"an unknown model", taskYAML("model: smal\n"), `tasks/demo/task.yaml:1:8: there is no model "smal" in models.yaml: did you mean small?`},
		{"an unknown model, nothing like it", taskYAML("model: claude\n"), `tasks/demo/task.yaml:1:8: there is no model "claude" in models.yaml: known are large, small`},
		{"an unknown key", taskYAML("model: small\nretries: {}\n"), `tasks/demo/task.yaml:2:1: unknown key "retries": did you mean retry?`},
		{"an unknown key further down", taskYAML("model: small\nretry:\n  attempts: 2\n  interactive:\n    atempts: 1\n"), `tasks/demo/task.yaml:5:5: unknown key "atempts": did you mean attempts?`},
		{"an unknown key like none", taskYAML("model: small\ndelivery: {kafka: true}\n"), `tasks/demo/task.yaml:2:12: unknown key "kafka": known here are postgres, webhook`},
		{"not YAML", taskYAML("model: [small\nlane: x\n"), `tasks/demo/task.yaml:2:1: ',' or ']' must be specified`},
		{"a key twice", taskYAML("model: small\nmodel: large\n"), `tasks/demo/task.yaml:2:1: mapping key "model" already defined at [1:1]`},
		{"two documents", taskYAML("model: small\n---\nmodel: large\n"), `tasks/demo/task.yaml:3: a file has one document, no ---`},
		{"a list", taskYAML("- model: small\n"), "tasks/demo/task.yaml:1: model is required: a name of models.yaml\ntasks/demo/task.yaml:1:1: must be a mapping, not a list"},
		{"a merge key", taskYAML("model: small\nretry:\n  <<: {attempts: 2}\n"), `tasks/demo/task.yaml:3:3: << is not taken: write the keys out`},
		{"an unknown alias", taskYAML("model: *m\n"), `tasks/demo/task.yaml:1:8: no anchor &m stands before this`},
		{"not UTF-8", taskYAML("model: small\ndescription: \xff\n"), `tasks/demo/task.yaml: the file is not UTF-8`},
		{"a duration without a unit", taskYAML("model: small\ndeadline: {default: 60}\n"), `tasks/demo/task.yaml:2:21: default needs a unit: say 60s`},
		{"no duration", taskYAML("model: small\ndeadline: {max: soon}\n"), `tasks/demo/task.yaml:2:17: max must be a duration like 500ms, 30s or 72h, not "soon"`},
		{"a deadline beyond a day", taskYAML("model: small\ndeadline: {max: 25h}\n"), `tasks/demo/task.yaml:2:17: max must be at most 24h, not 25h`},
		{"default over max", taskYAML("model: small\ndeadline: {default: 20m}\n"), `tasks/demo/task.yaml:2:11: deadline.default (20m) must be at most deadline.max (10m)`},
		{"reserve over default", taskYAML("model: small\ndeadline: {default: 2s}\n"), `tasks/demo/task.yaml:2:11: deadline.reserve (2s) must be shorter than deadline.default (2s)`},
		{"no size", taskYAML("model: small\ninput: {max_bytes: 64KB}\n"), `tasks/demo/task.yaml:2:20: max_bytes must be a size like 64KiB or 1MiB, not "64KB"`},
		{"a size too large", taskYAML("model: small\ninput: {max_bytes: 1MiB}\n"), `tasks/demo/task.yaml:2:20: max_bytes must be at most 256KiB, not 1MiB`},
		{"no attempts", taskYAML("model: small\nretry: {attempts: 0}\n"), `tasks/demo/task.yaml:2:19: attempts must be at least 1, not 0`},
		{"no whole number", taskYAML("model: small\nretry: {attempts: 1.5}\n"), `tasks/demo/task.yaml:2:19: attempts must be a whole number, not 1.5`},
		{"a text for a number", taskYAML("model: small\nretry: {attempts: \"5\"}\n"), `tasks/demo/task.yaml:2:19: attempts must be a number, not a text`},
		{"a delay over the longest", taskYAML("model: small\nretry: {first_delay: 1m}\n"), `tasks/demo/task.yaml:2:8: retry.first_delay (1m) must be at most retry.max_delay (30s)`},
		{"no option", taskYAML("model: small\nlane: fast\n"), `tasks/demo/task.yaml:2:7: lane must be interactive or batch, not "fast"`},
		{"no boolean", taskYAML("model: small\nkeep_degraded: yes\n"), `tasks/demo/task.yaml:2:16: keep_degraded must be a boolean, not a text`},
		{"no text", taskYAML("model: small\nowner: 7\n"), `tasks/demo/task.yaml:2:8: owner must be a text, not a number`},
		{"too hot", taskYAML("model: small\nparameters: {temperature: 3}\n"), `tasks/demo/task.yaml:2:27: temperature must be between 0 and 2, not 3`},
		{"more than the model says", taskYAML("model: small\nparameters: {max_output_tokens: 1001}\n"), `tasks/demo/task.yaml:2:33: max_output_tokens must be at most 1000, not 1001`},
		{"a timeout over the model's", taskYAML("model: small\ntimeouts: {call: 31s}\n"), `tasks/demo/task.yaml:2:18: call must be at most 30s, not 31s`},
		{"a bad pointer", taskYAML("model: small\ncache: {key: [text]}\n"), `tasks/demo/task.yaml:2:15: "text" is not a JSON pointer: it must be empty or begin with /`},
		{"an unknown kind of data", taskYAML("model: small\nredaction: {detect: [mail]}\n"), `tasks/demo/task.yaml:2:22: detect must hold email, phone, card, iban, ip or secret, not "mail"`},
		{"a rule that does not compile", taskYAML("model: small\noutput:\n  rules:\n    - {name: a, say: b, expr: outputs.mood == 1}\n"), `tasks/demo/task.yaml:4:31: undeclared reference to 'outputs' (did you mean 'output'?)`},
		{"a rule in a block", taskYAML("model: small\noutput:\n  rules:\n    - name: a\n      say: b\n      expr: |\n        output.mood == 1 &&\n          foo(1)\n"), `tasks/demo/task.yaml:8: undeclared reference to 'foo'`},
		{"a rule that is no condition", taskYAML("model: small\noutput: {rules: [{name: a, say: b, expr: size(output)}]}\n"), `tasks/demo/task.yaml:2:42: the expression must yield true or false`},
		{"a rule without say", taskYAML("model: small\noutput: {rules: [{name: a, expr: \"true\"}]}\n"), `tasks/demo/task.yaml:2:18: a rule needs say: what is fed back to the model`},
		{"a last model that is not there", taskYAML("model: small\ncorrection: {last_on: larg}\n"), `tasks/demo/task.yaml:2:23: there is no model "larg" in models.yaml: did you mean large?`},
		{"a summary by nobody", taskYAML("model: small\ncontext: {summary: {task: demos}}\n"), `tasks/demo/task.yaml:2:27: there is no task "demos": did you mean demo?`},
		{"a summary by itself", taskYAML("model: small\ncontext: {summary: {task: demo}}\n"), `tasks/demo/task.yaml:2:27: a task can not make its own summaries`},
		{"a state without a session", taskYAML("model: small\ncontext: {state: {update: {/mood: output.mood}}}\n"), `tasks/demo/task.yaml:2:27: state.update needs a session to keep the state in: context.session is none`},
	})
}

func TestFaultsOfTheLadderNameTheirPlace(t *testing.T) {
	t.Parallel()
	checkFaults(t, []faultyFolder{
		{"empty without a reason", taskYAML("model: small\nladder: []\n"), `tasks/demo/task.yaml:2:9: an empty ladder needs no_ladder: "why"`},
		{"a reason without need", taskYAML("model: small\nno_ladder: because\n"), `tasks/demo/task.yaml:2:12: no_ladder is for an empty ladder: write ladder: [] or remove it`},
		{"an unknown rung", taskYAML("model: small\nladder: [{rung: cach}]\n"), `tasks/demo/task.yaml:2:17: rung must be cache, model or canned, not "cach"`},
		{"no rung", taskYAML("model: small\nladder: [{model: large}]\n"), "tasks/demo/task.yaml:2:10: a step of the ladder needs rung: cache, model or canned\ntasks/demo/task.yaml:2:11: unknown key \"model\": known here are rung"},
		{"a model that is not there", taskYAML("model: small\nladder: [{rung: model, model: larger}]\n"), `tasks/demo/task.yaml:2:31: there is no model "larger" in models.yaml: did you mean large?`},
		{"no model", taskYAML("model: small\nladder: [{rung: model}]\n"), `tasks/demo/task.yaml:2:10: the rung model needs model: a name of models.yaml`},
		{"an age of a model", taskYAML("model: small\nladder: [{rung: model, model: large, max_age: 1h}]\n"), `tasks/demo/task.yaml:2:38: unknown key "max_age": known here are model, rung`},
		{"canned without canned.yaml", taskYAML("model: small\nladder:\n  - {rung: canned}\n"), `tasks/demo/task.yaml:3:12: the rung canned needs canned.yaml beside task.yaml`},
		{"canned before others", folder{"tasks/demo/task.yaml": "model: small\nladder:\n  - {rung: canned}\n  - {rung: cache}\n", "tasks/demo/canned.yaml": "- output: {mood: good}\n"}, `tasks/demo/task.yaml:3:12: canned always answers, so it must be the last rung`},
		{"no rule that always matches", folder{"tasks/demo/canned.yaml": "- when: state.a == 1\n  output: {mood: good}\n"}, `tasks/demo/canned.yaml:1:9: the last rule must always match: write one more without when`},
		{"a rule behind one that always matches", folder{"tasks/demo/canned.yaml": "- output: {mood: good}\n- output: {mood: bad}\n"}, `tasks/demo/canned.yaml:1:3: a rule without when always matches, so it must be the last`},
		{"a canned output off schema", folder{"tasks/demo/canned.yaml": "- output:\n    mood: fair\n    more: 1\n"}, "tasks/demo/canned.yaml:2:11: the canned output does not satisfy output.schema.json: /mood: must be one of \"good\", \"bad\", got \"fair\"\n" +
			"tasks/demo/canned.yaml:3:11: the canned output does not satisfy output.schema.json: /more: is not a known property: leave it out, got 1"},
		{"a condition that does not compile", folder{"tasks/demo/canned.yaml": "- when: inputs.a == 1\n  output: {mood: good}\n- output: {mood: good}\n"}, `tasks/demo/canned.yaml:1:9: undeclared reference to 'inputs' (did you mean 'input'?)`},
		{"no output", folder{"tasks/demo/canned.yaml": "- {}\n"}, `tasks/demo/canned.yaml:1:3: a rule needs output`},
		{"no list", folder{"tasks/demo/canned.yaml": "output: {mood: good}\n"}, `tasks/demo/canned.yaml:1:1: must be a list of {when, output}, the last without when`},
		{"an empty list", folder{"tasks/demo/canned.yaml": "[]\n"}, `tasks/demo/canned.yaml:1:1: must be a list of {when, output}, the last without when`},
	})
}

func TestFaultsOfSchemasAndPromptNameTheirPlace(t *testing.T) {
	t.Parallel()
	prompt := func(text string) folder { return folder{"tasks/demo/prompt.tmpl": text} }
	checkFaults(t, []faultyFolder{
		{"no output schema", folder{"tasks/demo/output.schema.json": ""}, `tasks/demo: there is no output.schema.json in it: write one, or say output: {format: text} in task.yaml`},
		{"a schema of a text", taskYAML("model: small\noutput: {format: text}\n"), `tasks/demo/output.schema.json: output.format is text, which has no schema: remove this file, or say output: {format: json} in task.yaml`},
		{"a schema that is no JSON", folder{"tasks/demo/input.schema.json": "{\n  \"type\": \"object\",\n}"}, `tasks/demo/input.schema.json:2:19: invalid character ',' at start of value`},
		{
			"faults of a schema",
			folder{"tasks/demo/input.schema.json": `{"properties":{"a":{"$ref":"http://127.0.0.1/x"},"b":{"type":"strin"},"c":{"minContains":1}}}`},
			"tasks/demo/input.schema.json#/properties/a/$ref: the reference \"http://127.0.0.1/x\" leads out of the document, and nothing is loaded from elsewhere: copy the schema into \"definitions\" and refer to \"#/definitions/…\"\n" +
				"tasks/demo/input.schema.json#/properties/c/minContains: minContains is not checked: remove it: contains alone means at least one; or check it by a rule in task.yaml",
		},
		{"no prompt", prompt(""), `tasks/demo: there is no prompt.tmpl in it: it needs at least {{define "user"}}{{json .Input}}{{end}}`},
		{"no user", prompt(`{{define "system"}}x{{end}}`), `tasks/demo/prompt.tmpl: it must define "user": {{define "user"}}…{{end}}`},
		{"no template", prompt("{{define \"user\"}}\n{{.Input.text}\n{{end}}"), `tasks/demo/prompt.tmpl:2: bad character U+007D '}'`},
		{"an unknown function", prompt("{{define \"user\"}}{{env \"HOME\"}}{{end}}"), `tasks/demo/prompt.tmpl:1: function "env" not defined`},
		{"text outside", prompt("Hello\n{{define \"user\"}}x{{end}}"), `tasks/demo/prompt.tmpl: text outside of {{define "system"}} and {{define "user"}} is never sent`},
		{"a misspelt part", prompt(`{{define "systm"}}x{{end}}{{define "user"}}x{{end}}`), `tasks/demo/prompt.tmpl: nothing sends the template "systm": did you mean system?`},
		{"half an example", prompt(`{{define "user"}}x{{end}}{{define "user.1"}}x{{end}}{{define "assistant.2"}}x{{end}}`), "tasks/demo/prompt.tmpl: example 1 of 2 needs both \"user.1\" and \"assistant.1\"\ntasks/demo/prompt.tmpl: example 2 of 2 needs both \"user.2\" and \"assistant.2\""},
		{"a field that is not declared", prompt("{{define \"user\"}}\n  {{.Input.txt}}{{end}}"), `tasks/demo/prompt.tmpl:2:10: <.Input.txt>: map has no entry for key "txt" (input.schema.json does not declare it)`},
		{"an optional field", prompt(`{{define "user"}}{{.Input.note}}{{end}}`), `tasks/demo/prompt.tmpl:1:25: <.Input.note>: map has no entry for key "note" (it is optional in input.schema.json: write {{with index .Input "name"}}…{{end}})`},
		{"a field that may be null", prompt(`{{define "user"}}{{index .Input "name"}}{{end}}`), `tasks/demo/prompt.tmpl: user prints a null of the input: guard it by {{with …}} (it is optional in input.schema.json: write {{with index .Input "name"}}…{{end}})`},
		{"a state that is not in the prompt", prompt(`{{define "user"}}{{.State.step}}{{end}}`), `tasks/demo/prompt.tmpl:1:25: <.State.step>: map has no entry for key "step" (name it in context.state.in_prompt of task.yaml)`},
		{"types that do not compare", prompt(`{{define "user"}}{{if gt .Input.text 3}}x{{end}}{{end}}`), `tasks/demo/prompt.tmpl:1:22: <gt .Input.text 3>: error calling gt: incompatible types for comparison: string and int`},
		{"a misspelt file", folder{"tasks/demo/promt.tmpl": "x"}, `tasks/demo/promt.tmpl: nobody reads this file: did you mean prompt.tmpl?`},
	})
}

func TestFaultsOfCasesAndWarmInputsNameTheirPlace(t *testing.T) {
	t.Parallel()
	one := func(text string) folder { return folder{"tasks/demo/cases/one.yaml": text} }
	checkFaults(t, []faultyFolder{
		{"nothing in it", one("{}\n"), "tasks/demo/cases/one.yaml:1: a case needs answer: what the model said\ntasks/demo/cases/one.yaml:1: a case needs expect: what must come of the answer\ntasks/demo/cases/one.yaml:1: a case needs input"},
		{"an input off schema", one("input: {txt: a}\nanswer: [{content: x}]\nexpect: {verdict: invalid}\n"), "tasks/demo/cases/one.yaml:1:8: the input does not satisfy input.schema.json: /text: is required, but missing\ntasks/demo/cases/one.yaml:1:14: the input does not satisfy input.schema.json: /txt: is not a known property: leave it out, got \"a\""},
		{"an output off schema", one("input: {text: a}\nanswer: [{content: x}]\nexpect: {verdict: valid, output: {mood: x}}\n"), `tasks/demo/cases/one.yaml:3:41: the expected output does not satisfy output.schema.json: /mood: must be one of "good", "bad", got "x"`},
		{"an unknown verdict", one("input: {text: a}\nanswer: [{content: x}]\nexpect: {verdict: ok}\n"), `tasks/demo/cases/one.yaml:3:19: verdict must be valid, extracted, repaired, corrected, invalid, refusal, truncated, empty or ambiguous, not "ok"`},
		{"an unknown key", one("input: {text: a}\nanswer: [{contents: x}]\nexpect: {verdict: valid}\n"), `tasks/demo/cases/one.yaml:2:11: unknown key "contents": did you mean content?`},
		{"another kind of file", folder{"tasks/demo/cases/one.json": "{}"}, `tasks/demo/cases/one.json: cases/ holds only *.yaml`},
		{"a field that only the case lacks", folder{"tasks/demo/input.schema.json": "", "tasks/demo/cases/one.yaml": "input: {a: 1}\nanswer: [{content: x}]\nexpect: {verdict: invalid}\n"}, `tasks/demo/prompt.tmpl:2:25: <.Input.text>: map has no entry for key "text" (in the case one)`},
		{"warm inputs", folder{"tasks/demo/warm.jsonl": "{\"text\":\"a\"}\n\n{\"text\":1}\n{\"text\"\n"}, "tasks/demo/warm.jsonl:3: the input does not satisfy input.schema.json: /text: must be a string, got 1\ntasks/demo/warm.jsonl:4:8: the text ends before the JSON value does"},
	})
}

func TestFaultsOfModelsYAMLNameTheirPlace(t *testing.T) {
	t.Parallel()
	const models = "models:\n  small: {provider: here, id: s, context_window: 8000, prices: {input: 1, output: 2}}\n"
	const providers = "providers:\n  here: {kind: openai, base_url: \"http://h/v1\", api_key: none}\n"
	yaml := func(text string) folder { return folder{"models.yaml": text} }
	checkFaults(t, []faultyFolder{
		{"no file", yaml(""), `models.yaml: can not be read: open models.yaml: file does not exist`},
		{"no model", yaml(providers + "models: {}\n"), "models.yaml:1: there is no model\ntasks/demo/task.yaml:1:8: there is no model \"small\" in models.yaml"},
		{"no key", yaml("providers:\n  here: {kind: openai, base_url: \"http://h/v1\"}\n" + models), `models.yaml:2:3: where is the key? say api_key_env: A_VARIABLE, api_key_file: /a/path, or api_key: none`},
		{"a key", yaml("providers:\n  here: {kind: openai, base_url: \"http://h/v1\", api_key: sk-123}\n" + models), `models.yaml:2:58: no secret stands here: api_key can only be none; use api_key_env or api_key_file`},
		{"two keys", yaml("providers:\n  here: {kind: openai, base_url: \"http://h/v1\", api_key: none, api_key_env: K}\n" + models), `models.yaml:2:3: say one of api_key, api_key_env, api_key_file`},
		{"a key in a header", yaml("providers:\n  here: {kind: openai, base_url: \"http://h/v1\", api_key: none, headers: {Authorization: x}}\n" + models), `models.yaml:2:74: no secret stands here: the key comes from api_key_env or api_key_file, other headers from headers_env`},
		{"no URL", yaml("providers:\n  here: {kind: openai, api_key: none}\n" + models), `models.yaml:2:3: base_url is required, say https://api.openai.com/v1`},
		{"a URL without a scheme", yaml("providers:\n  here: {kind: openai, base_url: localhost:8080, api_key: none}\n" + models), `models.yaml:2:34: base_url must begin with http:// or https:// and a host`},
		{"a URL with a password", yaml("providers:\n  here: {kind: openai, base_url: \"http://u:p@h/v1\", api_key: none}\n" + models), `models.yaml:2:34: base_url must not hold a user or password: use api_key_env`},
		{"azure without a version", yaml("providers:\n  here: {kind: azure, base_url: \"http://h\", api_key: none}\n" + models), `models.yaml:2:3: api_version is required for azure, say "2024-10-21"`},
		{"no kind", yaml("providers:\n  here: {base_url: \"http://h\", api_key: none}\n" + models), `models.yaml:2:3: kind is required: openai (any compatible endpoint), azure or simulated`},
		{"an unknown provider", yaml(providers + "models:\n  small: {provider: her, id: s, context_window: 8000, prices: {input: 1, output: 2}}\n"), `models.yaml:4:21: there is no provider "her": did you mean here?`},
		{"a model of nothing", yaml(providers + "models:\n  small: {}\n"), "models.yaml:4:3: context_window is required: the tokens of prompt and answer together\nmodels.yaml:4:3: id is required: as the provider names it\n" +
			"models.yaml:4:3: prices are required, USD per million tokens: say {input: 0, output: 0} when it costs nothing\nmodels.yaml:4:3: provider is required: a name of providers"},
		{"no window", yaml(providers + "models:\n  small: {provider: here, id: s, context_window: 0, prices: {input: 1, output: 2}}\n"), `models.yaml:4:50: context_window must be at least 1, not 0`},
		{"more output than window", yaml(providers + "models:\n  small: {provider: here, id: s, context_window: 10, max_output_tokens: 11, prices: {input: 1, output: 2}}\n"), `models.yaml:4:73: max_output_tokens must be at most 10, not 11`},
		{"half a price", yaml(providers + "models:\n  small: {provider: here, id: s, context_window: 10, prices: {input: -1}}\n"), "models.yaml:4:62: prices.output is required, USD per million tokens\nmodels.yaml:4:70: input must be between 0 and 1e+06, not -1"},
		{"a bad name", yaml(providers + "models:\n  gpt-4.1: {}\n  small: {provider: here, id: s, context_window: 10, prices: {input: 1, output: 1}}\n"), `models.yaml:4:3: the name of a model must match [a-z0-9-]{1,32}`},
		{"a reserved name", yaml("providers:\n  raw: {kind: simulated}\n  here: {kind: simulated}\n" + models), `models.yaml:2:3: the name of a provider may not be "raw", which is reserved`},
		{"simulated that is not", yaml(providers + models + "  simulated: {provider: here, id: s, context_window: 10, prices: {input: 1, output: 1}}\n"), `models.yaml:5:25: the model "simulated" must be of a provider of kind simulated: results say its name`},
		{"an unknown default", yaml("defaults: {breakers: {}}\n" + providers + models), `models.yaml:1:12: unknown key "breakers": did you mean breaker?`},
		{"an unsupported parameter that is none", yaml(providers + "models:\n  small: {provider: here, id: s, context_window: 10, unsupported: [temp], prices: {input: 1, output: 1}}\n"), `models.yaml:4:68: unsupported must hold temperature, top_p, frequency_penalty, presence_penalty, seed, stop, reasoning_effort or max_output_tokens, not "temp"`},
	})
}

func TestFaultsOfTheFolderNameTheirPlace(t *testing.T) {
	t.Parallel()
	checkFaults(t, []faultyFolder{
		{"a bad name", folder{"tasks/Demo_2/task.yaml": "model: small\n"}, `tasks/Demo_2: the name of a task must match [a-z0-9-]{1,32}`},
		{"a reserved name", folder{"tasks/raw/task.yaml": "model: small\n"}, `tasks/raw: the name of a task may not be "raw", which is reserved`},
		{"no task.yaml", folder{"tasks/other/prompt.tmpl": "x"}, "tasks/other: there is no task.yaml in it: it needs at least `model: <a name of models.yaml>`"},
	})
	_, err := task.Load(fstest.MapFS{"models.yaml": {Data: []byte(good()["models.yaml"])}}, nil)
	if want := "tasks: there is no task: a task is a folder tasks/<name> with task.yaml and prompt.tmpl in it"; err == nil || err.Error() != want {
		t.Errorf("without tasks: got %v", err)
	}
}

func TestAllFaultsAreReportedAtOnceInOrder(t *testing.T) {
	t.Parallel()
	_, err := good().with(folder{
		"models.yaml":                   "providers:\n  here: {kind: openai, base_url: x}\nmodels:\n  small: {provider: here, id: s, context_window: 10, prices: {input: 1, output: 1}, stram: true}\n",
		"tasks/demo/task.yaml":          "modell: small\nlane: fast\nladder: [{rung: canned}]\n",
		"tasks/demo/output.schema.json": `{"minimun":1}`,
		"tasks/demo/prompt.tmpl":        `{{define "users"}}{{end}}`,
		"tasks/demo/cases/a.yaml":       "inputs: {}\n",
		"tasks/other/task.yaml":         "model: none\noutput: {format: text}\n",
	}).load()
	var faults task.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v, want Faults", err)
	}
	want := strings.TrimSpace(`
models.yaml:2:3: where is the key? say api_key_env: A_VARIABLE, api_key_file: /a/path, or api_key: none
models.yaml:2:34: base_url must begin with http:// or https:// and a host
models.yaml:4:85: unknown key "stram": did you mean stream?
tasks/demo/cases/a.yaml:1: a case needs answer: what the model said
tasks/demo/cases/a.yaml:1: a case needs expect: what must come of the answer
tasks/demo/cases/a.yaml:1: a case needs input
tasks/demo/cases/a.yaml:1:1: unknown key "inputs": did you mean input?
tasks/demo/output.schema.json#/minimun: minimun is not a keyword: did you mean minimum?
tasks/demo/prompt.tmpl: it must define "user": {{define "user"}}…{{end}}
tasks/demo/prompt.tmpl: nothing sends the template "users": did you mean user?
tasks/demo/task.yaml:1: model is required: a name of models.yaml
tasks/demo/task.yaml:1:1: unknown key "modell": did you mean model?
tasks/demo/task.yaml:2:7: lane must be interactive or batch, not "fast"
tasks/demo/task.yaml:3:17: the rung canned needs canned.yaml beside task.yaml
tasks/other: there is no prompt.tmpl in it: it needs at least {{define "user"}}{{json .Input}}{{end}}
tasks/other/task.yaml:1:8: there is no model "none" in models.yaml: known are small`)
	if got := faults.Error(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if f := faults[1]; f.File != "models.yaml" || f.Line != 2 || f.Column != 34 {
		t.Errorf("the second fault is %+v", f)
	}
}
