package lint_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"spillway/pkg/lint"
	"spillway/pkg/task"
)

const models = `providers: {here: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}}
models: {small: {provider: here, id: s-1, context_window: 8000, structured_output: json_schema, prices: {input: 1, output: 2}}}
`

// folder has one task of the files that are given.
func folder(files map[string]string) fstest.MapFS {
	fs := fstest.MapFS{"models.yaml": {Data: []byte(models)}, "tasks/demo/task.yaml": {Data: []byte("model: small\n")}}
	for name, text := range files {
		fs["tasks/demo/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fs
}

// look returns what is found in the task, and what Load finds at fault.
func look(t *testing.T, files map[string]string) ([]lint.Finding, task.Faults) {
	t.Helper()
	set, faults := task.Inspect(folder(files), nil)
	return lint.Task(set.Tasks["demo"]), faults
}

// A task whose input and output are of a schema as others emit it, with values that another validator takes.
func TestSchemasAsOthersEmitThemRaiseNoAlarm(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../schema/testdata/generated.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Name   string
		Schema json.RawMessage
		Fault  string
		Values []struct {
			Value json.RawMessage
			Valid bool
		}
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, one := range all {
		if one.Fault != "" {
			continue
		}
		for _, row := range one.Values {
			if !row.Valid || string(row.Value) == "null" { // a case without an input
				continue
			}
			looked++
			answer, err := json.Marshal(string(row.Value))
			if err != nil {
				t.Fatal(err)
			}
			found, faults := look(t, map[string]string{
				"input.schema.json": string(one.Schema), "output.schema.json": string(one.Schema),
				"prompt.tmpl":  `{{define "system"}}Answer by this schema: {{.Schema}}{{end}}{{define "user"}}{{json .Input}}{{end}}`,
				"canned.yaml":  "- output: " + string(row.Value) + "\n",
				"cases/a.yaml": "input: " + string(row.Value) + "\nanswer: {content: " + string(answer) + "}\nexpect: {verdict: valid, output: " + string(row.Value) + "}\n",
			})
			if len(faults) > 0 {
				t.Errorf("%s: %s: %v", one.Name, row.Value, faults)
			}
			for _, f := range found {
				// What no schema names is written there on purpose.
				isMeant := one.Name == "zod 4: defaults, input" && strings.Contains(f.Message, "does not declare /more: it has a, b, c")
				if f.Severity != lint.Note && !isMeant {
					t.Errorf("%s: %s: %s", one.Name, row.Value, f)
				}
			}
		}
	}
	if looked < 60 {
		t.Errorf("%d values", looked)
	}
}
