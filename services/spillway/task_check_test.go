package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// made is the folder that `task new triage` writes.
func made(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "schemas")
	spillway(t, "task", "new", "triage", "--schemas="+dir).with(exitOK)
	return dir
}

// change replaces a text in a file of a folder, which has it.
func change(t *testing.T, dir, file, before, after string) {
	t.Helper()
	path := filepath.Join(dir, file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(text), before, after)
	if changed == string(text) {
		t.Fatalf("%s has no %q", file, before)
	}
	write(t, path, changed)
}

// edit is a change of a file of the task.
type edit struct{ file, before, after string }

// Each row plants one drift, and sees it said, with its place.
func TestEachPlantedDriftIsFound(t *testing.T) {
	const (
		noSchema = "Answer with exactly one JSON object that satisfies this JSON schema, and with nothing else.\n{{.Schema}}"
		json     = "Answer with one JSON object."
		small    = "    structured_output: json_schema\n    prices: {as_of: \"2026-11-01\", input: 0.15"
		rung     = "  # - {rung: model, model: large}    # another model of models.yaml\n"
	)
	for name, row := range map[string]struct {
		edits []edit
		code  int
		says  []string
		not   []string
	}{
		"a property of the output that the prompt names is renamed in the schema": {
			edits: []edit{{"output.schema.json", `"category"`, `"kind"`}},
			code:  exitFailed,
			says: []string{
				"tasks/triage/prompt.tmpl:5: the prompt names a property category, which output.schema.json does not have: did you mean kind?",
				"tasks/triage/cases/question.yaml:", "tasks/triage/canned.yaml:",
			},
		},
		"the prompt speaks of it in JSON": {
			edits: []edit{{"prompt.tmpl", "What the properties mean:", `Say {"categorie": "question", "reply": "…"}.` + "\nWhat the properties mean:"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/prompt.tmpl:4: the prompt names a property categorie, which output.schema.json does not have: did you mean category? (rename it here or there)"},
		},
		"the prompt speaks of it in backticks": {
			edits: []edit{{"prompt.tmpl", "What the properties mean:", "Take care of `category` and of `repli`, not of `/other`.\nWhat the properties mean:"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/prompt.tmpl:4: the prompt names a property repli, which output.schema.json does not have: did you mean reply?"},
		},
		"a property of the input that the template reads is renamed": {
			edits: []edit{{"input.schema.json", `"text"`, `"message"`}, {"task.yaml", "model: small", "model: small\nlane: interactive"}},
			code:  exitFailed,
			says: []string{
				"tasks/triage/prompt.tmpl:8: the template reads .Input.text, which input.schema.json does not declare: it has message (rename it here or there)",
				"tasks/triage/canned.yaml:2:9: the expression reads input.text, which input.schema.json does not declare: it has message",
				"tasks/triage/cases/question.yaml:2:", "no template reads the required property message",
			},
		},
		"and the schema takes others": {
			edits: []edit{{"input.schema.json", `"text"`, `"message"`}, {"input.schema.json", `"required": ["message"],`, `"required": [],`}, {"input.schema.json", `,` + "\n  \"additionalProperties\": false", ""}, {"input.schema.json", `"required": []`, `"minProperties": 1`}},
			code:  exitFailed,
			says:  []string{"tasks/triage/cases/question.yaml:2:15: input.schema.json does not declare /text: it has message (rename it here or there, or let the schema say \"additionalProperties\": true)"},
		},
		"a required property that neither prompt nor response format names": {
			edits: []edit{{"prompt.tmpl", noSchema, json}, {"prompt.tmpl", "- reply: a draft of an answer", "And a draft of an answer"}, {"../../models.yaml", small, strings.Replace(small, "json_schema", "none", 1)}},
			code:  exitFailed,
			says:  []string{"tasks/triage/output.schema.json#/properties/reply: model small is never told of the required property reply: prompt.tmpl does not name it, and no schema is sent along (structured_output of model small in models.yaml is none); describe it in the prompt, or put {{.Schema}} there"},
			not:   []string{"property category"},
		},
		"the task does not send the schema": {
			edits: []edit{{"prompt.tmpl", noSchema, json}, {"prompt.tmpl", "- reply: a draft of an answer", "And a draft of an answer"}, {"task.yaml", "output:\n", "output:\n  provider_schema: never\n"}},
			code:  exitFailed,
			says:  []string{"the required property reply: prompt.tmpl does not name it, and no schema is sent along (output.provider_schema is never)"},
		},
		"a model has JSON mode alone, and the prompt does not speak of JSON": {
			edits: []edit{{"prompt.tmpl", noSchema, "Answer."}, {"../../models.yaml", small, strings.Replace(small, "json_schema", "json_object", 1)}},
			code:  exitFailed,
			says:  []string{"tasks/triage/prompt.tmpl:1: model small is called in JSON mode (structured_output: json_object), which providers refuse for a prompt without the word JSON"},
		},
		"the schema has no strict form": {
			edits: []edit{{"output.schema.json", `"properties": {`, `"not": {"required": ["other"]}, "properties": {`}},
			says:  []string{"tasks/triage/output.schema.json: note: the schema is sent as it is, without strict mode, so models are less bound by it: /not: ", "no faults\n"},
		},
		"nor does the prompt name what it demands": {
			edits: []edit{{"output.schema.json", `"properties": {`, `"not": {"required": ["other"]}, "properties": {`}, {"prompt.tmpl", noSchema, json}, {"prompt.tmpl", "- reply: a draft of an answer", "And a draft of an answer"}},
			says:  []string{"#/properties/reply: warning: prompt.tmpl names the required property reply nowhere, and the response format, which does, is not strict", "no faults, 1 warning"},
		},
		"a part of the input that no template reads": {
			edits: []edit{{"input.schema.json", `"text": {`, `"tone": {"type": "string", "description": "How to answer."}, "text": {`}},
			says:  []string{"tasks/triage/input.schema.json#/properties/tone: warning: no template reads the described property tone, so it changes nothing: print it in prompt.tmpl, or take it out of the schema"},
		},
		"a prepared answer that comes after one that always matches": {
			edits: []edit{{"canned.yaml", `input.text.matches("(?i)refund|money back")`, "true"}, {"canned.yaml", "- output:\n    category: other", "- when: input.text == \"\"\n  output: {category: other, reply: We have your message.}\n- output:\n    category: other"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/canned.yaml:6:9: rule 2 can never be reached: rule 1 always matches; remove one of them"},
		},
		"a prepared answer with the condition of another": {
			edits: []edit{{"canned.yaml", "- output:\n    category: other", "- when: input.text.matches(\"(?i)refund|money back\")\n  output: {category: other, reply: We have your message.}\n- output:\n    category: other"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/canned.yaml:6:9: rule 2 can never be reached: rule 1 has the same condition"},
		},
		"a prepared answer with a condition that never holds": {
			edits: []edit{{"canned.yaml", `input.text.matches("(?i)refund|money back")`, "size(\"\") > 0"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/canned.yaml:2:9: rule 1 can never match: its condition is always false"},
		},
		"a prepared answer whose condition fails": {
			edits: []edit{{"canned.yaml", `input.text.matches("(?i)refund|money back")`, "input.text > 3"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/canned.yaml:2:9: rule 1 fails, and so does not match, on the input"},
		},
		"a prepared answer that asks for the state of a task without sessions": {
			edits: []edit{{"canned.yaml", `input.text.matches("(?i)refund|money back")`, `state.intent == "refund"`}},
			code:  exitFailed,
			says:  []string{"tasks/triage/canned.yaml:2:9: rule 1 may never match: it reads state, and the task has no session (context.session in task.yaml is none)"},
		},
		"no last rule that always matches": {
			edits: []edit{{"canned.yaml", "- output:\n    category: other", "- when: input.text != \"\"\n  output:\n    category: other"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/canned.yaml:6:9: the last rule must always match: write one more without when"},
		},
		"a prepared answer off schema": {
			edits: []edit{{"canned.yaml", "category: other", "category: others"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/canned.yaml:7:", "the canned output", "others"},
		},
		"a prepared answer off a rule": {
			edits: []edit{{"canned.yaml", "reply: We have your", "reply: Dear customer, we have your"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/canned.yaml:7:5: the canned output breaks the rule reply-is-no-form-letter of output.rules: reply must speak of"},
		},
		"a rule that reads what the schema does not have": {
			edits: []edit{{"task.yaml", "!output.reply.contains", "!output.answer.contains"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/task.yaml:25:13: the expression reads output.answer, which output.schema.json does not declare: it has category, reply"},
		},
		"a rule that waits for a choice that there is not": {
			edits: []edit{{"task.yaml", `'!output.reply.contains("Dear customer")'`, `'output.category != "complaints"'`}},
			code:  exitFailed,
			says:  []string{`tasks/triage/task.yaml:25:13: output.category is never "complaints", only "question", "complaint", "praise", "other": did you mean "complaint"?`},
		},
		"a case whose output is off schema": {
			edits: []edit{{"cases/question.yaml", "output: {category: question", "output: {category: questions"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/cases/question.yaml:8:", "the expected output", "questions"},
		},
		"a case that ends otherwise now": {
			edits: []edit{{"output.schema.json", `"minLength": 10`, `"minLength": 40`}, {"canned.yaml", "in person.", "in person, as soon as ever we can."}},
			code:  exitFailed,
			says:  []string{"tasks/triage/cases/question.yaml:8:", "at least 40"},
		},
		"a case whose verdict is another one": {
			edits: []edit{{"cases/question.yaml", "content: '", "content: 'Here is the JSON: "}},
			code:  exitFailed,
			says:  []string{"tasks/triage/cases/question.yaml:7:12: the verdict is extracted, not valid"},
		},
		"a case that expects an error that there is none of": {
			edits: []edit{{"cases/unknown-category.yaml", "{pointer: /reply, got: Sorry!}", "{pointer: /reply, got: Sorry}"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/cases/unknown-category.yaml:11:", "the first answer has no such error at /reply: /category"},
		},
		"an example answer off schema": {
			edits: []edit{{"prompt.tmpl", `{{define "user"}}`, "{{define \"user.1\"}}Thanks!{{end}}\n{{define \"assistant.1\"}}{\"category\": \"thanks\", \"reply\": \"You are welcome.\"}{{end}}\n{{define \"user\"}}"}},
			code:  exitFailed,
			says:  []string{`tasks/triage/prompt.tmpl:9: the example answer "assistant.1" does not satisfy output.schema.json, and models imitate it: /category`},
		},
		"a parameter that a model drops": {
			edits: []edit{{"../../models.yaml", "id: gpt-4o-2024-08-06\n", "id: gpt-4o-2024-08-06\n    unsupported: [temperature]\n"}, {"task.yaml", rung, "  - {rung: model, model: large}\n"}},
			says:  []string{"tasks/triage/task.yaml:8:16: warning: temperature is not sent to model large, a rung of its ladder: models.yaml lists it as unsupported there", "no faults, 1 warning"},
		},
		"models that are smaller than the prompt may be": {
			edits: []edit{{"../../models.yaml", "answers_as: gpt-4o-2024-08-06\n    context_window: 128000\n    max_output_tokens: 16384", "answers_as: gpt-4o-2024-08-06\n    context_window: 8000\n    max_output_tokens: 200"}, {"task.yaml", rung, "  - {rung: model, model: large}\n"}, {"task.yaml", "deadline:", "correction: {last_on: large}\ndeadline:"}},
			says: []string{
				"tasks/triage/task.yaml:19:26: warning: a prompt may have 102,400 tokens, and only 6,400 on model large of this rung", "context.max_input_tokens: 6400",
				"tasks/triage/task.yaml:11:23: warning: a prompt may have 102,400 tokens, and model large has a window of 8,000: longer ones get no last correction",
				"tasks/triage/task.yaml:9:22: warning: max_output_tokens is 300, but model large, a rung of its ladder, says at most 200", "no faults, 3 warnings",
			},
		},
		"a case that is too long for its prompt": {
			edits: []edit{{"task.yaml", "deadline:", "context: {max_input_tokens: 255}\ndeadline:"}},
			code:  exitFailed,
			says:  []string{"tasks/triage/cases/question.yaml:2:8: no prompt can be made of it for model small: the prompt is 4 tokens too long (259 of 255)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := made(t)
			for _, e := range row.edits {
				change(t, dir, filepath.Join("tasks", "triage", e.file), e.before, e.after)
			}
			spillway(t, "task", "check", "--schemas="+dir).with(row.code, row.says...).without(row.not...)
		})
	}
}

func TestWhatIsWellIsNotAlarmedAt(t *testing.T) {
	t.Run("the tasks that ship", func(t *testing.T) {
		spillway(t, "task", "check", "--strict").with(exitOK, "3 tasks, 12 cases, no faults\n").without(":")
	})
	t.Run("a new task", func(t *testing.T) {
		spillway(t, "task", "check", "--strict", "--schemas="+made(t)).with(exitOK, "1 task, 2 cases, no faults\n").without(":")
	})
	t.Run("the reference, but for what is so: one of its models takes no seed", func(t *testing.T) {
		said := spillway(t, "task", "check", "--schemas=../../pkg/task/testdata/reference").with(exitOK, "seed is not sent to model elsewhere", "2 tasks, 1 case, no faults, 1 warning")
		if lines := strings.Count(said.out, "\n"); lines != 2 {
			t.Errorf("%d lines:\n%s", lines, said.out)
		}
	})
	for name, edits := range map[string][]edit{
		"a prompt with a list of the choices of a property": {
			{"prompt.tmpl", "question, when they want to know something; complaint, when they are unhappy; praise, when they are happy; other for the rest.", "one of\n  - question: they want to know something\n  - complaint: they are unhappy\n  - praise: they are happy\n  - other: the rest"},
		},
		"a prompt with a list of something else": {
			{"prompt.tmpl", "The user's message is", "How to reply:\n1. greeting: none\n2. length: short\n* tone: warm\n* reply: in their language\nThe user's message is"},
		},
		"a prompt with notes in its list": {
			{"prompt.tmpl", "The user's message is", "- Note: be short.\nThe user's message is"},
		},
		"a prompt that shows an input": {
			{"prompt.tmpl", "The user's message is", `An input like {"text": "Hi", "reply": "…"}. The user's message is`},
		},
		"a prompt that writes a schema out": {
			{"prompt.tmpl", "{{.Schema}}", `{"type": "object", "properties": {"category": {"type": "string", "description": "…"}, "reply": {"type": "string"}}, "required": ["category", "reply"]}`},
		},
		"a template that prints the whole input": {
			{"prompt.tmpl", "{{.Input.text}}", "{{json .Input}}"},
		},
		"a template that includes another one, by variables": {
			{"prompt.tmpl", `{{define "user"}}{{.Input.text}}{{end}}`, `{{define "user"}}{{$in := .Input}}{{template "said" $in}}{{end}}{{define "said"}}{{with .text}}{{.}}{{end}}{{end}}`},
		},
		"an optional part that is asked for": {
			{"input.schema.json", `"text": {`, `"order": {"type": "object", "description": "Theirs.", "properties": {"id": {"type": "string", "description": "Its number."}, "lines": {"type": "array", "description": "Its parts.", "items": {"type": "object", "properties": {"sku": {"type": "string", "description": "What."}}, "required": ["sku"]}}}}, "text": {`},
			{"prompt.tmpl", "{{.Input.text}}", `{{.Input.text}}{{with index .Input "order"}}{{index . "id"}}{{range $i, $line := index . "lines"}}{{$i}}: {{$line.sku}}{{end}}{{end}}`},
		},
		"a part that only a rule reads": {
			{"input.schema.json", `"text": {`, `"most": {"type": "number", "description": "How long a reply may be."}, "text": {`},
			{"task.yaml", `'!output.reply.contains("Dear customer")'`, `'!has(input.most) || size(output.reply) <= input.most'`},
		},
		"an example answer as the schema wants it": {
			{"prompt.tmpl", `{{define "user"}}`, "{{define \"user.1\"}}Thanks!{{end}}\n{{define \"assistant.1\"}}{\"category\": \"praise\", \"reply\": \"You are welcome.\"}{{end}}\n{{define \"user\"}}"},
		},
		"a task that answers with a text": {
			{"task.yaml", "output:\n", "output:\n  format: text\n"},
			{"task.yaml", `'!output.reply.contains("Dear customer")'`, `'!output.contains("Dear customer")'`},
			{"canned.yaml", "output:\n    category: complaint\n    reply: We have read that you ask for a refund, and will answer you in person.", "output: We have read it."},
			{"canned.yaml", "output:\n    category: other\n    reply: We have your message, and will answer you in person.", "output: We have your message."},
			{"prompt.tmpl", "Answer with exactly one JSON object that satisfies this JSON schema, and with nothing else.\n{{.Schema}}\n", ""},
			{"cases/question.yaml", "output: {category: question, reply: \"It usually takes three to five days.\"}", `output: "It takes three days."`},
			{"cases/question.yaml", `'{"category": "question", "reply": "It usually takes three to five days."}'`, `It takes three days.`},
			{"cases/unknown-category.yaml", "  - content: '{\"category\": \"anger\", \"reply\": \"Sorry!\"}'\n    finish_reason: stop\n", ""},
			{"cases/unknown-category.yaml", "verdict: corrected\n  errors:\n    - {pointer: /category, got: anger}\n    - {pointer: /reply, got: Sorry!}\n  output: {category: complaint, reply: \"We are sorry that your parcel is broken.\"}\n  calls: 2", "verdict: valid"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := made(t)
			if name == "a task that answers with a text" {
				if err := os.Remove(filepath.Join(dir, "tasks", "triage", "output.schema.json")); err != nil {
					t.Fatal(err)
				}
			}
			for _, e := range edits {
				change(t, dir, filepath.Join("tasks", "triage", e.file), e.before, e.after)
			}
			spillway(t, "task", "check", "--strict", "--schemas="+dir).with(exitOK, "1 task, 2 cases, no faults\n")
		})
	}
}

func TestACheckSaysHowSevereItIs(t *testing.T) {
	dir := made(t)
	spillway(t, "task", "new", "second", "--schemas="+dir).with(exitOK)
	change(t, dir, "tasks/triage/output.schema.json", `"category"`, `"kind"`)
	change(t, dir, "tasks/second/input.schema.json", `"text": {`, `"tone": {"type": "string", "description": "How to answer."}, "text": {`)
	all := spillway(t, "task", "check", "--schemas="+dir, "--json").with(exitFailed).lines()
	severities := map[any]int{}
	for _, row := range all {
		severities[row["severity"]]++
		if row["file"] == "tasks/triage/prompt.tmpl" && (row["line"] != 5.0 || row["severity"] != "fault") ||
			row["file"] == "tasks/second/input.schema.json" && (row["pointer"] != "/properties/tone" || row["severity"] != "warning") {
			t.Errorf("%v", row)
		}
	}
	if severities["warning"] != 1 || severities["fault"] < 3 || len(severities) != 2 {
		t.Errorf("%v", severities)
	}
	spillway(t, "task", "check", "second", "--schemas="+dir).with(exitOK, "1 task, 2 cases, no faults, 1 warning").without("triage")
	spillway(t, "task", "check", "second", "--strict", "--schemas="+dir).with(exitFailed, "#/properties/tone: no template reads", "1 fault in the task files").without("warning")
	last := spillway(t, "task", "check", "second", "--schemas="+dir, "--json").with(exitOK).lines()
	if sum := last[len(last)-1]; len(last) != 2 || sum["faults"] != 0.0 || sum["warnings"] != 1.0 || sum["tasks"] != 1.0 {
		t.Errorf("%v", last)
	}
	spillway(t, "task", "check", "third", "--schemas="+dir).with(exitNotFound, `there is no task "third"; there are second, triage`)
}

// Whatever is wrong with one file, the others are looked at.
func TestACheckOutlivesWhateverAFileHolds(t *testing.T) {
	origin := made(t)
	files := []string{"models.yaml"}
	for _, name := range []string{"task.yaml", "prompt.tmpl", "input.schema.json", "output.schema.json", "canned.yaml", "cases/question.yaml"} {
		files = append(files, filepath.Join("tasks", "triage", name))
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(origin, file))
		if err != nil {
			t.Fatal(err)
		}
		for what, content := range map[string]string{
			"empty": "", "half": string(text[:len(text)/2]), "a list": "[]", "null": "null", "a text": `"text"`, "open": "{{", "not UTF-8": "\xff", "a false schema": "false",
		} {
			t.Run(file+" "+what, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, file), content)
				change(t, dir, "tasks/triage/cases/unknown-category.yaml", "calls: 2", "calls: many")
				spillway(t, "task", "check", "--schemas="+dir).with(exitFailed, "unknown-category.yaml:13:10: calls must be a number, not a text")
			})
		}
	}
}
