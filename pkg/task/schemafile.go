package task

import (
	"errors"

	"spillway/pkg/schema"
)

const (
	inputFile  = "input.schema.json"
	outputFile = "output.schema.json"
	stateFile  = "state.schema.json"
)

// schemas compiles the three schemas that a folder may hold.
func (t *taskLoader) schemas() {
	t.task.Input = t.schema(inputFile)
	t.task.State = t.schema(stateFile)
	t.task.OutputSchema = t.schema(outputFile)
}

// formatCheck holds output.format and output.schema.json together.
func (t *taskLoader) formatCheck() {
	_, has := t.task.Files[outputFile]
	switch {
	case t.task.Output.Format == FormatText && has:
		t.file(t.path(outputFile), "output.format is text, which has no schema: remove this file, or say output: {format: json} in %s", manifestFile)
	case t.task.Output.Format == FormatJSON && !has:
		t.file(t.dir, "there is no %s in it: write one, or say output: {format: text} in %s", outputFile, manifestFile)
	}
}

// schema compiles a file; nil when there is none, or it has faults.
func (t *taskLoader) schema(name string) *schema.Schema {
	text, ok := t.task.Files[name]
	if !ok {
		return nil
	}
	compiled, err := schema.Compile(text)
	if err == nil {
		return compiled
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, one := range all {
		t.add(jsonFault(t.path(name), text, one))
	}
	return nil
}

// jsonFault places an error of package schema in a file.
func jsonFault(file string, text []byte, err error) Fault {
	var syntax *schema.SyntaxError
	var document *schema.CompileError
	switch {
	case errors.As(err, &syntax):
		line, column := position(text, syntax.Offset)
		return Fault{File: file, Line: line, Column: column, Message: syntax.Message}
	case errors.As(err, &document):
		return Fault{File: file, Pointer: document.Pointer, Message: document.Message}
	}
	return Fault{File: file, Message: err.Error()}
}

// satisfies reports what of a value in a YAML file does not satisfy a schema. A nil schema takes anything.
func (t *taskLoader) satisfies(file string, n node, what, schemaName string, by *schema.Schema) {
	if by == nil {
		return
	}
	for _, violation := range by.Validate(n.json()) {
		t.at(file, n.part(violation.Pointer), "%s does not satisfy %s: %s", what, schemaName, violation)
	}
}

// part is the node that a JSON pointer leads to, or the nearest that there is on the way.
func (n node) part(pointer string) node {
	tokens, err := schema.SplitPointer(pointer)
	if err != nil {
		return n
	}
	for _, token := range tokens {
		next, ok := n.child(token)
		if !ok {
			return n
		}
		n = next
	}
	return n
}
