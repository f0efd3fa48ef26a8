package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spillway/pkg/tokens"
)

func TestAPromptIsShownAsTheModelWouldSeeIt(t *testing.T) {
	dir := made(t)
	text := spillway(t, "task", "render", "triage", "question", "--schemas="+dir).with(exitOK,
		"model     small (gpt-4o-mini-2024-07-18)", "format    json_schema, strict", "left out  nothing", "by the prices of 2026-11-01",
		"system, system\n  You sort what users write to us", `{"$schema":"http://json-schema.org`, "input, user\n  How long does the delivery take?\n")
	if strings.Contains(text.out, "{{") {
		t.Error("it is not rendered")
	}
	one := spillway(t, "task", "render", "triage", `{"text": "How long does the delivery take?"}`, "--schemas="+dir, "--json").with(exitOK).one()
	messages := one["messages"].([]any)
	if last := messages[len(messages)-1].(map[string]any); len(messages) != 2 || last["role"] != "user" || last["content"] != "How long does the delivery take?" {
		t.Errorf("%v", messages)
	}
	sum := 0.0
	for _, section := range one["sections"].([]any) {
		s := section.(map[string]any)
		sum += s["tokens"].(float64)
		if s["name"] == "input" {
			n, err := tokens.New().Count("o200k_base", "How long does the delivery take?")
			if err != nil || s["tokens"] != float64(n) {
				t.Errorf("the input has %v tokens, counted alone %d (%v)", s["tokens"], n, err)
			}
		}
	}
	price := one["price"].(map[string]any)
	if sum != one["tokens"] || math.Abs(price["prompt_usd"].(float64)-sum*0.15/1e6) > 1e-12 || math.Abs(price["most_usd"].(float64)-(sum*0.15+300*0.60)/1e6) > 1e-12 {
		t.Errorf("%v tokens in sections, %v", sum, one)
	}
}

func TestAPromptIsShownOfInputsFromElsewhere(t *testing.T) {
	dir := made(t)
	file := filepath.Join(t.TempDir(), "input.json")
	write(t, file, `{"text": "From a file."}`)
	spillway(t, "task", "render", "triage", "@"+file, "--schemas="+dir).with(exitOK, "input, user\n  From a file.\n")
	typed(t, `{"text": "From standard input."}`)
	spillway(t, "task", "render", "triage", "-", "--schemas="+dir, "--model=large").with(exitOK, "input, user\n  From standard input.\n", "large (gpt-4o-2024-08-06)")
	change(t, dir, "models.yaml", "id: gpt-4o-2024-08-06\n", "id: gpt-4o-2024-08-06\n    system_role: developer\n")
	spillway(t, "task", "render", "triage", "question", "--schemas="+dir, "--model=large").with(exitOK, "system, developer\n  You sort")
	for input, says := range map[string]struct {
		code int
		text string
	}{
		"qestion":            {exitUsage, "the input is neither JSON"},
		"@" + file + "x":     {exitFailed, "no such file"},
		`{"txt": "a"}`:       {exitFailed, "would be rejected, it does not satisfy input.schema.json:\n  /text: "},
		`{"text": 1}`:        {exitFailed, "/text: must be a string"},
		`{"text": "a"} more`: {exitUsage, "(question, unknown-category)"},
	} {
		spillway(t, "task", "render", "triage", input, "--schemas="+dir).with(says.code, says.text)
	}
	spillway(t, "task", "render", "none", "{}", "--schemas="+dir).with(exitNotFound, `there is no task "none"`)
	spillway(t, "task", "render", "triage", "question", "--model=none", "--schemas="+dir).with(exitNotFound, `there is no model "none"`, "large, simulated, small")
	spillway(t, "task", "render", "triage", "question", "--state={}", "--schemas="+dir).with(exitUsage, "has no sessions")
	change(t, dir, "tasks/triage/task.yaml", "deadline:", "context: {max_input_tokens: 200}\ndeadline:")
	spillway(t, "task", "render", "triage", "question", "--schemas="+dir).with(exitFailed, "tokens    259 of 200", "input            7 ", "no prompt can be made of it for model small: the prompt is 59 tokens too long (259 of 200)")
	spillway(t, "task", "render", "triage", `{"text": "`+strings.Repeat("a", 250<<10)+`"}`, "--schemas="+dir).with(exitFailed, "tokens too long")
}

func TestAPromptIsShownWithWhatASessionRemembers(t *testing.T) {
	r := pipeline(t)
	dir := folder(t)
	for _, message := range []string{"I would like to change 200 euros.", "How long does that take?"} {
		r.spillway(t, "submit", "onboarding", "--session=user-42", `{"message": "`+message+`"}`).with(exitOK)
	}
	input := `{"message": "And dollars?"}`
	r.spillway(t, "submit", "onboarding", "--session=user-42", "--id=third", input).with(exitOK)
	file := filepath.Join(t.TempDir(), "session.json")
	kept := r.spillway(t, "session", "show", "onboarding", "user-42", "--json").with(exitOK)
	write(t, file, kept.out)
	shown := spillway(t, "task", "render", "onboarding", input, "--schemas="+dir, "--session="+file).with(exitOK, "turns, user\n  I would like to change 200 euros.\n", "turns, assistant", "input, user\n  And dollars?\n", "1 request of the session had no result yet")
	seen := r.spillway(t, "context", "show", "third", "--schemas="+dir).with(exitOK)
	_, fromHere, _ := strings.Cut(shown.out, "SECTION")
	if _, theirs, ok := strings.Cut(seen.out, "SECTION"); !ok || !strings.HasPrefix(theirs, fromHere) {
		t.Errorf("the stage showed the model\n%s\nand it is shown here\n%s", theirs, fromHere)
	}
	spillway(t, "task", "render", "onboarding", input, "--schemas="+dir, `--state={"intent": "exchange"}`).with(exitOK, "the customer wants exchange")
	spillway(t, "task", "render", "onboarding", input, "--schemas="+dir, `--state={"intent": 1}`).with(exitFailed, "the state does not satisfy state.schema.json: /intent")
	spillway(t, "task", "render", "onboarding", input, "--schemas="+dir, `--state=[]`).with(exitUsage, "the state must be an object")
	change(t, dir, "tasks/onboarding/task.yaml", "  session: optional", "  session: optional\n  max_input_tokens: 390")
	cut := spillway(t, "task", "render", "onboarding", input, "--schemas="+dir, "--session="+file).with(exitOK, "left out  turns: 1 of 2")
	if strings.Contains(cut.out, "200 euros") {
		t.Errorf("the oldest turn stands there:\n%s", cut.out)
	}
	if _, err := os.Stat(filepath.Join(dir, ".spillway")); err == nil {
		t.Error("a look left something")
	}
}

func TestATaskSaysWhyItsResponseFormatIsNotStrict(t *testing.T) {
	dir := made(t)
	spillway(t, "task", "show", "triage", "--schemas="+dir).with(exitOK, "response_format:\n  kind: json_schema\n  strict: true\n")
	change(t, dir, "tasks/triage/output.schema.json", `"properties": {`, `"not": {"required": ["other"]}, "properties": {`)
	spillway(t, "task", "show", "triage", "--schemas="+dir).with(exitOK, "  strict: false\n  why: ", "/not")
	spillway(t, "task", "render", "triage", "question", "--schemas="+dir).with(exitOK, "format    json_schema, not strict: /not")
	change(t, dir, "models.yaml", "structured_output: json_schema", "structured_output: none")
	spillway(t, "task", "show", "triage", "--schemas="+dir).with(exitOK, "kind: none\n  strict: false\n  why: structured_output of model small in models.yaml is none")
}
