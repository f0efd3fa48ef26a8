package task

import (
	"bytes"

	"spillway/pkg/schema"
)

const warmFile = "warm.jsonl"

// warm reads the inputs that are answered before somebody asks: one JSON value a line.
func (t *taskLoader) warm() {
	file := t.path(warmFile)
	for i, line := range bytes.Split(t.task.Files[warmFile], []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		value, err := schema.Decode(line)
		if err != nil {
			fault := jsonFault(file, line, err)
			fault.Line = i + 1
			t.add(fault)
			continue
		}
		if t.task.Input != nil {
			for _, violation := range t.task.Input.Validate(value) {
				t.add(Fault{File: file, Line: i + 1, Message: "the input does not satisfy " + inputFile + ": " + violation.String()})
			}
		}
		t.task.Warm = append(t.task.Warm, bytes.TrimSpace(line))
	}
}

// WarmFile returns warm.jsonl as it is, with the lines that Warm leaves out; nil when there is none. It must
// not be changed.
func (t *Task) WarmFile() []byte { return t.Files[warmFile] }
