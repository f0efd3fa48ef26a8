package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestTasksAreListed(t *testing.T) {
	spillway(t, "task", "ls").with(exitOK, "NAME", "analyze", "cache > large > canned", "interactive")
	dir := folder(t)
	got := map[any]map[string]any{}
	for _, line := range spillway(t, "task", "ls", "--schemas="+dir, "--json").with(exitOK).lines() {
		got[line["name"]] = line
	}
	if len(got) != 4 || got["bare"]["model"] != "small" || len(got["bare"]["ladder"].([]any)) != 0 || len(got["bare"]["version"].(string)) != 8 {
		t.Errorf("%v", got)
	}
	warm := freshFolder(t)
	spillway(t, "task", "ls", "--schemas="+warm).with(exitOK, "CACHE", "WARM", "fresh 1h  3 ", "fallback  0 ")
	for _, line := range spillway(t, "task", "ls", "--schemas="+warm, "--json").with(exitOK).lines() {
		if cache := line["cache"].(map[string]any); line["name"] == "bare" && (cache["serve"] != "fresh" || cache["fresh_for"] != "1h" || line["warm"] != 3.0) {
			t.Errorf("%v", line)
		}
	}
	spillway(t, "task", "show", "bare", "--schemas="+warm).with(exitOK, "fresh_for: 1h", "warm: 3")
	spillway(t, "task", "ls", "--schemas="+filepath.Join(dir, "nowhere")).with(exitFailed, "is not a folder")
}

func TestATaskIsShownWithItsDefaultsResolved(t *testing.T) {
	dir := folder(t)
	text := spillway(t, "task", "show", "bare", "--schemas="+dir).with(exitOK, "no_ladder: the test wants to see the failure")
	var shown struct {
		Deadline struct{ Default, Max string }
		Timeouts struct {
			FirstToken string `yaml:"first_token"`
		}
		Retry struct {
			MaxCalls    int `yaml:"max_calls"`
			Interactive struct{ Attempts int }
		}
		Correction struct {
			LastOn string `yaml:"last_on"`
		}
		Context struct {
			MaxInputTokens int `yaml:"max_input_tokens"`
		}
		OutputSchema map[string]any `yaml:"output_schema"`
	}
	if err := yaml.Unmarshal([]byte(text.out), &shown); err != nil {
		t.Fatalf("it is no YAML: %v\n%s", err, text.out)
	}
	if shown.Deadline.Default != "20s" || shown.Deadline.Max != "10m" || shown.Timeouts.FirstToken == "0s" || shown.Retry.MaxCalls == 0 ||
		shown.Retry.Interactive.Attempts != 1 || shown.Correction.LastOn != "small" || shown.Context.MaxInputTokens == 0 || shown.OutputSchema["type"] != "object" {
		t.Errorf("%+v", shown)
	}
	one := spillway(t, "task", "show", "bare", "--schemas="+dir, "--json").with(exitOK).one()
	if one["name"] != "bare" || one["output_schema"] == nil {
		t.Errorf("%v", one)
	}
	if n := spillway(t, "task", "show", "none").with(exitNotFound, "there is no task", "analyze"); n.out != "" {
		t.Error(n.out)
	}
}

func TestTaskFilesAreChecked(t *testing.T) {
	t.Run("the built-in ones have no faults", func(t *testing.T) {
		spillway(t, "task", "check").with(exitOK, "3 tasks, ", "no faults")
	})
	t.Run("every fault of the folder is printed with its line", func(t *testing.T) {
		dir := folder(t)
		write(t, filepath.Join(dir, "tasks", "bare", "task.yaml"), "model: small\nlanes: batch\nretry: {attempts: many}\n")
		out := spillway(t, "task", "check", "--schemas="+dir).with(exitFailed, "tasks/bare/task.yaml:2", "lanes", "tasks/bare/task.yaml:3", "faults in the task files")
		if strings.Count(out.out, "\n") < 2 {
			t.Errorf("not a fault a line: %s", out.out)
		}
		first := spillway(t, "task", "check", "--schemas="+dir, "--json").with(exitFailed).lines()[0]
		if first["file"] != "tasks/bare/task.yaml" || first["line"] != 2.0 {
			t.Errorf("%v", first)
		}
	})
	t.Run("a case that breaks a rule is a fault", func(t *testing.T) {
		dir := folder(t)
		write(t, filepath.Join(dir, "tasks", "bare", "task.yaml"), bareTask+"output:\n  rules: [{name: short, expr: size(output.says) < 5, say: say less}]\n")
		kase := func(says string) string {
			answer, _ := json.Marshal(`{"says":"` + says + `"}`)
			return "input: {text: a}\nanswer: {content: " + string(answer) + "}\nexpect: {verdict: valid, output: {says: " + says + "}}\n"
		}
		write(t, filepath.Join(dir, "tasks", "bare", "cases", "good.yaml"), kase("well"))
		spillway(t, "task", "check", "--schemas="+dir).with(exitOK, "4 tasks", "no faults")
		write(t, filepath.Join(dir, "tasks", "bare", "cases", "long.yaml"), kase("much-too-long"))
		spillway(t, "task", "check", "--schemas="+dir).with(exitFailed, "tasks/bare/cases/long.yaml:3:", "breaks the rule short: say less", "1 fault in").without("good.yaml")
	})
	t.Run("a case whose prompt does not render is a fault", func(t *testing.T) {
		dir := folder(t)
		write(t, filepath.Join(dir, "tasks", "bare", "prompt.tmpl"), `{{define "user"}}{{if eq .Input.text "bad"}}{{.Input.missing}}{{end}}{{.Input.text}}{{end}}`)
		write(t, filepath.Join(dir, "tasks", "bare", "cases", "bad.yaml"), "input: {text: bad}\nanswer: {content: \"{}\"}\nexpect: {verdict: invalid}\n")
		spillway(t, "task", "check", "--schemas="+dir).with(exitFailed, "tasks/bare/prompt.tmpl:1", "missing", "case bad")
	})
}
