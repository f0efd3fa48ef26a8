package schema_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"spillway/pkg/schema"
)

func TestASchemaSaysWhichPropertiesItNames(t *testing.T) {
	t.Parallel()
	s, err := schema.Compile([]byte(`{
		"type": "object",
		"properties": {
			"kind": {"enum": ["a", "b"], "description": "Which."},
			"a/b": {"type": "string"},
			"mood": {"anyOf": [{"$ref": "#/definitions/mood"}, {"type": "null"}]},
			"free": {"anyOf": [{"$ref": "#/definitions/mood"}, {"type": "string"}]},
			"items": {"type": "array", "items": {"$ref": "#/definitions/item"}},
			"either": {"anyOf": [
				{"type": "object", "properties": {"x": {"const": "1"}}, "required": ["x"]},
				{"type": "object", "properties": {"x": {"const": "2"}, "y": {"type": "null"}}, "required": ["y"]}
			]}
		},
		"required": ["items"],
		"allOf": [{"required": ["kind"], "properties": {"kind": {"type": "string"}}}],
		"definitions": {"mood": {"oneOf": [{"enum": ["good"]}, {"const": "bad"}]}, "item": {
			"type": "object", "required": ["price"],
			"properties": {"price": {"type": "number"}, "more": {"type": "array", "items": {"$ref": "#/definitions/item"}}}
		}}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range s.Properties() {
		got = append(got, fmt.Sprint(p.Path, " ", p.Pointer(), " ", p.At, " ", p.Required, p.Described, " ", p.Choices))
	}
	want := []string{
		"[a/b] /a~1b /properties/a~1b false false []",
		"[either] /either /properties/either false false []",
		"[either x] /either/x /properties/either/anyOf/0/properties/x false false [1 2]",
		"[either y] /either/y /properties/either/anyOf/1/properties/y false false [<nil>]",
		"[free] /free /properties/free false false []",
		"[items] /items /properties/items true false []",
		"[items * more] /items/0/more /definitions/item/properties/more false false []",
		"[items * price] /items/0/price /definitions/item/properties/price true false []",
		"[kind] /kind /properties/kind true true []",
		"[mood] /mood /properties/mood false false [good bad <nil>]",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// Declares and Validate read the compiled schema, Properties the document: they must mean the same.
func TestEachPropertyOfTheCorpusIsDeclared(t *testing.T) {
	t.Parallel()
	properties := 0
	for _, one := range corpus(t) {
		if one.Fault != "" {
			continue
		}
		s := mustCompile(t, string(one.Schema))
		for _, p := range s.Properties() {
			properties++
			if !s.Declares(p.Pointer(), nil) {
				t.Errorf("%s: %s is named at %s, and not declared", one.Name, p.Pointer(), p.At)
			}
		}
	}
	if properties < 100 {
		t.Errorf("%d properties", properties)
	}
}

func TestThePropertiesOfASchemaThatDoublesAreBounded(t *testing.T) {
	t.Parallel()
	definitions := make([]string, 60)
	for i := range definitions {
		next := fmt.Sprintf(`{"$ref":"#/definitions/%d"}`, i+1)
		definitions[i] = fmt.Sprintf(`"%d":{"type":"object","properties":{"a":%s,"b":%s}}`, i, next, next)
	}
	s := mustCompile(t, `{"type":"object","properties":{"x":{"$ref":"#/definitions/0"}},"definitions":{`+strings.Join(definitions, ",")+`,"60":{"type":"string"}}}`)
	started := time.Now()
	if n := len(s.Properties()); n < 1000 || n > 50_000 {
		t.Errorf("%d properties", n)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("%v", took)
	}
}
