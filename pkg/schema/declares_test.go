package schema_test

import (
	"testing"

	"spillway/pkg/schema"
)

func TestASchemaSaysWhatPartsAValueCanHave(t *testing.T) {
	t.Parallel()
	list := []any{}
	for _, row := range []struct {
		name, schema, pointer string
		kind                  any
		want                  bool
	}{
		{"a property", `{"properties":{"a":{"type":"array"}}}`, "/a", list, true},
		{"of another kind", `{"properties":{"a":{"type":"string"}}}`, "/a", list, false},
		{"of any kind", `{"properties":{"a":{"type":"string"}}}`, "/a", nil, true},
		{"that may be null", `{"properties":{"a":{"type":["array","null"]}}}`, "/a", list, true},
		{"the whole", `{"type":"array"}`, "", list, true},
		{"not the whole", `{"type":"object"}`, "", list, false},
		{"another is named", `{"properties":{"a":{}}}`, "/b", list, false},
		{"none is named", `{"type":"object"}`, "/b", list, true},
		{"none may be", `{"additionalProperties":false}`, "/b", list, false},
		{"all others are lists", `{"properties":{"a":{}},"additionalProperties":{"type":"array"}}`, "/b", list, true},
		{"by a pattern", `{"patternProperties":{"^b":{"type":"array"}},"additionalProperties":false}`, "/b", list, true},
		{"behind a reference", `{"properties":{"a":{"$ref":"#/definitions/d"}},"definitions":{"d":{"properties":{"b":{"type":"array"}}}}}`, "/a/b", list, true},
		{"below a text", `{"properties":{"a":{"type":"string"}}}`, "/a/b", list, false},
		{"in one form", `{"oneOf":[{"properties":{"a":{"type":"string"}}},{"properties":{"b":{"type":"array"}}}]}`, "/b", list, true},
		{"in no form", `{"oneOf":[{"properties":{"a":{"type":"string"}}},{"properties":{"c":{"type":"array"}}}]}`, "/b", list, false},
		{"beside a form", `{"properties":{"b":{"type":"array"}},"anyOf":[{"required":["a"]},{"required":["b"]}]}`, "/b", list, true},
		{"one of all forms closes", `{"properties":{"b":{"type":"array"}},"allOf":[{"additionalProperties":false}]}`, "/b", list, false},
		{"one of all forms names it", `{"properties":{"a":{}},"allOf":[{"properties":{"b":{"type":"array"}}}]}`, "/b", list, true},
		{"an item's", `{"properties":{"a":{"type":"array","items":{"properties":{"b":{"type":"array"}}}}}}`, "/a/0/b", list, true},
		{"behind the items", `{"type":"array","items":[{}],"additionalItems":false}`, "/1", nil, false},
		{"no pointer", `{}`, "a", nil, false},
	} {
		s, err := schema.Compile([]byte(row.schema))
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if got := s.Declares(row.pointer, row.kind); got != row.want {
			t.Errorf("%s: %s of %s: %v", row.name, row.pointer, row.schema, got)
		}
	}
}

func TestAPartIsSetInACopy(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ value, pointer, part, want string }{
		{`{"a":1}`, "/b", `2`, `{"a":1,"b":2}`},
		{`{"a":1}`, "/a", `[]`, `{"a":[]}`},
		{`{"a":{"b":1,"c":2}}`, "/a/b", `3`, `{"a":{"b":3,"c":2}}`},
		{`{}`, "/a/b/c", `1`, `{"a":{"b":{"c":1}}}`},
		{`{"a":null}`, "/a/b", `1`, `{"a":{"b":1}}`},
		{`{"a":[1,{"b":2}]}`, "/a/1/b", `3`, `{"a":[1,{"b":3}]}`},
		{`{"a/b":1}`, "/a~1b", `2`, `{"a/b":2}`},
		{`[1]`, "", `{}`, `{}`},
		{`{"a":"text"}`, "/a/b", `1`, ""},
		{`{"a":[1]}`, "/a/1", `1`, ""},
		{`{"a":[1]}`, "/a/-", `1`, ""},
	} {
		value, part := mustDecode(t, row.value), mustDecode(t, row.part)
		got, err := schema.With(value, row.pointer, part)
		if (err != nil) != (row.want == "") || err == nil && schema.Render(got) != schema.Render(mustDecode(t, row.want)) {
			t.Errorf("%s with %s at %s: %v, %v", row.value, row.part, row.pointer, got, err)
		}
		if schema.Render(value) != schema.Render(mustDecode(t, row.value)) {
			t.Errorf("%s became %s", row.value, schema.Render(value))
		}
	}
}
