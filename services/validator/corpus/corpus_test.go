package corpus

import (
	"encoding/json"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"spillway/pkg/schema"
	"spillway/schemas"
)

var (
	outputs = []string{"valid", "extracted", "repaired"}
	others  = []string{"invalid", "ambiguous", "refusal", "truncated", "empty", "too_large"}
	// verdicts are those that a class may have.
	verdicts = map[string][]string{
		"valid": {"valid"}, "repairable": {"extracted", "repaired"},
		"trap": others, "hopeless": others,
	}
)

func TestEachLineIsWhole(t *testing.T) {
	t.Parallel()
	for _, line := range load(t) {
		for field, value := range map[string]string{"name": line.Name, "why": line.Why, "source": line.Source} {
			if strings.TrimSpace(value) == "" {
				t.Errorf("%s: %q has no %s", line.File, line.Name, field)
			}
		}
		if !slices.Contains(verdicts[line.Class], line.Verdict) {
			t.Errorf("%s: class %s and verdict %s", line.Name, line.Class, line.Verdict)
		}
		if slices.Contains(outputs, line.Verdict) != (line.Output != nil) {
			t.Errorf("%s: an output if and only if the verdict has one", line.Name)
		}
		if line.FinishReason != "stop" && line.FinishReason != "length" {
			t.Errorf("%s: finish reason %s", line.Name, line.FinishReason)
		}
		if (line.FinishReason == "length") != (line.Verdict == "truncated") {
			t.Errorf("%s: truncated if and only if the limit was reached", line.Name)
		}
		if line.Base64 == utf8.ValidString(line.Answer) {
			t.Errorf("%s: base64 if and only if the answer is not UTF-8", line.Name)
		}
		if (line.Repeat != nil) != (len(line.Answer) > 4<<10 && line.Class != "valid") {
			t.Errorf("%s: what is said again and again is written once", line.Name)
		}
	}
}

func TestNoLineIsThereTwice(t *testing.T) {
	t.Parallel()
	names, answers := map[string]string{}, map[[3]string]string{}
	for _, line := range load(t) {
		if file, twice := names[line.Name]; twice {
			t.Errorf("%s: %q is in %s as well", line.File, line.Name, file)
		}
		names[line.Name] = line.File
		key := [3]string{line.Task, line.Answer, line.FinishReason}
		if name, twice := answers[key]; twice {
			t.Errorf("%s has the answer of %s", line.Name, name)
		}
		answers[key] = line.Name
	}
}

func TestEachOutputSatisfiesTheSchemaOfItsTask(t *testing.T) {
	t.Parallel()
	compiled := map[string]*schema.Schema{
		"onboarding": compile(t, schemas.FS(), "tasks/onboarding/output.schema.json"),
		"analyze":    compile(t, schemas.FS(), "tasks/analyze/output.schema.json"),
		"list":       compile(t, files, "testdata/list.schema.json"),
	}
	for _, line := range load(t) {
		s := compiled[line.Task]
		if s == nil {
			t.Errorf("%s: task %s", line.Name, line.Task)
			continue
		}
		if line.Output == nil {
			continue
		}
		value, err := schema.Decode(line.Output)
		if err != nil {
			t.Errorf("%s: %v", line.Name, err)
			continue
		}
		if faults := s.Validate(value); faults != nil {
			t.Errorf("%s: %v", line.Name, faults)
		}
	}
}

func TestALineWithAnUnknownFieldOrABrokenAnswerIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"mood":1}`, `{"answer":"%","base64":true}`, `{`} {
		if _, err := appendLines(nil, "x.jsonl", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), "x.jsonl:1: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
	lines, err := appendLines(nil, "x.jsonl", []byte(`{"answer":"a {repeat}b","repeat":{"text":"x","times":3}}`))
	if err != nil || lines[0].Answer != "a xxxb" {
		t.Errorf("%v, %v", lines, err)
	}
}

func load(t *testing.T) []Line {
	t.Helper()
	lines, err := Lines()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func compile(t *testing.T, folder fs.FS, name string) *schema.Schema {
	t.Helper()
	source, err := fs.ReadFile(folder, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.Compile(json.RawMessage(source))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
