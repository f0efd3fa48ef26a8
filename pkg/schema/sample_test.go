package schema_test

import (
	"encoding/json"
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
