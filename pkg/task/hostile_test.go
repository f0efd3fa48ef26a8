package task

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestATaskThatWouldFillTheMemoryOrNeverEndIsAtFault(t *testing.T) {
	for name, c := range map[string]struct {
		prompt, says string
		pipe         bool
	}{
		"a count":      {`{{define "user"}}{{range 1000000000}}0123456789{{end}}{{end}}`, "it becomes longer than 16 MiB", false},
		"a named pipe": {`{{define "user"}}x{{end}}`, "cases/pipe.yaml: is no regular file", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cases := filepath.Join(dir, "tasks", "a", "cases")
			if err := os.MkdirAll(cases, 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{
				"models.yaml":               "providers: {p: {kind: simulated}}\nmodels: {m: {provider: p, id: m, context_window: 1000, max_output_tokens: 100, encoding: o200k_base, prices: {as_of: \"2026-11-01\", input: 0, output: 0}}}\n",
				"tasks/a/task.yaml":         "model: m\noutput: {format: text}\n",
				"tasks/a/input.schema.json": `{"type": "object"}`,
				"tasks/a/prompt.tmpl":       c.prompt,
			} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.pipe {
				if err := syscall.Mkfifo(filepath.Join(cases, "pipe.yaml"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Load(os.DirFS(dir), func(string) string { return "" })
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}
