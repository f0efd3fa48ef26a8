package task_test

import "testing"

func textTask(canned string) folder {
	return folder{
		"tasks/demo/task.yaml":          "model: small\noutput: {format: text}\nladder:\n  - rung: canned\n",
		"tasks/demo/output.schema.json": "",
		"tasks/demo/canned.yaml":        canned,
	}
}

func TestATaskOfTextHasTextsForCannedAnswers(t *testing.T) {
	t.Parallel()
	demo := good().with(textTask("- when: has(input.note)\n  output: Noted.\n- output: |\n    Not now.\n")).mustLoad(t).Tasks["demo"]
	if demo.OutputSchema != nil || string(demo.Canned[0].Output) != `"Noted."` || string(demo.Canned[1].Output) != `"Not now.\n"` {
		t.Errorf("got %+v, %s", demo.OutputSchema, demo.Canned)
	}
	checkFaults(t, []faultyFolder{
		{"a number", textTask("- output: 7\n"), `tasks/demo/canned.yaml:1:11: output must be a text, as output.format is text, not a number`},
	})
}

func TestACannedAnswerOfJSONMayBeNull(t *testing.T) {
	t.Parallel()
	demo := good().with(folder{"tasks/demo/output.schema.json": `{"type":["object","null"]}`, "tasks/demo/canned.yaml": "- output: null\n"}).mustLoad(t).Tasks["demo"]
	if string(demo.Canned[0].Output) != "null" {
		t.Errorf("got %s", demo.Canned)
	}
}
