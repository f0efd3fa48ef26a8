package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestANewTaskIsWrittenAndWorksAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my", "schemas")
	said := spillway(t, "task", "new", "triage", "--schemas="+dir).with(exitOK, "spillway task check triage --schemas "+dir, "spillway up --schemas "+dir)
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
			if !strings.Contains(said.out, path+" ") {
				t.Errorf("it does not say that it wrote %s:\n%s", path, said.out)
			}
		}
		return err
	})
	if err != nil || len(files) != 10 {
		t.Fatalf("%v %v", files, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(text), "@") {
			t.Errorf("%s: %v\n%s", path, err, text)
		}
	}
	r := pipelineOf(t, dir)
	result := r.spillway(t, "submit", "triage", `{"text": "How long does it take?"}`, "--json").with(exitOK).one()
	if result["status"] != "succeeded" || result["model"] != "simulated" {
		t.Errorf("%v", result)
	}
	if calls := r.provider.Counts().Calls; calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

func TestANewTaskOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	models := filepath.Join(dir, "models.yaml")
	own := "providers: {here: {kind: openai, base_url: \"http://127.0.0.1:1/v1\", api_key: none}}\n" +
		"models: {mine: {provider: here, id: m-1, context_window: 8000, prices: {input: 0, output: 0}}}\n"
	write(t, models, own)
	one := spillway(t, "task", "new", "first", "--schemas="+dir, "--json").with(exitOK).one()
	if files := one["files"].([]any); len(files) != 9 || one["task"] != "first" {
		t.Errorf("%v", one)
	}
	if text, err := os.ReadFile(models); err != nil || string(text) != own {
		t.Errorf("%v %s", err, text)
	}
	var shown map[string]any
	if err := json.Unmarshal([]byte(spillway(t, "task", "show", "first", "--schemas="+dir, "--json").with(exitOK).out), &shown); err != nil || shown["model"] != "mine" {
		t.Errorf("%v %v", shown["model"], err)
	}
	spillway(t, "task", "check", "--strict", "--schemas="+dir).with(exitOK, "1 task, 2 cases, no faults\n")
	path := filepath.Join(dir, "tasks", "first", "prompt.tmpl")
	write(t, path, "mine")
	spillway(t, "task", "new", "first", "--schemas="+dir).with(exitFailed, "is there already, and nothing is overwritten")
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("%v %s", err, text)
	}
	spillway(t, "task", "new", "second", "--schemas="+dir, "--model=large").with(exitNotFound, `there is no model "large"`, "there are mine")
	write(t, models, "models: {}\n")
	spillway(t, "task", "new", "second", "--schemas="+dir).with(exitFailed, "models.yaml has faults", "there is no model")
	entries, err := os.ReadDir(filepath.Join(dir, "tasks"))
	names := slices.Collect(func(yield func(string) bool) {
		for _, e := range entries {
			if !yield(e.Name()) {
				return
			}
		}
	})
	if err != nil || !slices.Equal(names, []string{"first"}) {
		t.Errorf("what was refused left something: %v %v", names, err)
	}
}

func TestANewTaskNeedsAName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "schemas")
	for name, why := range map[string]string{
		"Triage":                "must match [a-z0-9-]{1,32}",
		"a/b":                   "must match [a-z0-9-]{1,32}",
		strings.Repeat("a", 33): "must match [a-z0-9-]{1,32}",
		"raw":                   `may not be "raw", which is reserved`,
	} {
		spillway(t, "task", "new", name, "--schemas="+dir).with(exitUsage, why)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("what was refused left something: %v", err)
	}
}
