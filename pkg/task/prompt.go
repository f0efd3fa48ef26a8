package task

import (
	"fmt"
	"strings"
	"text/template"

	"spillway/pkg/schema"
)

// Prompt is a parsed prompt.tmpl. Each part is executed with PromptData.
type Prompt struct {
	System *template.Template // nil: none
	User   *template.Template
	// Assistant renders an earlier answer of the task, for the turns of a session; nil: it is shown as it is.
	Assistant *template.Template
	// Examples are few-shot pairs, in order: templates "user.1" and "assistant.1", "user.2" …
	Examples []Example

	// state are the parts of the state that the templates may read; loaded: the rest is kept from them.
	state  []string
	loaded bool
}

// Example is a few-shot pair.
type Example struct {
	User, Assistant *template.Template
}

// PromptData is what a template sees: .Input, .State, .Schema (the output schema's text); "assistant" sees .Output
// alone.
type PromptData struct {
	Input  any
	State  map[string]any
	Schema string
	Output any
}

// noValue is what text/template prints for a null.
const noValue = "<no value>"

// Render executes the templates. Of the state they see only what context.state.in_prompt names; what is not
// there yet is an empty text, so that {{with .State.x}} asks for it.
func (p Prompt) Render(d PromptData) (system string, examples [][2]string, user string, err error) {
	if p.loaded {
		d.State = visible(d.State, p.state)
	}
	if system, err = render(p.System, d); err != nil {
		return "", nil, "", err
	}
	for _, example := range p.Examples {
		var pair [2]string
		if pair[0], err = render(example.User, d); err != nil {
			return "", nil, "", err
		}
		if pair[1], err = render(example.Assistant, d); err != nil {
			return "", nil, "", err
		}
		examples = append(examples, pair)
	}
	if user, err = render(p.User, d); err != nil {
		return "", nil, "", err
	}
	return system, examples, user, nil
}

// RenderAnswer is how a decoded output is shown as what was answered before: by the template "assistant", else as it
// is, a text or JSON.
func (p Prompt) RenderAnswer(output any) (string, error) {
	if p.Assistant != nil {
		return render(p.Assistant, PromptData{Output: output})
	}
	if text, ok := output.(string); ok {
		return text, nil
	}
	text, err := Canonical(output)
	return string(text), err
}

// maxRendered bounds what a template writes: one that includes others twice each, or counts, would fill the memory.
const maxRendered = 16 << 20

// bounded takes so much text and no more.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxRendered {
		return 0, fmt.Errorf("it becomes longer than %d MiB", maxRendered>>20)
	}
	return b.Builder.Write(p)
}

func render(part *template.Template, d PromptData) (string, error) {
	if part == nil {
		return "", nil
	}
	var text bounded
	if err := part.Execute(&text, d); err != nil {
		return "", fmt.Errorf("render the prompt: %w", err)
	}
	// A model would take it for a part of the question. Only an input that has these words itself may.
	if strings.Contains(text.String(), noValue) && !contains(d.Input, noValue) && !contains(d.State, noValue) && !contains(d.Output, noValue) {
		of := "input"
		if d.Output != nil {
			of = "output"
		}
		return "", fmt.Errorf("render the prompt: %s prints a null of the %s: guard it by {{with …}}", part.Name(), of)
	}
	return text.String(), nil
}

// contains reports whether a text within a decoded value has the words.
func contains(value any, words string) bool {
	switch v := value.(type) {
	case string:
		return strings.Contains(v, words)
	case []any:
		for _, item := range v {
			if contains(item, words) {
				return true
			}
		}
	case map[string]any:
		for name, member := range v {
			if strings.Contains(name, words) || contains(member, words) {
				return true
			}
		}
	}
	return false
}

// Visible is the part of the state that the templates may read.
func (p Prompt) Visible(state map[string]any) map[string]any { return visible(state, p.state) }

// visible is the part of the state that the pointers lead to.
func visible(state map[string]any, pointers []string) map[string]any {
	shown := map[string]any{}
	for _, pointer := range pointers {
		value, found := schema.Lookup(state, pointer)
		if !found || value == nil {
			value = ""
		}
		tokens, err := schema.SplitPointer(pointer)
		if err != nil {
			continue
		}
		if len(tokens) == 0 {
			return state
		}
		place := shown
		for _, token := range tokens[:len(tokens)-1] {
			inner, ok := place[token].(map[string]any)
			if !ok {
				inner = map[string]any{}
				place[token] = inner
			}
			place = inner
		}
		place[tokens[len(tokens)-1]] = value
	}
	return shown
}

// promptFuncs is all that a template can call besides what text/template has.
func promptFuncs() template.FuncMap {
	return template.FuncMap{"json": func(value any) (string, error) {
		text, err := Canonical(value)
		return string(text), err
	}}
}
