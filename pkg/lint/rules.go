package lint

import (
	"fmt"
	"slices"
	"strings"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// rules reports expressions that read what no schema declares, or wait for a value that can not come.
func (c *checker) rules() {
	for _, one := range c.expressions() {
		for _, read := range one.program.Reads() {
			by, file := c.task.Input, inputFile
			switch read.Variable {
			case "output":
				by, file = c.task.OutputSchema, outputFile
				if !c.answersJSON() {
					continue
				}
			case "state":
				by, file = c.task.State, stateFile
			case "session":
				continue
			}
			if part := undeclared(by, read.Path); part != nil {
				c.yaml(Fault, one.file, one.pointer, "the expression reads %s, which %s does not declare%s (rename it here or there)", dotted(read.Variable, part), file, meant(by, part))
				continue
			}
			c.impossible(one, dotted(read.Variable, read.Path), by, read.Path, read.Against)
		}
	}
}

// impossible reports a comparison with a text that is none of a property's choices.
func (c *checker) impossible(one expression, name string, by *schema.Schema, path, against []string) {
	if by == nil || len(path) == 0 {
		return
	}
	i := slices.IndexFunc(by.Properties(), func(p schema.Property) bool { return slices.Equal(p.Path, path) })
	if i < 0 || len(by.Properties()[i].Choices) == 0 {
		return
	}
	var choices, shown []string
	for _, choice := range by.Properties()[i].Choices {
		if text, isText := choice.(string); isText {
			choices = append(choices, text)
		}
		shown = append(shown, schema.Render(choice))
	}
	for _, text := range against {
		if slices.Contains(choices, text) {
			continue
		}
		hint := ""
		if near := schema.Nearest(text, choices); near != "" {
			hint = fmt.Sprintf(": did you mean %q?", near)
		}
		c.yaml(Fault, one.file, one.pointer, "%s is never %q, only %s%s (write one of these)", name, text, strings.Join(shown, ", "), hint)
	}
}

// models reports what of the task a model leaves out, or has no room for.
func (c *checker) models() {
	p := c.task.Parameters
	set := map[string]bool{
		"temperature": p.Temperature != nil, "top_p": p.TopP != nil, "frequency_penalty": p.FrequencyPenalty != nil,
		"presence_penalty": p.PresencePenalty != nil, "seed": p.Seed != nil, "stop": len(p.Stop) > 0,
		"reasoning_effort": p.ReasoningEffort != "", "max_output_tokens": p.MaxOutputTokens > 0,
	}
	for _, name := range c.modelNames() {
		m := c.task.Models[name]
		for _, parameter := range slices.Sorted(slices.Values(slices.Compact(slices.Clone(m.Unsupported)))) {
			if set[parameter] {
				c.yaml(Warning, manifestFile, "/parameters/"+parameter, "%s is not sent to model %s, %s: models.yaml lists it as unsupported there, so its answers will differ (remove the parameter, or choose another model)",
					parameter, name, c.roleOf(name))
			}
		}
		if most := m.MaxOutputTokens; most > 0 && p.MaxOutputTokens > most {
			c.yaml(Warning, manifestFile, "/parameters/max_output_tokens", "max_output_tokens is %d, but model %s, %s, says at most %d: longer answers will be cut there (lower it, or choose another model)",
				p.MaxOutputTokens, name, c.roleOf(name), most)
		}
	}
}

// roleOf says what a task calls a model for.
func (c *checker) roleOf(name string) string {
	t := c.task
	switch {
	case name == t.Model:
		return "the task's own"
	case slices.ContainsFunc(t.Ladder, func(r task.Rung) bool { return r.Kind == task.RungModel && r.Model == name }):
		return "a rung of its ladder"
	}
	return "its correction.last_on"
}
