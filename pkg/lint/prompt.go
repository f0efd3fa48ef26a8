package lint

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"spillway/pkg/expr"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// The members of task.PromptData.
const (
	dataInput  = "Input"
	dataState  = "State"
	dataSchema = "Schema"
	dataOutput = "Output"
)

// prompt holds prompt.tmpl against the schemas.
func (c *checker) prompt() {
	if c.task.Prompt.User == nil {
		return
	}
	asked := c.read(false)
	c.notDeclared(asked.uses)
	c.notRead(asked.uses)
	c.notNamed(asked)
	var answered reader
	answered.read(c.task.Prompt.Assistant)
	c.notDeclared(answered.uses)
}

// read follows the templates that ask. withoutExamples: those that say themselves what is wanted alone.
func (c *checker) read(withoutExamples bool) *reader {
	r := &reader{}
	r.read(c.task.Prompt.System)
	if !withoutExamples {
		for _, example := range c.task.Prompt.Examples {
			r.read(example.User)
			r.read(example.Assistant)
		}
	}
	r.read(c.task.Prompt.User)
	return r
}

// notDeclared reports parts that no schema declares: they were renamed, or never there.
func (c *checker) notDeclared(uses []use) {
	for _, u := range uses {
		if len(u.path) < 2 {
			continue
		}
		root, path := u.path[0], u.path[1:]
		by, file := c.task.Input, inputFile
		switch root {
		case dataState:
			by, file = c.task.State, stateFile
			c.notShown(u)
		case dataOutput:
			by, file = c.task.OutputSchema, outputFile
		case dataInput:
		default:
			continue
		}
		if part := undeclared(by, path); part != nil {
			c.template(u.pos, "the template reads .%s, which %s does not declare%s (rename it here or there)", dotted(root, part), file, meant(by, part))
		}
	}
}

// notShown reports a part of the state that task.yaml does not let templates see.
func (c *checker) notShown(u use) {
	pointer := schema.PointerOf(u.path[1:])
	for _, shown := range c.task.Context.StateInPrompt {
		if isWithin(pointer, shown) || isWithin(shown, pointer) {
			return
		}
	}
	c.template(u.pos, "the template reads .%s, which is kept from it: add %s to context.state.in_prompt of %s", dotted("State", u.path[1:]), pointer, manifestFile)
}

// isWithin reports whether a JSON pointer leads to what another one leads to, or into it.
func isWithin(pointer, other string) bool {
	return pointer == other || strings.HasPrefix(pointer, other+"/")
}

// notRead reports what clients have to send, or are told to, and nobody looks at.
func (c *checker) notRead(uses []use) {
	if c.task.Input == nil {
		return
	}
	expressions := c.expressionReads("input")
	var reported []string
	for _, p := range c.task.Input.Properties() {
		pointer := schema.AppendPointer("", p.Path...)
		isBelow := func(other string) bool { return isWithin(pointer, other) }
		switch {
		case !p.Required && !p.Described, slices.ContainsFunc(reported, isBelow):
		case slices.ContainsFunc(uses, func(u use) bool {
			return len(u.path) > 0 && u.path[0] == dataInput && covers(u.path[1:], u.whole, p.Path)
		}):
		case slices.ContainsFunc(uses, func(u use) bool { return len(u.path) == 0 && u.whole }):
		case slices.ContainsFunc(expressions, func(read []string) bool { return covers(read, true, p.Path) }):
		case c.task.Context.TurnsFrom != "" && isWithin(p.Pointer(), c.task.Context.TurnsFrom):
		default:
			reported = append(reported, pointer)
			kind := "described"
			if p.Required {
				kind = "required"
			}
			c.json(Warning, inputFile, p.At, "no template reads the %s property %s, so it changes nothing: print it in %s, or take it out of the schema",
				kind, strings.Join(p.Path, "."), promptFile)
		}
	}
}

// covers reports whether who reads a path has seen a property: itself, a part of it, or what it is a part of.
func covers(read []string, whole bool, property []string) bool {
	n := min(len(read), len(property))
	for i := range n {
		if read[i] != property[i] && read[i] != schema.AnyItem && property[i] != schema.AnyItem {
			return false
		}
	}
	return whole || len(read) >= len(property)
}

// expressionReads are the paths of a variable that the task's expressions read.
func (c *checker) expressionReads(variable string) (paths [][]string) {
	for _, one := range c.expressions() {
		for _, read := range one.program.Reads() {
			if read.Variable == variable {
				paths = append(paths, read.Path)
			}
		}
	}
	return paths
}

// notNamed reports properties of the output that a model is told of neither by the prompt nor by the response format: it
// can not know their names.
func (c *checker) notNamed(asked *reader) {
	if !c.answersJSON() {
		return
	}
	c.notStrict()
	c.notJSON(asked)
	if slices.ContainsFunc(asked.uses, func(u use) bool { return len(u.path) > 0 && u.path[0] == dataSchema }) {
		return
	}
	text := asked.words.text.String()
	for _, p := range c.task.OutputSchema.Properties() {
		if names(text, p.Name()) || p.Name() == schema.AnyItem {
			continue
		}
		for _, name := range c.modelNames() {
			c.notNamedTo(c.task.Models[name], p)
		}
	}
}

func (c *checker) notNamedTo(m *task.Model, p schema.Property) {
	severity, kind := Warning, "optional"
	if p.Required {
		severity, kind = Fault, "required"
	}
	sent, why := c.task.FormatFor(m)
	isSent := sent == task.FormatJSONSchema
	switch {
	case isSent && (why == nil || !p.Required):
		return
	case isSent:
		c.json(Warning, outputFile, p.At, "%s names the required property %s nowhere, and the response format, which does, is not strict for this schema: describe it in the prompt, or put {{.Schema}} there",
			promptFile, p.Name())
		return
	}
	c.json(severity, outputFile, p.At, "model %s is never told of the %s property %s: %s does not name it, and no schema is sent along (%v); describe it in the prompt, or put {{.Schema}} there",
		m.Name, kind, p.Name(), promptFile, why)
}

// notStrict tells why models are not bound to the schema as they might be.
func (c *checker) notStrict() {
	for _, name := range c.modelNames() {
		if sent, why := c.task.FormatFor(c.task.Models[name]); sent == task.FormatJSONSchema && why != nil {
			c.json(Note, outputFile, "", "the schema is sent as it is, without strict mode, so models are less bound by it: %v", why)
			return
		}
	}
}

// notJSON reports a prompt that a provider refuses in JSON mode: it must speak of JSON.
func (c *checker) notJSON(asked *reader) {
	if strings.Contains(strings.ToLower(asked.words.text.String()), "json") {
		return
	}
	for _, name := range c.modelNames() {
		if sent, _ := c.task.FormatFor(c.task.Models[name]); sent == "json_object" {
			c.template(0, "model %s is called in JSON mode (structured_output: json_object), which providers refuse for a prompt without the word JSON: say that the answer is JSON", name)
		}
	}
}

// modelNames are the models that the task may call, sorted.
func (c *checker) modelNames() []string { return slices.Sorted(maps.Keys(c.task.Models)) }

// names reports whether a text has a word.
func names(text, word string) bool {
	return regexp.MustCompile(`(^|[^\pL\pN_])` + regexp.QuoteMeta(word) + `($|[^\pL\pN_])`).MatchString(text)
}

// expression is one of the task's, with its place.
type expression struct {
	program       *expr.Program
	file, pointer string
}

// expressions are all of the task's.
func (c *checker) expressions() (all []expression) {
	for i, rule := range c.task.Output.Rules {
		all = append(all, expression{rule.Expr, manifestFile, fmt.Sprintf("/output/rules/%d/expr", i)})
	}
	for _, update := range c.task.Context.StateUpdate {
		all = append(all, expression{update.Expr, manifestFile, schema.AppendPointer("/context/state/update", update.Pointer)})
	}
	for i, canned := range c.task.Canned {
		all = append(all, expression{canned.When, cannedFile, fmt.Sprintf("/%d/when", i)})
	}
	return slices.DeleteFunc(all, func(e expression) bool { return e.program == nil })
}
