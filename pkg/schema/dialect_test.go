package schema_test

import (
	"strings"
	"testing"

	"spillway/pkg/schema"
)

// What the usual generators print, from their documentation, must load as it is and be checked.
func TestSchemasAsGeneratorsEmitThemLoad(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ document, good, bad, pointers string }{
		// https://zod.dev/json-schema, z.toJSONSchema, whose target is 2020-12 by default
		"zod 4": {
			`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"name":{"type":"string"},"age":{"type":"number"},
				"email":{"type":"string","format":"email"},"tags":{"type":"array","items":{"type":"string"}},"nick":{"anyOf":[{"type":"string"},{"type":"null"}]}},
				"required":["name","age","email","tags","nick"],"additionalProperties":false}`,
			`{"name":"a","age":1.5,"email":"a@example.com","tags":[],"nick":null}`,
			`{"name":1,"age":"1","email":"a","tags":[1],"nick":7,"x":0}`,
			"/age /email /name /nick /nick /tags/0 /x",
		},
		// zod-to-json-schema with a name, target jsonSchema7
		"zod-to-json-schema": {
			`{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/definitions/mySchema","definitions":{"mySchema":{"description":"My neat object schema",
				"type":"object","properties":{"myString":{"type":"string","minLength":5},"myUnion":{"type":["number","boolean"]}},"additionalProperties":false,
				"required":["myString","myUnion"]}}}`,
			`{"myString":"hello","myUnion":true}`, `{"myString":"hell","myUnion":"x"}`, "/myString /myUnion",
		},
		// https://docs.pydantic.dev/latest/concepts/json_schema/, MainModel.model_json_schema()
		"pydantic 2": {
			`{"$defs":{"FooBar":{"properties":{"count":{"title":"Count","type":"integer"},"size":{"anyOf":[{"type":"number"},{"type":"null"}],"default":null,"title":"Size"}},
				"required":["count"],"title":"FooBar","type":"object"},"Gender":{"enum":["male","female","other","not_given"],"title":"Gender","type":"string"}},
				"description":"This is the description of the main model","properties":{"foo_bar":{"$ref":"#/$defs/FooBar"},
				"Gender":{"anyOf":[{"$ref":"#/$defs/Gender"},{"type":"null"}],"default":null},
				"snap":{"default":42,"description":"this is the value of snap","exclusiveMaximum":50,"exclusiveMinimum":30,"title":"The Snap","type":"integer"}},
				"required":["foo_bar"],"title":"Main","type":"object"}`,
			`{"foo_bar":{"count":1,"size":null},"Gender":"other","snap":31}`, `{"foo_bar":{"size":"x"},"snap":50}`, "/foo_bar/count /foo_bar/size /foo_bar/size /snap",
		},
		// https://platform.openai.com/docs/guides/structured-outputs, recursion with #
		"OpenAI strict": {
			`{"type":"object","properties":{"type":{"type":"string","description":"The type of the UI component","enum":["div","button"]},
				"label":{"type":["string","null"]},"children":{"type":"array","items":{"$ref":"#"}}},"required":["type","label","children"],"additionalProperties":false}`,
			`{"type":"div","label":null,"children":[{"type":"button","label":"ok","children":[]}]}`, `{"type":"div","label":1,"children":[{"type":"a"}]}`,
			"/children/0/children /children/0/label /children/0/type /label",
		},
		// draft 4, as older OpenAPI tools write it
		"draft 4": {
			`{"$schema":"http://json-schema.org/draft-04/schema#","type":"number","minimum":0,"exclusiveMinimum":true,"maximum":1}`,
			`0.5`, `0`, "",
		},
	} {
		compiled, err := schema.Compile([]byte(test.document))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := compiled.Validate(mustDecode(t, test.good)); got != nil {
			t.Errorf("%s: %s: %v", name, test.good, got)
		}
		var pointers []string
		for _, v := range compiled.Validate(mustDecode(t, test.bad)) {
			pointers = append(pointers, v.Pointer)
		}
		if got := strings.Join(pointers, " "); pointers == nil || got != test.pointers {
			t.Errorf("%s: %s: got violations at %s, want %s", name, test.bad, got, test.pointers)
		}
	}
}

func mustDecode(t testing.TB, text string) any {
	t.Helper()
	value, err := schema.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}
