package fakellm_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"spillway/pkg/fakellm"
)

// The rows are of what OpenAI publishes (Structured outputs, "Supported schemas"); the first ones are its own examples.
func TestAStrictSchemaIsHeldAgainstThePublishedRules(t *testing.T) {
	t.Parallel()
	of := func(properties, required string) string {
		return `{"type":"object","properties":{` + properties + `},"required":[` + required + `],"additionalProperties":false}`
	}
	wide := func(n int) string {
		var properties, required []string
		for i := range n {
			properties = append(properties, fmt.Sprintf(`"p%d":{"type":"string"}`, i))
			required = append(required, fmt.Sprintf(`"p%d"`, i))
		}
		return of(strings.Join(properties, ","), strings.Join(required, ","))
	}
	for name, row := range map[string]struct{ schema, want string }{
		"definitions":          {`{"type":"object","properties":{"steps":{"type":"array","items":{"$ref":"#/$defs/step"}}},"$defs":{"step":` + of(`"a":{"type":"string"}`, `"a"`) + `},"required":["steps"],"additionalProperties":false}`, ""},
		"recursion":            {of(`"value":{"type":"number"},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}`, `"value","next"`), ""},
		"forms":                {of(`"item":{"anyOf":[`+of(`"name":{"type":"string"}`, `"name"`)+`,`+of(`"street":{"type":["string","null"]}`, `"street"`)+`]}`, `"item"`), ""},
		"no object":            {`{"type":"array","items":{"type":"string"}}`, `'type: "object"'`},
		"forms at the top":     {`{"type":"object","anyOf":[{"type":"null"}]}`, `'type: "object"'`},
		"an optional property": {of(`"a":{"type":"string"}`, ``), "'required' is required"},
		"another is required":  {of(`"a":{"type":"string"}`, `"b"`), "'required' misses a"},
		"an open object":       {`{"type":"object","properties":{},"required":[]}`, "'additionalProperties'"},
		"a length":             {of(`"a":{"type":"string","minLength":1}`, `"a"`), "'minLength' is not permitted"},
		"oneOf":                {of(`"a":{"oneOf":[{"type":"string"}]}`, `"a"`), "'oneOf' is not permitted"},
		"a default":            {of(`"a":{"type":"string","default":""}`, `"a"`), "'default' is not permitted"},
		"a format":             {of(`"a":{"type":"string","format":"uri"}`, `"a"`), "the format uri is not supported"},
		"a look-ahead":         {of(`"a":{"type":"string","pattern":"^(?=a)"}`, `"a"`), "look-around"},
		"words beside $ref":    {of(`"a":{"$ref":"#","description":"x"}`, `"a"`), "$ref cannot have keywords"},
		"no type":              {of(`"a":{}`, `"a"`), "must have a 'type' key"},
		"no items":             {of(`"a":{"type":"array"}`, `"a"`), "array schema missing items"},
		"elsewhere":            {of(`"a":{"$ref":"#/properties/a"}`, `"a"`), "can not be resolved"},
		"5000 properties":      {wide(5000), ""},
		"5001 properties":      {wide(5001), "5001 properties"},
		"1001 choices":         {of(`"a":{"type":"number","enum":[`+strings.Repeat("1,", 1000)+`2]}`, `"a"`), "1001 enum values"},
		"long names":           {of(`"a":{"type":"string","const":"`+strings.Repeat("x", 120_000)+`"}`, `"a"`), "120001 characters"},
		"deep":                 {of(`"a":`+strings.Repeat(`{"type":"array","items":`, 10)+`{"type":"null"}`+strings.Repeat("}", 10), `"a"`), "11 levels"},
	} {
		err := fakellm.CheckStrict([]byte(row.schema))
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
}

func TestAStrictCallWithASchemaThatIsNotStrictIsRefused(t *testing.T) {
	t.Parallel()
	s, err := fakellm.Start(fakellm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for strict, want := range map[bool]int{true: http.StatusBadRequest, false: http.StatusOK} {
		body := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema","json_schema":{"name":"a","strict":%v,"schema":{"type":"object","properties":{"a":{"type":"string"}}}}}}`, strict)
		answer, err := http.Post(s.URL()+"/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("strict %v: %d, want %d", strict, answer.StatusCode, want)
		}
	}
}

func TestTheSimulatedModelHeedsTheBoundsThatADescriptionTells(t *testing.T) {
	t.Parallel()
	s, err := fakellm.Start(fakellm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	schema := `{"type":"object","properties":{"long":{"type":"string","description":"Much (maxLength: 170, minLength: 160)"},"at":{"type":"string","description":"(format: \\"uri\\")"}},"required":["long","at"],"additionalProperties":false}`
	body := `{"model":"m","messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema","json_schema":{"name":"a","strict":true,"schema":` + strings.ReplaceAll(schema, `\\`, `\`) + `}}}`
	answer, err := http.Post(s.URL()+"/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var whole struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.NewDecoder(answer.Body).Decode(&whole); err != nil || len(whole.Choices) != 1 {
		t.Fatalf("%v %v", answer.Status, err)
	}
	var said struct{ Long, At string }
	if err := json.Unmarshal([]byte(whole.Choices[0].Message.Content), &said); err != nil || len(said.Long) < 160 || len(said.Long) > 170 || !strings.Contains(said.At, "://") {
		t.Errorf("%v: %+v", err, said)
	}
}
