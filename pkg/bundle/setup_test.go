package bundle_test

import (
	"fmt"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/bundle"
	"spillway/pkg/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder is a folder of schemas with the task toy, which says a word, on a model of some price.
func folder(word string, price int, more map[string]string) fstest.MapFS {
	files := fstest.MapFS{
		"models.yaml": {Data: fmt.Appendf(nil, `defaults: {timeouts: {call: 20s}}
providers:
  one: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}
models:
  small: {provider: one, id: small-1, context_window: 16000, prices: {input: %d, output: 2.5e0}}
  other: {provider: one, id: other-1, context_window: 16000, prices: {input: 1, output: 2}}
`, price)},
		"tasks/toy/task.yaml":          {Data: []byte("model: small\nladder: [{rung: model, model: other}]\n")},
		"tasks/toy/prompt.tmpl":        {Data: []byte(`{{define "system"}}` + word + ` {{.Schema}}{{end}}{{define "user"}}{{.Input.text}}{{end}}`)},
		"tasks/toy/input.schema.json":  {Data: []byte(`{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`)},
		"tasks/toy/output.schema.json": {Data: []byte(`{"type":"object","properties":{"says":{"type":"string"}},"required":["says"]}`)},
		"tasks/toy/notes/why.txt":      {Data: []byte("why it is so\n")},
	}
	for name, text := range more {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

func load(t testing.TB, files fstest.MapFS) *task.Set {
	t.Helper()
	set, err := task.Load(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// toy is the set with the task that says word.
func toy(t testing.TB, word string) *task.Set {
	t.Helper()
	return load(t, folder(word, 1, nil))
}

func bundleOf(set *task.Set) *bundle.Bundle { return bundle.Of(set.Tasks["toy"]) }

// setup is a broker with its buckets.
func setup(t testing.TB) (*broker.Conn, *bundle.Store) {
	t.Helper()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, broker.NewTopology(nil, nil, broker.DefaultSizing()))
	return conn, bundle.NewStore(conn)
}
