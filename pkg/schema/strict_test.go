package schema_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fakellm"
)

func TestTheStrictFormOfASchemaIsOfTheSameMeaning(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]string{
		// In the order of the properties, which is the order of the answer.
		`{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"number"}},"required":["z","a"]}`:                        `{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"number"}},"required":["z","a"],"additionalProperties":false}`,
		`{"properties":{"s":{"type":"string","maxLength":9,"minLength":2,"description":"Say it"}},"required":["s"]}`:               `{"type":"object","properties":{"s":{"type":"string","description":"Say it (maxLength: 9, minLength: 2)"}},"required":["s"],"additionalProperties":false}`,
		`{"type":"object","properties":{"e":{"enum":["a",1]}}}`:                                                                    `{"type":"object","properties":{"e":{"enum":["a",1,null],"type":["string","number","null"]}},"required":["e"],"additionalProperties":false}`,
		`{"type":"object","properties":{"c":{"const":"a"}}}`:                                                                       `{"type":"object","properties":{"c":{"anyOf":[{"const":"a","type":"string"},{"type":"null"}]}},"required":["c"],"additionalProperties":false}`,
		`{"type":"object","properties":{"o":{"type":["object","null"],"title":"O","properties":{},"additionalProperties":false}}}`: `{"type":"object","properties":{"o":{"title":"O","anyOf":[{"type":"object","properties":{},"required":[],"additionalProperties":false},{"type":"null"}]}},"required":["o"],"additionalProperties":false}`,
		`{"type":"object","properties":{"u":{"type":["string","number"]},"n":{"type":["string","null"]}},"required":["u"]}`:        `{"type":"object","properties":{"u":{"anyOf":[{"type":"string"},{"type":"number"}]},"n":{"type":["string","null"]}},"required":["u","n"],"additionalProperties":false}`,
		`{"$ref":"#/$defs/a","$defs":{"a":{"type":"object","properties":{"next":{"$ref":"#/$defs/a","description":"more"}}}}}`: `{"type":"object","properties":{"next":{"description":"more","anyOf":[{"$ref":"#/$defs/a"},{"type":"null"}]}},"required":["next"],"additionalProperties":false,` +
			`"$defs":{"a":{"type":"object","properties":{"next":{"description":"more","anyOf":[{"$ref":"#/$defs/a"},{"type":"null"}]}},"required":["next"],"additionalProperties":false}}}`,
		`{"type":"object","properties":{"a":{"allOf":[{"$ref":"#"}],"description":"again","default":{}}},"required":["a"],"x-own":1}`: `{"type":"object","properties":{"a":{"anyOf":[{"$ref":"#"}],"description":"again"}},"required":["a"],"additionalProperties":false}`,
		`{"type":"object","properties":{"a":{"type":"string","nullable":true,"format":"uri","pattern":"^(?=h)"}}}`:                    `{"type":"object","properties":{"a":{"type":["string","null"],"description":"(format: \"uri\", pattern: \"^(?=h)\")"}},"required":["a"],"additionalProperties":false}`,
		`{"type":"object","properties":{"a":{"oneOf":[{"type":"object","properties":{"k":{"const":1},"s":{"type":"string"}},"required":["k"]},{"type":"object","properties":{"k":{"enum":[2,3]}},"required":["k"]}]}},"required":["a"]}`: `{"type":"object","properties":{"a":{"anyOf":[` +
			`{"type":"object","properties":{"k":{"const":1,"type":"number"},"s":{"type":["string","null"]}},"required":["k","s"],"additionalProperties":false},` +
			`{"type":"object","properties":{"k":{"enum":[2,3],"type":"number"}},"required":["k"],"additionalProperties":false}]}},"required":["a"],"additionalProperties":false}`,
	} {
		got, err := mustCompile(t, document).Strict()
		if err != nil || string(got.Text) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", document, err, got.Text, want)
		}
	}
}

func TestAModelSeesOfAStrictSchemaWhatNotAllOfThemSay(t *testing.T) {
	t.Parallel()
	got, err := mustCompile(t, `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{
		"required":{"type":"array","items":{"type":"object","properties":{"additionalProperties":{"const":"required"}},"required":["additionalProperties"]}},
		"b":{"anyOf":[{"$ref":"#/definitions/d"},{"type":"null"}]}},"required":["required","b"],"definitions":{"d":{"type":"object","properties":{"n":{"type":"number"}},"required":["n"]}}}`).Strict()
	want := `{"type":"object","properties":{"required":{"type":"array","items":{"type":"object","properties":{"additionalProperties":{"const":"required","type":"string"}}}},` +
		`"b":{"anyOf":[{"$ref":"#/definitions/d"},{"type":"null"}]}},"definitions":{"d":{"type":"object","properties":{"n":{"type":"number"}}}}}`
	if err != nil || string(got.Shown) != want {
		t.Errorf("%v\n got %s\nwant %s", err, got.Shown, want)
	}
}

func TestASchemaWithoutAStrictFormSaysWhere(t *testing.T) {
	t.Parallel()
	of := func(property string) string {
		return `{"type":"object","properties":{"a":` + property + `},"required":["a"]}`
	}
	open := `{"type":"object","properties":{"x":{"type":"string"},"b":{"type":"string"}},"required":["x"]}`
	other := `{"type":"object","properties":{"y":{"type":"string"}},"required":["y"]}`
	for document, want := range map[string]string{
		`{"type":"array","items":{}}`:                                    "/items: a schema without a type",
		`{"type":"string"}`:                                              "only an object at the top has a strict form",
		`{"$schema":"http://json-schema.org/draft-04/schema#"}`:          "/$schema: draft 4",
		`{"type":"object"}`:                                              "an object of any names",
		`{"type":"object","properties":{},"additionalProperties":true}`:  "an object of any names",
		`{"type":"object","properties":{},"unevaluatedProperties":true}`: "an object of any names",
		`{"type":"object","properties":{},"required":["b"]}`:             `/required: a required property "b"`,
		of(`{}`):                            "/properties/a: a schema without a type",
		`true`:                              "a schema that is true or false",
		`false`:                             "a schema that is true or false",
		of(`true`):                          "/properties/a: a schema that is true",
		of(`{"type":"array"}`):              "/properties/a: an array of any items",
		of(`{"type":"array","items":[{}]}`): "/properties/a/items: a tuple",
		of(`{"type":["string","number"],"minimum":1}`):                                                   "/properties/a: several types with bounds",
		of(`{"allOf":[{"type":"string"},{"type":"string"}]}`):                                            "/properties/a/allOf: allOf with something else",
		of(`{"type":"string","anyOf":[{"type":"string"},{"type":"number"}]}`):                            "/properties/a/anyOf: anyOf with something else",
		of(`{"not":{"type":"string"}}`):                                                                  "/properties/a/not: not has no strict form",
		`{"type":"object","properties":{"b":{"type":"string"},"a":{"$ref":"#/properties/b"}}}`:           "/properties/a/$ref: a reference to elsewhere than # or a definition",
		of(`{"anyOf":[` + open + `,` + other + `]}`):                                                     "/properties/a/anyOf: forms that no property tells apart have no strict form: it would not be known which nulls to drop",
		of(`{"anyOf":[` + other + `,` + other + `]}`):                                                    "/properties/a/anyOf: forms that no property tells apart, and that begin with the same one",
		of(`{"anyOf":[{"enum":["none"]},` + open + `]}`):                                                 "forms that no property tells apart",
		of(`{"type":"string","enum":[` + many(1001) + `]}`):                                              "1001 choices are more than the 1000 of strict mode",
		of(`{"type":"string","enum":[` + many(251, strings.Repeat("x", 60)) + `]}`):                      "characters of 251 choices are more than the 15000",
		of(strings.Repeat(`{"type":"array","items":`, 10) + `{"type":"null"}` + strings.Repeat("}", 10)): "11 levels are more than the 10",
	} {
		got, err := mustCompile(t, document).Strict()
		if err == nil || !strings.Contains(err.Error(), want) || got.Text != nil {
			t.Errorf("%s: got %v %s, want %s", document, err, got.Text, want)
		}
	}
}

// many are texts that are all different.
func many(n int, suffix ...string) string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf("%q", fmt.Sprint(i, suffix))
	}
	return strings.Join(texts, ",")
}

// Whether a strict form may be sent is judged by the rules as fakellm reads them.
func TestTheStrictFormsOfTheCorpusKeepThePublishedRules(t *testing.T) {
	t.Parallel()
	strict := 0
	for _, one := range corpus(t) {
		if one.Fault != "" {
			continue
		}
		form, err := mustCompile(t, string(one.Schema)).Strict()
		if err != nil {
			continue
		}
		strict++
		if err := fakellm.CheckStrict(form.Text); err != nil {
			t.Errorf("%s: %v: %s", one.Name, err, form.Text)
		}
	}
	if strict < 25 {
		t.Errorf("%d schemas have a strict form", strict)
	}
}

// Each definition refers to the next twice: who follows each way takes longer than a day.
func TestTheStrictFormOfASchemaThatDoublesIsMadeSoon(t *testing.T) {
	t.Parallel()
	started := time.Now()
	for _, word := range []string{"anyOf", "oneOf"} {
		_, err := mustCompile(t, `{"type":"object","properties":{"a":{"$ref":"#/definitions/0"}},"definitions":`+
			strings.SplitN(doubled(word, 60), `"definitions":`, 2)[1]).Strict()
		if err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("%v", took)
	}
}
