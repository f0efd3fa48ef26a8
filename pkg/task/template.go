package task

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"spillway/pkg/schema"
)

const promptFile = "prompt.tmpl"

var (
	examplePattern = regexp.MustCompile(`^(user|assistant)\.([1-9][0-9]?)$`)
	// text/template puts place and name before its messages.
	parsePlace   = regexp.MustCompile(`^template: prompt\.tmpl:(\d+)(?::(\d+))?: (.*)$`)
	executePlace = regexp.MustCompile(`template: prompt\.tmpl:(\d+):(\d+): executing "[^"]*" at (<.*>): (.*)$`)
)

// prompt parses prompt.tmpl.
func (t *taskLoader) prompt() {
	file := t.path(promptFile)
	text, ok := t.task.Files[promptFile]
	if !ok {
		t.file(t.dir, `there is no %s in it: it needs at least {{define "user"}}{{json .Input}}{{end}}`, promptFile)
		return
	}
	parsed, err := template.New(promptFile).Option("missingkey=error").Funcs(promptFuncs()).Parse(string(text))
	if err != nil {
		t.add(templateFault(file, parsePlace, err))
		return
	}
	t.task.Prompt.state, t.task.Prompt.loaded = t.task.Context.StateInPrompt, true
	t.task.Prompt.System = parsed.Lookup("system")
	if t.task.Prompt.User = parsed.Lookup("user"); t.task.Prompt.User == nil {
		t.file(file, `it must define "user": {{define "user"}}…{{end}}`)
	}
	t.task.Prompt.Assistant = parsed.Lookup("assistant")
	t.examples(file, parsed)
	t.parts(file, parsed)
}

// examples pairs user.1 and assistant.1, user.2 and so on.
func (t *taskLoader) examples(file string, parsed *template.Template) {
	most := 0
	for _, part := range parsed.Templates() {
		if match := examplePattern.FindStringSubmatch(part.Name()); match != nil {
			n, _ := strconv.Atoi(match[2])
			most = max(most, n)
		}
	}
	for n := 1; n <= most; n++ {
		user, assistant := parsed.Lookup(fmt.Sprintf("user.%d", n)), parsed.Lookup(fmt.Sprintf("assistant.%d", n))
		if user == nil || assistant == nil {
			t.file(file, `example %d of %d needs both "user.%d" and "assistant.%d"`, n, most, n, n)
			continue
		}
		t.task.Prompt.Examples = append(t.task.Prompt.Examples, Example{User: user, Assistant: assistant})
	}
}

// parts reports templates that nothing sends, and text outside of all of them.
func (t *taskLoader) parts(file string, parsed *template.Template) {
	used := map[string]bool{}
	for _, part := range parsed.Templates() {
		if part.Tree != nil {
			invoked(part.Root, used)
		}
	}
	for _, part := range parsed.Templates() {
		name := part.Name()
		switch {
		case name == promptFile && part.Tree != nil && !parse.IsEmptyTree(part.Root):
			t.file(file, `text outside of {{define "system"}} and {{define "user"}} is never sent`)
		case name == promptFile || name == "system" || name == "user" || name == "assistant" || used[name] || examplePattern.MatchString(name):
		default:
			message := fmt.Sprintf("nothing sends the template %q", name)
			if meant := schema.Nearest(name, []string{"system", "user", "assistant"}); meant != "" {
				message += ": did you mean " + meant + "?"
			}
			t.file(file, "%s", message)
		}
	}
}

// invoked collects the names of the templates that a template includes.
func invoked(n parse.Node, names map[string]bool) {
	branch := func(b *parse.BranchNode) {
		invoked(b.List, names)
		if b.ElseList != nil {
			invoked(b.ElseList, names)
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for _, inner := range n.Nodes {
			invoked(inner, names)
		}
	case *parse.TemplateNode:
		names[n.Name] = true
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	}
}

// checkPrompt executes the templates on samples of the schemas and on the inputs of the cases, so that a
// field that is missing or null is found now. before is how many faults there were before this task's: on a
// task that has others, nothing more is said.
func (t *taskLoader) checkPrompt(before int) {
	if len(t.found) > before || t.task.Prompt.User == nil {
		return
	}
	var data PromptData
	if t.task.OutputSchema != nil {
		data.Schema = string(t.task.OutputSchema.Source())
	}
	for _, try := range t.emptied(t.samples()) {
		data.Input, data.State = try.input, try.state
		_, _, _, err := t.task.Prompt.Render(data)
		if err == nil {
			continue
		}
		fault := templateFault(t.path(promptFile), executePlace, err)
		fault.Message += try.hintAt(fault.Message)
		t.add(fault)
		return
	}
	t.checkAssistant()
}

// checkAssistant does for the part that renders an earlier answer, on samples of the answers.
func (t *taskLoader) checkAssistant() {
	outputs := []any{"sample text"}
	if t.task.OutputSchema != nil {
		outputs = nil
		for _, fill := range []schema.Fill{schema.Everything, schema.RequiredOnly, schema.Nulls} {
			output, _ := t.task.OutputSchema.Sample(fill)
			outputs = append(outputs, output)
		}
	}
	for _, output := range outputs {
		if _, err := t.task.Prompt.RenderAnswer(output); err != nil {
			fault := templateFault(t.path(promptFile), executePlace, err)
			fault.Message += " (of " + outputFile + "; what is optional there: {{with index .Output \"name\"}}…{{end}})"
			t.add(fault)
			return
		}
	}
}

// emptied adds what the templates see when nothing of the documents fits, and of turns that are messages.
func (t *taskLoader) emptied(tries []promptTry) []promptTry {
	for _, from := range t.froms {
		for i, try := range tries {
			if _, found := schema.Lookup(try.input, from.node.text); !found {
				continue
			}
			without, err := schema.With(try.input, from.node.text, []any{})
			if err != nil {
				continue // its parent is an item that is not there
			}
			hint := " (" + from.key + " leaves nothing here: write {{with …}} or {{range …}})"
			if from.key == "turns_from" {
				tries[i].input, tries[i].hint = without, hint // they never see them
			} else {
				tries = append(tries, promptTry{input: without, state: try.state, hint: hint})
			}
		}
	}
	return tries
}

// hintAt says how the sample led to a message about a part that is missing or null; other messages need none.
func (try promptTry) hintAt(message string) string {
	switch {
	case strings.Contains(message, "<.State."):
		return " (name it in context.state.in_prompt of " + manifestFile + ")"
	case strings.Contains(message, "map has no entry"), strings.Contains(message, "prints a null"), strings.Contains(message, "out of range"):
		return try.hint
	}
	return ""
}

type promptTry struct {
	input any
	state map[string]any
	hint  string
}

// samples are made of the schemas, the first with a state, the others as in a new session; then the cases.
func (t *taskLoader) samples() []promptTry {
	var tries []promptTry
	if t.task.Input != nil {
		hints := map[schema.Fill]string{
			schema.Everything:   " (" + inputFile + " does not declare it)",
			schema.RequiredOnly: " (it is optional in " + inputFile + `: write {{with index .Input "name"}}…{{end}})`,
			schema.Nulls:        " (it may be null by " + inputFile + ")",
		}
		for _, fill := range []schema.Fill{schema.Everything, schema.RequiredOnly, schema.Nulls} {
			input, _ := t.task.Input.Sample(fill)
			tries = append(tries, promptTry{input: input, hint: hints[fill]})
		}
		if t.task.State != nil {
			state, _ := t.task.State.Sample(schema.Everything)
			tries[0].state, _ = state.(map[string]any)
		}
	}
	for _, c := range t.task.Cases {
		input, _ := schema.Decode(c.Input)
		state, _ := schema.Decode(c.State)
		members, _ := state.(map[string]any)
		tries = append(tries, promptTry{input: input, state: members, hint: " (in the case " + c.Name + ")"})
	}
	return tries
}

func templateFault(file string, place *regexp.Regexp, err error) Fault {
	message := strings.TrimPrefix(err.Error(), "render the prompt: ")
	match := place.FindStringSubmatch(message)
	if match == nil {
		return Fault{File: file, Message: message}
	}
	fault := Fault{File: file, Message: strings.Join(slices.DeleteFunc(match[3:], func(s string) bool { return s == "" }), ": ")}
	fault.Line, _ = strconv.Atoi(match[1])
	fault.Column, _ = strconv.Atoi(match[2])
	return fault
}
