package lint

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// examples holds what the task shows, to models and to those who read it, against its schemas.
func (c *checker) examples() {
	c.exampleAnswers()
	for i, canned := range c.task.Canned {
		c.strange(cannedFile, fmt.Sprintf("/%d/output", i), canned.Output, c.task.OutputSchema, outputFile)
	}
	for _, k := range c.task.Cases {
		file := "cases/" + k.Name + ".yaml"
		c.strange(file, "/input", k.Input, c.task.Input, inputFile)
		c.strange(file, "/state", k.State, c.task.State, stateFile)
		c.strange(file, "/expect/output", k.Expect.Output, c.task.OutputSchema, outputFile)
	}
}

// strange reports what a value has that its schema lets pass, and does not declare among the properties that it does: one
// that was renamed there is still written here.
func (c *checker) strange(file, pointer string, text []byte, by *schema.Schema, byFile string) {
	if by == nil || len(text) == 0 {
		return
	}
	value, err := schema.Decode(text)
	if err != nil || len(by.Validate(value)) > 0 {
		return // a fault already
	}
	for _, path := range unknown(by, value, nil) {
		c.yaml(Fault, file, pointer+schema.AppendPointer("", path...), "%s does not declare %s%s (rename it here or there, or let the schema say \"additionalProperties\": true)", byFile, schema.AppendPointer("", path...), meant(by, path))
	}
}

// unknown are the paths of members, in a value that satisfies a schema, of objects of which it names others.
func unknown(by *schema.Schema, value any, path []string) (all [][]string) {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			below := append(slices.Clip(path), name)
			if !by.Declares(schema.AppendPointer("", below...), nil) && len(siblingsOf(by, below)) > 0 {
				all = append(all, below)
				continue
			}
			all = append(all, unknown(by, v[name], below)...)
		}
	case []any:
		for i, item := range v {
			all = append(all, unknown(by, item, append(slices.Clip(path), strconv.Itoa(i)))...)
		}
	}
	return all
}

// exampleAnswers reports example answers of the prompt that the task would not take from a model.
func (c *checker) exampleAnswers() {
	if !c.answersJSON() || c.task.Prompt.User == nil {
		return
	}
	input := c.inputs()[0]
	_, examples, _, err := c.task.Prompt.Render(task.PromptData{Input: input, Schema: string(c.task.OutputSchema.Source())})
	if err != nil {
		return // a fault already
	}
	for i, pair := range examples {
		part := c.task.Prompt.Examples[i].Assistant
		report := func(format string, args ...any) {
			c.template(part.Root.Pos, `the example answer "`+part.Name()+`" `+format, args...)
		}
		value, err := schema.Decode([]byte(pair[1]))
		if err != nil {
			report("is not JSON, and models imitate it: %v (mend the example)", err)
			continue
		}
		for _, violation := range c.task.OutputSchema.Validate(value) {
			report("does not satisfy %s, and models imitate it: %s (mend the example)", outputFile, violation)
		}
		for _, path := range unknown(c.task.OutputSchema, value, nil) {
			report("has %s, which %s does not declare%s", schema.AppendPointer("", path...), outputFile, meant(c.task.OutputSchema, path))
		}
	}
}

// inputs are those of the cases, and then one made of the schema.
func (c *checker) inputs() (all []any) {
	for _, k := range c.task.Cases {
		if input, err := schema.Decode(k.Input); err == nil {
			all = append(all, input)
		}
	}
	if c.task.Input == nil {
		return append(all, map[string]any{})
	}
	sample, _ := c.task.Input.Sample(schema.Everything)
	return append(all, sample)
}
