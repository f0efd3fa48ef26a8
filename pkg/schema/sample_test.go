package schema_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"spillway/pkg/schema"
)

func TestSamplesSatisfyTheirSchemas(t *testing.T) {
	t.Parallel()
	for _, document := range []string{
		onboardingLike,
		`{"type":"object","required":["a"],"properties":{"a":{"type":"string","minLength":20},"b":{"type":["string","null"],"maxLength":3},"c":{"type":"array","minItems":2,"items":{"type":"integer","minimum":5,"multipleOf":7}}}}`,
		`{"allOf":[{"type":"object","properties":{"a":{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":0.5}},"required":["a"]},{"required":["b"],"properties":{"b":{"format":"uuid"}}}]}`,
		`{"properties":{"a":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/x"}]}},"$defs":{"x":{"type":"object","properties":{"deep":{"$ref":"#/$defs/x"}}}}}`,
		`{"items":[{"type":"string"},{"type":"boolean"}],"additionalItems":false,"minItems":2}`,
		`{"oneOf":[{"const":1},{"const":2}]}`, `{"maximum":-1}`, `true`, `{}`, `{"type":"object","required":["x"]}`,
		`{"type":"string","format":"date-time"}`, `{"type":"array","maxItems":0,"items":{}}`,
	} {
		compiled := mustCompile(t, document)
		for _, fill := range []schema.Fill{schema.Everything, schema.RequiredOnly, schema.Nulls} {
			if value, ok := compiled.Sample(fill); !ok {
				t.Errorf("%s: sample %d is %v: %v", document, fill, value, compiled.Validate(value))
			}
		}
	}
	if _, ok := mustCompile(t, `{"type":"string","pattern":"^x{7}$"}`).Sample(schema.Everything); ok {
		t.Error("a pattern was followed: say so in Sample's comment")
	}
	tree := mustCompile(t, `{"type":"object","required":["n"],"properties":{"n":{"type":["string","null"]},"o":{"type":"string"}}}`)
	for fill, want := range map[schema.Fill]string{schema.Everything: `{"n":"sample text","o":"sample text"}`, schema.RequiredOnly: `{"n":"sample text"}`, schema.Nulls: `{"n":null,"o":"sample text"}`} {
		value, _ := tree.Sample(fill)
		if got, _ := json.Marshal(value); string(got) != want {
			t.Errorf("sample %d: got %s, want %s", fill, got, want)
		}
	}
}

// Each of these would have more than a hundred million values, or ways to one.
func TestSamplesOfSchemasThatReferToThemselvesStaySmall(t *testing.T) {
	t.Parallel()
	var members, doubling strings.Builder
	for i := range 8 {
		fmt.Fprintf(&members, `"p%d":{"$ref":"#/definitions/n"},`, i)
	}
	for i := range 30 {
		fmt.Fprintf(&doubling, `"d%d":{"allOf":[{"$ref":"#/definitions/d%d"},{"$ref":"#/definitions/d%d"}]},`, i, i+1, i+1)
	}
	of := func(words string) string {
		return `{"$ref":"#/definitions/n","definitions":{"n":{"type":"object",` + words + `"properties":{` + members.String() + `"z":{"type":"string"}}}}}`
	}
	for name, row := range map[string]struct {
		document string
		ok       bool
	}{
		"optional":  {of(""), true},
		"required":  {of(`"required":["p0","p1","p2","p3","p4","p5","p6","p7"],`), false}, // no value is finite
		"lists":     {`{"type":"object","properties":{"a":{"type":"array","minItems":9,"items":{"$ref":"#"}},"b":{"type":"array","minItems":9,"items":{"$ref":"#"}}}}`, true},
		"the same":  {`{"$ref":"#/definitions/d0","definitions":{` + doubling.String() + `"d30":{"type":"string"}}}`, true},
		"an option": {`{"type":"object","required":["v"],"properties":{"v":{"anyOf":[{"type":"string"},{"$ref":"#"}]},"w":{"anyOf":[{"$ref":"#"},{"type":"null"}]}}}`, true},
	} {
		value, ok := mustCompile(t, row.document).Sample(schema.Everything)
		text, err := json.Marshal(value)
		if err != nil || ok != row.ok || len(text) > 256<<10 {
			t.Errorf("%s: %t, %d bytes, %v", name, ok, len(text), err)
		}
	}
}
