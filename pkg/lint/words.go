package lint

import (
	"bytes"
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"spillway/pkg/schema"
)

// The forms in which prompts name properties: a list of them, members of JSON, names in backticks.
var (
	item     = regexp.MustCompile("^[ \t]*(?:[-*•+]|\\d+[.)])[ \t]")
	listed   = regexp.MustCompile("^[ \t]*(?:[-*•+]|\\d+[.)])[ \t]+[\"'`*]*([A-Za-z_$][\\w$-]*)[\"'`*]*(?:[ \t]*\\([^)\n]*\\))?[ \t]*(?::|=|–|—| - )")
	member   = regexp.MustCompile(`"([A-Za-z_$][\w$-]*)"[ \t]*:`)
	backtick = regexp.MustCompile("`([A-Za-z_$][\\w$-]*)`")
)

// named is a word of the prompt that stands where the names of properties do.
type named struct {
	name string
	at   int
}

// words reports words of the prompt that stand beside names of the output's properties, in the same form, and are none:
// they were, before the schema changed.
func (c *checker) words() {
	if !c.answersJSON() || c.task.Prompt.User == nil || isOpen(c.task.OutputSchema) {
		return
	}
	said := c.read(true)
	text := said.words.text.String()
	known := namesOf(c.task.OutputSchema)
	for _, group := range groups(text) {
		c.strangers(said, group, known, false)
	}
	c.strangers(said, found(text, member), known, false)
	c.strangers(said, found(text, backtick), known, true)
}

// strangers reports the names of a group that no schema has, when most of the group are names of the output's properties.
// doubtful: what is of this form may be anything, so a name must be the one that another one is likely to have had.
func (c *checker) strangers(said *reader, group []named, known []string, doubtful bool) {
	properties := 0
	var strange []named
	for _, word := range group {
		switch {
		case slices.Contains(known, word.name):
			properties++
		case !c.isOther(word.name) && (startsLower(word.name) || !slices.ContainsFunc(known, startsLower)):
			strange = append(strange, word)
		}
	}
	if properties < max(1, len(strange)) {
		return
	}
	text := said.words.text.String()
	unnamed := slices.DeleteFunc(slices.Clone(known), func(name string) bool { return names(text, name) })
	for _, word := range strange {
		near := schema.Nearest(word.name, known)
		if doubtful && near == "" {
			continue
		}
		hint := ""
		if of := cmp.Or(near, first(unnamed)); of != "" {
			hint = ": did you mean " + of + "?"
		}
		c.template(said.words.pos(word.at), "the prompt names a property %s, which %s does not have%s (rename it here or there)", word.name, outputFile, hint)
	}
}

func first(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return ""
}

// isOther reports whether a word has another reason to stand in a prompt: it is of the input, of the state, one of the
// choices of a property, or a word of schemas.
func (c *checker) isOther(word string) bool {
	for _, s := range []*schema.Schema{c.task.Input, c.task.State, c.task.OutputSchema} {
		if s == nil {
			continue
		}
		for _, p := range s.Properties() {
			if p.Name() == word || slices.Contains(p.Choices, any(word)) {
				return true
			}
		}
	}
	return slices.Contains(strings.Fields(schemaWords), word)
}

// schemaWords are those of a schema that is written out in a prompt, and of JSON.
const schemaWords = `$schema $id $ref $defs definitions type properties required additionalProperties items prefixItems enum const
description title default examples format pattern minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength
maxLength minItems maxItems uniqueItems minProperties maxProperties anyOf oneOf allOf not if then else nullable
true false null string number integer boolean object array json role content`

// groups are the names of each list: what stands beneath each other at one margin, with nothing between that is not an
// item's own.
func groups(text string) (all [][]named) {
	open := map[int][]named{} // by margin
	closeFrom := func(margin int) {
		for _, at := range slices.Sorted(maps.Keys(open)) {
			if at >= margin {
				all = append(all, open[at])
				delete(open, at)
			}
		}
	}
	begin := 0
	for line := range strings.Lines(text) {
		margin := len(line) - len(strings.TrimLeft(line, " \t"))
		switch at := listed.FindStringSubmatchIndex(line); {
		case at != nil:
			closeFrom(margin + 1)
			open[margin] = append(open[margin], named{line[at[2]:at[3]], begin + at[2]})
		case item.MatchString(line):
			closeFrom(margin + 1)
		case strings.TrimSpace(line) != "":
			closeFrom(margin)
		}
		begin += len(line)
	}
	closeFrom(0)
	return all
}

func found(text string, form *regexp.Regexp) (all []named) {
	for _, at := range form.FindAllStringSubmatchIndex(text, -1) {
		all = append(all, named{text[at[2]:at[3]], at[2]})
	}
	return all
}

func namesOf(s *schema.Schema) (all []string) {
	for _, p := range s.Properties() {
		if !slices.Contains(all, p.Name()) {
			all = append(all, p.Name())
		}
	}
	return all
}

// isOpen reports whether a schema speaks of properties without naming them: any name may be one.
func isOpen(s *schema.Schema) bool {
	text := s.Source()
	return bytes.Contains(text, []byte(`"patternProperties":`)) || bytes.Contains(text, []byte(`"additionalProperties":{`)) ||
		bytes.Contains(text, []byte(`"additionalProperties":true`))
}

func startsLower(word string) bool { return unicode.IsLower([]rune(word)[0]) }
