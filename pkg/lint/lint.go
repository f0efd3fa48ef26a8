// Package lint finds what is wrong with a task although each of its files, by itself, is not: prompt, schemas, expressions,
// canned answers, cases and models that have drifted apart. It calls nobody; what it says follows from the files alone.
//
//	template.go   what a template reads, and what it says
//	prompt.go     a prompt that reads what is not there, does not read what comes, does not name what is demanded
//	words.go      a prompt that names what the output schema does not have
//	example.go    example answers and cases that are off the schemas
//	canned.go     canned answers that break a rule, rules that can not match
//	rules.go      expressions that read what no schema declares
//	models.go     what a model leaves out of a call
//
// Where a text leaves doubt it is not at fault: a false alarm is ignored once, and then the true ones are.
package lint

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"text/template/parse"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// Severity is what a finding means to who wants to ship the task.
type Severity string

// A fault does harm; a warning likely does; a note is to be known.
const (
	Fault   Severity = "fault"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Finding is one thing that was found.
type Finding struct {
	task.Fault
	Severity Severity
}

// String gives the place, the severity unless it is a fault, and the message.
func (f Finding) String() string {
	if f.Severity != Fault {
		f.Message = string(f.Severity) + ": " + f.Message
	}
	return f.Fault.String()
}

// Sort orders findings by place, without repetitions.
func Sort(findings []Finding) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int { return a.Compare(b.Fault) })
	return slices.Compact(findings)
}

// Task looks at a task, which may lack what Load found at fault: such parts are passed over.
func Task(t *task.Task) []Finding {
	c := &checker{task: t}
	c.prompt()
	c.words()
	c.examples()
	c.canned()
	c.rules()
	c.models()
	return Sort(c.found)
}

// The files of a task, as package task names them.
const (
	manifestFile = "task.yaml"
	promptFile   = "prompt.tmpl"
	inputFile    = "input.schema.json"
	outputFile   = "output.schema.json"
	stateFile    = "state.schema.json"
	cannedFile   = "canned.yaml"
)

type checker struct {
	task  *task.Task
	found []Finding
}

func (c *checker) add(s Severity, f task.Fault) {
	c.found = append(c.found, Finding{Fault: f, Severity: s})
}

// template reports a fault at a place of the prompt's file.
func (c *checker) template(at parse.Pos, format string, args ...any) {
	text := c.task.Files[promptFile]
	line := 1 + bytes.Count(text[:min(int(at), len(text))], []byte("\n"))
	c.add(Fault, task.Fault{File: c.task.Path(promptFile), Line: line, Message: fmt.Sprintf(format, args...)})
}

// yaml reports what is wrong where a pointer leads to in a YAML file.
func (c *checker) yaml(s Severity, file, pointer, format string, args ...any) {
	line, column := c.task.Place(file, pointer)
	c.add(s, task.Fault{File: c.task.Path(file), Line: line, Column: column, Message: fmt.Sprintf(format, args...)})
}

// json reports what is wrong where a pointer leads to in a schema.
func (c *checker) json(s Severity, file, pointer, format string, args ...any) {
	c.add(s, task.Fault{File: c.task.Path(file), Pointer: pointer, Message: fmt.Sprintf(format, args...)})
}

// answersJSON reports whether there is an output schema for an answer to be held against.
func (c *checker) answersJSON() bool {
	return c.task.OutputSchema != nil && c.task.Output.Format != task.FormatText
}

// undeclared returns the first part of a path that a schema does not declare; nil: it declares all of it, or nothing at
// all of what is there.
func undeclared(by *schema.Schema, path []string) []string {
	if by == nil {
		return nil
	}
	for i := range path {
		part := path[:i+1]
		if part[i] == schema.AnyItem && !by.Declares(schema.PointerOf(part[:i]), []any{}) {
			return nil // the members of an object, whichever they are
		}
		if !by.Declares(schema.PointerOf(part), nil) {
			return part
		}
	}
	return nil
}

// meant says which property was likely meant by one that is not declared, as the end of a message.
func meant(by *schema.Schema, path []string) string {
	siblings := siblingsOf(by, path)
	if near := schema.Nearest(path[len(path)-1], siblings); near != "" {
		return fmt.Sprintf(": did you mean %s?", near)
	}
	if len(siblings) == 0 {
		return ""
	}
	return ": it has " + strings.Join(siblings, ", ")
}

// siblingsOf are the properties that a schema names beside what a path leads to.
func siblingsOf(by *schema.Schema, path []string) (names []string) {
	for _, p := range by.Properties() {
		if len(p.Path) == len(path) && covers(p.Path[:len(path)-1], false, path[:len(path)-1]) && p.Name() != schema.AnyItem {
			names = append(names, p.Name())
		}
	}
	return names
}

// dotted writes a path as templates and expressions do.
func dotted(root string, path []string) string {
	return strings.Join(append([]string{root}, path...), ".")
}
