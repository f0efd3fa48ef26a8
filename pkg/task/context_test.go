package task_test

import (
	"maps"
	"strings"
	"testing"

	"spillway/pkg/task"
)

// chat is the demo with turns and documents in its input.
func chat(manifest, prompt string) folder {
	return folder{
		"tasks/demo/task.yaml": manifest, "tasks/demo/prompt.tmpl": prompt,
		"tasks/demo/input.schema.json": `{"type":"object","properties":{"text":{"type":"string"},
 "docs":{"type":"array","items":{"type":"string"}},"turns":{"type":"array","items":{"type":"object"}}},"required":["text"],"additionalProperties":false}`,
	}
}

// summarizer adds a task that makes summaries.
func summarizer(files folder) folder {
	with := folder{
		"tasks/demo/task.yaml": "model: small\ncontext:\n  session: optional\n  summary: {task: fold}\n",
		"tasks/fold/task.yaml": "model: small\noutput: {format: text}\n", "tasks/fold/prompt.tmpl": `{{define "user"}}{{json .Input}}{{end}}`,
	}
	maps.Copy(with, files)
	return with
}

const asksText = `{{define "user"}}{{.Input.text}}{{end}}`

func TestFaultsOfTurnsAndDocumentsNameTheirPlace(t *testing.T) {
	t.Parallel()
	checkFaults(t, []faultyFolder{
		{"turns beside a session", chat("model: small\ncontext:\n  session: optional\n  turns_from: /turns\n", asksText), `tasks/demo/task.yaml:4:15: turns_from is for those who keep the turns themselves, and context.session keeps them here: remove one of the two`},
		{"turns that cannot be", chat("model: small\ncontext: {turns_from: /turn}\n", asksText), `tasks/demo/task.yaml:2:23: turns_from leads to /turn, where input.schema.json declares no array`},
		{"documents that are a text", chat("model: small\ncontext: {documents_from: /text}\n", asksText), `tasks/demo/task.yaml:2:27: documents_from leads to /text, where input.schema.json declares no array`},
		{"a session that is forgotten before its answer", chat("model: small\ncontext: {session: optional}\ndeadline: {max: 2m}\nretention: {session: 90s}\n", asksText), `tasks/demo/task.yaml:4:12: retention.session (1m30s) must be at least deadline.max (2m): a session would be forgotten before its answer is there`},
		{"a session that is not kept", chat("model: small\ncontext: {session: optional}\ndeadline: {max: 2m}\nretention: {session: 0s}\n", asksText), `tasks/demo/task.yaml:4:12: retention.session (0s) must be at least deadline.max (2m): a session would be forgotten before its answer is there`},
		{"no pointer", chat("model: small\ncontext: {documents_from: docs}\n", asksText), `tasks/demo/task.yaml:2:27: "docs" is not a JSON pointer: it must be empty or begin with /`},
		{"both in one place", chat("model: small\ncontext: {turns_from: /docs, documents_from: /docs}\n", asksText), `tasks/demo/task.yaml:2:46: documents_from and turns_from must lead to two places of the input, neither in the other`},
		{
			"a template that needs a document",
			folder{
				"tasks/demo/task.yaml": "model: small\ncontext: {documents_from: /docs}\n", "tasks/demo/prompt.tmpl": `{{define "user"}}{{index .Input.docs 0}}{{end}}`,
				"tasks/demo/input.schema.json": `{"type":"object","properties":{"docs":{"type":"array","minItems":1}},"required":["docs"]}`,
			},
			`tasks/demo/prompt.tmpl:1:19: <index .Input.docs 0>: error calling index: reflect: slice index out of range (documents_from leaves nothing here: write {{with …}} or {{range …}})`,
		},
	})
	good().with(chat("model: small\ncontext: {turns_from: /turns, documents_from: /docs}\n",
		`{{define "user"}}{{range index .Input "docs"}}{{.}}{{end}}{{.Input.text}}{{end}}`)).mustLoad(t)
}

func TestFaultsOfSummariesAndStateNameTheirPlace(t *testing.T) {
	t.Parallel()
	const place = "tasks/demo/task.yaml:4:19: "
	checkFaults(t, []faultyFolder{
		{"a summary that is not said", summarizer(folder{"tasks/fold/task.yaml": "model: small\n", "tasks/fold/output.schema.json": `{"type":"object","properties":{"summary":{"type":"string"}}}`}), place + `the task "fold" must answer with a text (output.format: text), or an object with a required string "summary", to make summaries`},
		{"a summary that may be null", summarizer(folder{"tasks/fold/task.yaml": "model: small\n", "tasks/fold/output.schema.json": `{"type":"object","properties":{"summary":{"type":["string","null"]}},"required":["summary"]}`}), place + `the task "fold" must answer with a text (output.format: text), or an object with a required string "summary", to make summaries`},
		{"a summary with a session", summarizer(folder{"tasks/fold/task.yaml": "model: small\noutput: {format: text}\ncontext: {session: optional}\n"}), place + `the task "fold" must have no session of its own to make summaries: context.session is optional`},
		{"a summary that can be looked at, of what can not", summarizer(folder{"tasks/demo/task.yaml": "model: small\nredaction: {log_content: never}\ncontext:\n  session: optional\n  summary: {task: fold}\n"}), strings.Replace(place, ":4:", ":5:", 1) + `the task "fold" is given what was said here, which nobody is to look at: it must have redaction.log_content: never, too`},
		{"a summary of something else", summarizer(folder{"tasks/fold/input.schema.json": `{"type":"object","required":["text"]}`}), place + `the task "fold" does not take what it is given to make summaries, {"summary", "turns": [{"role", "content"}], "max_tokens"}: /text: is required, but missing`},
		{
			"a state that is not declared",
			folder{
				"tasks/demo/task.yaml":         "model: small\ncontext:\n  session: optional\n  state:\n    in_prompt: [/step]\n    update: {/mod: output.mood}\n",
				"tasks/demo/state.schema.json": `{"type":"object","properties":{"mood":{"type":"string"}},"additionalProperties":false}`,
			},
			"tasks/demo/task.yaml:5:17: state.schema.json does not declare /step\ntasks/demo/task.yaml:6:14: state.schema.json does not declare /mod",
		},
	})
	good().with(summarizer(nil)).mustLoad(t)
	good().with(summarizer(folder{
		"tasks/fold/task.yaml": "model: small\n", "tasks/fold/output.schema.json": `{"type":"object","properties":{"summary":{"type":"string"}},"required":["summary"]}`,
		"tasks/fold/input.schema.json": `{"type":"object","properties":{"summary":{"type":"string"},"turns":{"type":"array"},"max_tokens":{"type":"integer"}},"required":["summary","turns","max_tokens"],"additionalProperties":false}`,
	})).mustLoad(t)
}

func TestAnEarlierAnswerIsRenderedByItsTemplate(t *testing.T) {
	t.Parallel()
	plain := prompt(t, asksText)
	mine := prompt(t, asksText+`{{define "assistant"}}The mood is {{.Output.mood}}.{{end}}`)
	for _, row := range []struct {
		task         *task.Task
		output, want string
	}{
		{plain, `{"mood": "good"}`, `{"mood":"good"}`},
		{plain, `"as it\nis"`, "as it\nis"},
		{mine, `{"mood": "good"}`, "The mood is good."},
		{mine, `{"mood": "{{.Input}} <no value>"}`, "The mood is {{.Input}} <no value>."},
	} {
		got, err := row.task.Prompt.RenderAnswer(decoded(t, row.output))
		if err != nil || got != row.want {
			t.Errorf("%s: %q, %v; want %q", row.output, got, err, row.want)
		}
	}
	if _, err := mine.Prompt.RenderAnswer(decoded(t, `{}`)); err == nil || !strings.Contains(err.Error(), "mood") {
		t.Errorf("an answer without a mood: %v", err)
	}
}

func TestFaultsOfThePartForEarlierAnswersAreFoundAtLoad(t *testing.T) {
	t.Parallel()
	const of = ` (of output.schema.json; what is optional there: {{with index .Output "name"}}…{{end}})`
	part := func(text string) folder {
		return folder{"tasks/demo/prompt.tmpl": asksText + `{{define "assistant"}}` + text + `{{end}}`}
	}
	checkFaults(t, []faultyFolder{
		{"not declared", part(`{{.Output.food}}`), `tasks/demo/prompt.tmpl:1:70: <.Output.food>: map has no entry for key "food"` + of},
		{"another's field", part(`{{.Input.text}}`), `tasks/demo/prompt.tmpl:1:69: <.Input.text>: nil pointer evaluating interface {}.text` + of},
	})
	checkFaults(t, []faultyFolder{
		{"an answer in a question", folder{"tasks/demo/prompt.tmpl": `{{define "user"}}{{.Output}}{{end}}`}, `tasks/demo/prompt.tmpl: user prints a null of the input: guard it by {{with …}} (input.schema.json does not declare it)`},
	})
}
