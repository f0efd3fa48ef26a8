package task_test

import (
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"spillway/pkg/task"
)

// folder is a good folder with one task, for tests that spoil it.
type folder map[string]string

func good() folder {
	return folder{
		"models.yaml": `providers:
  here: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}
models:
  small: {provider: here, id: s-1, context_window: 8000, max_output_tokens: 1000, prices: {input: 1, output: 2}}
  large: {provider: here, id: l-1, context_window: 8000, prices: {input: 1, output: 2}}
`,
		"tasks/demo/task.yaml": "model: small\n",
		"tasks/demo/prompt.tmpl": `{{define "system"}}Schema: {{.Schema}}{{end}}
{{define "user"}}{{.Input.text}}{{end}}
`,
		"tasks/demo/input.schema.json": `{"type":"object","properties":{"text":{"type":"string"},"note":{"type":"string"},
 "name":{"type":["string","null"]}},"required":["text"],"additionalProperties":false}`,
		"tasks/demo/output.schema.json": `{"type":"object","properties":{"mood":{"enum":["good","bad"]}},"required":["mood"],"additionalProperties":false}`,
	}
}

// with returns a copy with the files set; "" removes one.
func (f folder) with(files folder) folder {
	spoiled := maps.Clone(f)
	for name, text := range files {
		if spoiled[name] = text; text == "" {
			delete(spoiled, name)
		}
	}
	return spoiled
}

func (f folder) fs() fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range f {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func (f folder) load() (*task.Set, error) { return task.Load(f.fs(), nil) }

func (f folder) mustLoad(t testing.TB) *task.Set {
	t.Helper()
	set, err := f.load()
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	return set
}

// faultyFolders are spoiled folders, each with all of its faults.
type faultyFolder struct {
	name  string
	files folder
	want  string
}

func checkFaults(t *testing.T, rows []faultyFolder) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			set, err := good().with(row.files).load()
			if err == nil {
				t.Fatal("it loads")
			}
			if set != nil {
				t.Error("a set came with the faults")
			}
			if got, want := err.Error(), strings.TrimSpace(row.want); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

// taskYAML spoils task.yaml of the good folder.
func taskYAML(text string) folder { return folder{"tasks/demo/task.yaml": text} }
