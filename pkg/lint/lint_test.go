package lint_test

import (
	"slices"
	"strings"
	"testing"
)

// The parts of an order, as a schema declares them. Its tags are of any names.
const order = `{"type": "object", "properties": {
	"customer": {"type": "object", "properties": {"name": {"type": "string"}, "tier": {"type": "string"}}, "required": ["name"]},
	"lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}, "count": {"type": "integer"}}, "required": ["sku"]}},
	"tags": {"type": "object", "additionalProperties": {"type": "string"}},
	"note": {"type": "string"}}, "required": ["customer", "lines", "note"]}`

// Each template reads something that the schema does not declare, or not all that it demands.
func TestATemplateIsFollowedToWhatItReads(t *testing.T) {
	t.Parallel()
	const rest = `{{.Input.note}}{{.Input.customer.name}}{{range .Input.lines}}{{.sku}}{{end}}`
	for template, want := range map[string][]string{
		rest:                             nil,
		`{{json .Input}}`:                nil,
		`{{json .}}`:                     nil,
		`{{$x := .Input}}{{$x | json}}`:  nil,
		rest + `{{.Input.customer.nme}}`: {"reads .Input.customer.nme, which input.schema.json does not declare: did you mean name?"},
		rest + `{{with .Input.customer}}{{.teir}}{{end}}`:                                            {"reads .Input.customer.teir"},
		rest + `{{with .Input.customer}}{{$.Input.teir}}{{.tier}}{{end}}`:                            {"reads .Input.teir"},
		rest + `{{range $i, $l := .Input.lines}}{{$i}}{{$l.cnt}}{{end}}`:                             {"reads .Input.lines.*.cnt, which input.schema.json does not declare: it has count, sku"},
		rest + `{{range .Input.lines}}{{if .counts}}x{{end}}{{end}}`:                                 {"reads .Input.lines.*.counts"},
		rest + `{{(index .Input.lines 0).skus}}`:                                                     {"reads .Input.lines.*.skus"},
		rest + `{{index .Input "customer" "nam"}}`:                                                   {"reads .Input.customer.nam"},
		rest + `{{index .Input "tags" "any"}}{{.Input.tags.other}}`:                                  nil,
		rest + `{{range $k, $v := .Input.tags}}{{$k}}{{$v}}{{end}}`:                                  nil,
		rest + `{{template "t" .Input.customer}}{{end}}{{define "t"}}{{.tear}}`:                      {"reads .Input.customer.tear"},
		rest + `{{if eq .Input.customer.tier "gold"}}{{printf "%s" .Input.nte}}{{end}}`:              {"reads .Input.nte"},
		rest + `{{with $c := .Input.customer}}{{$c.tire}}{{end}}`:                                    {"reads .Input.customer.tire"},
		rest + `{{.State.intent}}`:                                                                   {"reads .State.intent, which is kept from it: add /intent to context.state.in_prompt of task.yaml"},
		`{{.Input.note}}{{range .Input.lines}}{{.sku}}{{end}}`:                                       {"no template reads the required property customer,"},
		`{{.Input.note}}{{.Input.customer.tier}}{{len .Input.lines}}`:                                {"no template reads the required property customer.name,", "no template reads the required property lines.*.sku,"},
		`{{.Input.note}}{{with .Input.customer}}{{.}}{{end}}{{range .Input.lines}}{{json .}}{{end}}`: nil,
	} {
		found, _ := look(t, map[string]string{"input.schema.json": order, "prompt.tmpl": `{{define "user"}}` + template + `{{end}}`, "output.schema.json": `{"type": "string"}`})
		var got []string
		for _, f := range found {
			if !strings.Contains(f.Message, "strict") {
				got = append(got, f.String())
			}
		}
		if len(got) != len(want) || !slices.EqualFunc(got, want, strings.Contains) {
			t.Errorf("%s:\n got %q\nwant %q", template, got, want)
		}
	}
}

// Names in a prompt are those of the schema, or have another reason to be there.
func TestOnlyNamesThatLookLikePropertiesAreHeldAgainstTheSchema(t *testing.T) {
	t.Parallel()
	const output = `{"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}, "why": {"type": "string"}, "parts": {"type": "array", "items": {"type": "object", "properties": {"page": {"type": "integer"}}, "required": ["page"]}}}, "required": ["mood", "why"]}`
	for prompt, want := range map[string]string{
		"- mood: how\n- why: because\n- parts: where":                               "",
		"- moods: how\n- why: because":                                              `prompt.tmpl:2: the prompt names a property moods, which output.schema.json does not have: did you mean mood?`,
		"1. `mood` (text): how\n2. `wherefore`: because\n3. **parts**: x":           "names a property wherefore, which output.schema.json does not have",
		"* mood: how\n  more of it\n* reason: because\n* parts: where":              "prompt.tmpl:4: the prompt names a property reason",
		"Rules:\n- language: theirs\n- length: short\nFields:\n- mood: how":         "",
		"- mood: one of\n  - good: well\n  - bad: not\n- why: because":              "",
		"- mood: how\n- text: the user's\n- why: because":                           "",
		"- mood: how\n\n- page: where":                                              "",
		`{"mood": "good", "why": "…", "parts": [{"page": 1, "line": 2}]}`:           "prompt.tmpl:2: the prompt names a property line",
		`{"type": "object", "properties": {"mood": {}, "why": {}}}`:                 "",
		"Fill `mood` and `why`; `null` is none, `/path` is no name, `gpt` no field": "",
		"Fill `mood` and `whi`.":                                                    "did you mean why?",
		"We are in a good mood: why not?":                                           "",
	} {
		found, faults := look(t, map[string]string{
			"input.schema.json":  `{"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}`,
			"output.schema.json": output, "prompt.tmpl": "{{define \"user\"}}{{.Schema}}{{.Input.text}}\n" + prompt + "{{end}}",
		})
		got := ""
		for _, f := range found {
			got += f.String() + "\n"
		}
		if len(faults) > 0 || (want == "") != (got == "") || !strings.Contains(got, want) || strings.Count(got, "\n") > 1 {
			t.Errorf("%s:\n got %q %v\nwant %q", prompt, got, faults, want)
		}
	}
}

// A schema that takes other properties says so, or they are the old names of those that it has.
func TestOtherPropertiesOfACaseAreTheirsWhoSaySo(t *testing.T) {
	t.Parallel()
	for also, want := range map[string]int{"": 3, `, "additionalProperties": true`: 0, `, "additionalProperties": {"type": "string"}`: 0, `, "patternProperties": {"^x": {}}`: 0} {
		open := `{"type": "object", "properties": {"mood": {"type": "string"}}` + also + `}`
		found, faults := look(t, map[string]string{
			"input.schema.json": open, "output.schema.json": open, "prompt.tmpl": `{{define "user"}}{{.Schema}}{{json .Input}}{{end}}`,
			"canned.yaml":  "- output: {xmoods: good}\n",
			"cases/a.yaml": "input: {xmoods: good}\nanswer: {content: '{}'}\nexpect: {verdict: valid, output: {xmoods: good}}\n",
		})
		n := 0
		for _, f := range found {
			if strings.Contains(f.Message, "does not declare /xmoods: ") {
				n++
			}
		}
		if n != want || len(faults) > 0 {
			t.Errorf("%s: %d found, want %d: %v %v", also, n, want, found, faults)
		}
	}
}
