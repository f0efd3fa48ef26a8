package partial_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/pkg/partial"
)

func shapeOf(t *testing.T, schema string) *partial.Shape {
	t.Helper()
	document, err := decode([]byte(schema))
	if err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	return partial.ShapeOf(document)
}

// The place is {"v": …}; a string there either grows or is shown whole.
func TestAStringThatIsAChoiceIsShownWhole(t *testing.T) {
	t.Parallel()
	const grows, whole = true, false
	const defs = `"definitions":{"kind":{"enum":["support","sales"]},"free":{"type":"string"},"deep":{"allOf":[{"$ref":"#/definitions/kind"}]},"node":{"type":"object","properties":{"v":{"$ref":"#/definitions/node"},"k":{"const":"k"}}}}`
	for v, want := range map[string]bool{
		`{"type":"string"}`: grows,
		`{"type":"string","minLength":3,"maxLength":500}`: grows,
		`{}`:                         grows,
		`true`:                       grows,
		`{"type":["string","null"]}`: grows,
		`{"anyOf":[{"type":"string"},{"type":"null"}]}`:            grows,
		`{"$ref":"#/definitions/free"}`:                            grows,
		`{"allOf":[{"$ref":"#/definitions/free"}]}`:                grows,
		`{"enum":["support","sales"]}`:                             whole,
		`{"type":"string","const":"support"}`:                      whole,
		`{"type":"string","format":"date"}`:                        whole,
		`{"type":"string","pattern":"^/[a-z]+$"}`:                  whole,
		`{"$ref":"#/definitions/kind"}`:                            whole,
		`{"$ref":"#/definitions/deep"}`:                            whole,
		`{"$ref":"#/definitions/none"}`:                            whole,
		`{"$ref":"other.json"}`:                                    whole,
		`{"allOf":[{"type":"string"},{"enum":["support"]}]}`:       whole,
		`{"anyOf":[{"type":"string"},{"const":"support"}]}`:        whole,
		`{"oneOf":[{"enum":["support"]},{"type":"null"}]}`:         whole,
		`{"not":{"const":"support"}}`:                              whole,
		`{"if":{"const":"a"},"then":{},"else":{}}`:                 whole,
		`{"type":"number"}`:                                        whole,
		`{"anyOf":[{"type":"number"},{"type":"null"}]}`:            whole,
		`{"allOf":[{"type":"string"},{"type":["number","null"]}]}`: whole,
	} {
		for _, document := range []string{
			`{"properties":{"v":` + v + `},` + defs + `}`,
			`{"additionalProperties":` + v + `,` + defs + `}`,
			`{"patternProperties":{"^v$":` + v + `},` + defs + `}`,
			`{"allOf":[{"properties":{"v":` + v + `}}],` + defs + `}`,
			`{"anyOf":[{"type":"null"},{"properties":{"v":` + v + `}}],` + defs + `}`,
			`{"properties":{"x":{}},"dependencies":{"x":{"properties":{"v":` + v + `}}},` + defs + `}`,
		} {
			r := partial.Reader{Shape: shapeOf(t, document)}
			r.Add([]byte(`{"a":1,"\u0076":"sup`))
			got := string(r.Value()) == `{"a":1,"\u0076":"sup"}`
			if !got && string(r.Value()) != `{"a":1}` {
				t.Errorf("%s shows %s", document, r.Value())
			}
			if got != want {
				t.Errorf("%s: grows %t", document, got)
			}
			if r.Add([]byte(`port"`)); string(r.Value()) != `{"a":1,"\u0076":"support"}` {
				t.Errorf("%s shows %s of the whole", document, r.Value())
			}
		}
	}
}

func TestEachPlaceHasItsOwnShape(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ schema, text, want string }{
		{`{"type":"array","items":{"enum":["ab"]}}`, `["a`, `[]`},
		{`{"type":"array","items":{"enum":["ab"]}}`, `["ab","a`, `["ab"]`},
		{`{"type":"array","items":[{"enum":["ab"]},{"type":"string"}],"additionalItems":{"format":"date"}}`, `["ab","fr`, `["ab","fr"]`},
		{`{"type":"array","items":[{"enum":["ab"]},{"type":"string"}],"additionalItems":{"format":"date"}}`, `["ab","free","20`, `["ab","free"]`},
		{`{"type":"array","items":{"type":"string"},"contains":{"const":"ab"}}`, `["a`, `[]`},
		{`{"properties":{"k":{"enum":["ab"]},"o":{"properties":{"k":{"type":"string"}}}}}`, `{"o":{"k":"a`, `{"o":{"k":"a"}}`},
		{`{"properties":{"k":{"enum":["ab"]},"o":{"properties":{"k":{"type":"string"}}}}}`, `{"o":{"k":"a"},"k":"a`, `{"o":{"k":"a"}}`},
		{`{"properties":{"k":{"enum":["ab"]}},"additionalProperties":{"type":"string"}}`, `{"k":"ab","l":"a`, `{"k":"ab","l":"a"}`},
		{`{"properties":{"k":{"type":"string"}},"patternProperties":{"^k":{"enum":["ab"]}}}`, `{"k":"a`, `{}`},
		{`{"properties":{"v":{"enum":[{"k":"ab"}]}}}`, `{"v":{"k":"a`, `{"v":{}}`},
		{`{"properties":{"k":{"enum":["ab","a\u00e9"]},"t":{}}}`, `{"t":"x","k":"a\u00e9","t2":"y`, `{"t":"x","k":"a\u00e9","t2":"y"}`},
		{`{"properties":{"k":{"enum":["ab"]},"t":{}}}`, `{"t":"x","k":"abc","t":"y"}`, `{"t":"x"}`},
		{`{"properties":{"k":{"allOf":[{"$ref":"#/definitions/k"}]}},"definitions":{"k":{"const":"ab"}}}`, `{"t":"x","k":"abc","t":"y"}`, `{"t":"x"}`},
		{`{"properties":{"k":{"anyOf":[{"type":"string"},{"const":"ab"}]}}}`, `{"k":"abc","t":"y"}`, `{"k":"abc","t":"y"}`},
		{`{"items":{"enum":["ab",1]}}`, `["ab",1,"1","ab"]`, `["ab",1]`},
		{`{"properties":{"v":{"const":["ab"]}}}`, `{"v":["a`, `{"v":[]}`},
		// What holds of some items, names or branches is no choice of a part that it may not hold of.
		{`{"properties":{"l":{"contains":{"enum":["a"]}}}}`, `{"l":["b","a"],"z":1}`, `{"l":["b","a"],"z":1}`},
		{`{"properties":{"l":{"items":{"enum":["a"]},"contains":{"enum":["a","b"]}}}}`, `{"l":["b","a"],"z":1}`, `{"l":[]}`},
		{`{"patternProperties":{"^x-":{"enum":["a"]}}}`, `{"note":"hello","z":1}`, `{"note":"hello","z":1}`},
		{`{"patternProperties":{"^x-":{}},"additionalProperties":{"enum":["a"]}}`, `{"x-a":"hello","z":1}`, `{"x-a":"hello","z":1}`},
		{`{"properties":{"k":{"enum":["a"]}},"patternProperties":{"^x-":{"enum":["b"]}}}`, `{"k":"b","z":1}`, `{}`},
		{`{"additionalProperties":{"enum":["a"]}}`, `{"k":"b","z":1}`, `{}`},
		{`{"additionalItems":{"enum":["a"]}}`, `["b",1]`, `["b",1]`},
		{`{"items":[{}],"additionalItems":{"enum":["a"]}}`, `["b","b",1]`, `["b"]`},
		{`{"anyOf":[{"properties":{"k":{"enum":["a"]}}},{"required":["z"]}]}`, `{"k":"b","z":1}`, `{"k":"b","z":1}`},
		{`{"not":{"properties":{"k":{"enum":["a"]}}}}`, `{"k":"b","z":1}`, `{"k":"b","z":1}`},
		{`{"if":{"properties":{"k":{"const":"a"}}},"then":{"required":["z"]}}`, `{"k":"b","z":1}`, `{"k":"b","z":1}`},
		{`{"dependencies":{"z":{"properties":{"k":{"const":"a"}}}}}`, `{"k":"b","y":1}`, `{"k":"b","y":1}`},
		{`{"allOf":[{"properties":{"k":{"enum":["a"]}}},{"$ref":"#/definitions/z"}],"definitions":{"z":{"properties":{"z":{"enum":["c"]}}}}}`, `{"k":"a","z":"d","y":1}`, `{"k":"a"}`},
		{`{"allOf":[{"properties":{"k":{"enum":["a"]}}},{"properties":{"k":{"type":"string"}}}]}`, `{"k":"b","z":1}`, `{}`},
		{
			`{"definitions":{"n":{"properties":{"next":{"$ref":"#/definitions/n"},"k":{"const":"ab"},"t":{"type":"string"}}}},"$ref":"#/definitions/n"}`,
			`{"next":{"next":{"t":"fr","k":"a`, `{"next":{"next":{"t":"fr"}}}`,
		},
		{
			`{"definitions":{"n":{"properties":{"next":{"$ref":"#/definitions/n"},"k":{"const":"ab"},"t":{"type":"string"}}}},"$ref":"#/definitions/n"}`,
			`{"next":{"next":{"k":"ab","t":"fr`, `{"next":{"next":{"k":"ab","t":"fr"}}}`,
		},
	} {
		r := partial.Reader{Shape: shapeOf(t, row.schema)}
		r.Add([]byte(row.text))
		if got := string(r.Value()); got != row.want {
			t.Errorf("%s: %s shows %s, want %s", row.schema, row.text, got, row.want)
		}
	}
}

// However an answer is cut, what stands in a bound place of a draft is what the whole answer has there.
func TestWhereverAnAnswerIsCutItsBoundValuesAreFinal(t *testing.T) {
	t.Parallel()
	const document = `{"properties":{"intent":{"enum":["support","supply"]},"score":{"type":"number"},"at":{"format":"date-time"},"ok":{"type":"boolean"},
		"tags":{"items":{"enum":["a","ab","abc"]}},"text":{"type":"string"},"none":{"type":"null"}}}`
	const answer = "```json\n" + `{"text":"It su\u0070\ud83d\ude00","intent":"supp\u006frt","score":-12.5e2,"at":"2026-11-01T10:00:00Z","ok":true,"tags":["abc","ab"],"none":null}` + "\n```"
	whole := map[string]any{"intent": "support", "score": json.Number("-12.5e2"), "at": "2026-11-01T10:00:00Z", "ok": true, "none": nil}
	shape := shapeOf(t, document)
	texts := map[string]bool{}
	for end := range len(answer) {
		r := partial.Reader{Shape: shape}
		r.Add([]byte(answer[:end+1]))
		if r.Value() == nil {
			continue
		}
		value, err := decode(r.Value())
		if err != nil {
			t.Fatal(err)
		}
		for name, is := range value.(map[string]any) {
			switch name {
			case "text":
				texts[is.(string)] = true
			case "tags":
				if tags := is.([]any); !slices.Equal(tags, []any{"abc", "ab"}[:len(tags)]) {
					t.Errorf("%s shows the tags %v", answer[:end+1], tags)
				}
			default:
				if want, ok := whole[name]; !ok || !reflect.DeepEqual(is, want) {
					t.Errorf("%s shows %v as %s", answer[:end+1], is, name)
				}
			}
		}
	}
	if len(texts) != len("It sup")+2 { // "", each letter, the character behind them
		t.Errorf("the text grew by %d steps: %v", len(texts), texts)
	}
}

// A schema that names many places at once costs no more than is bounded, and shows less.
func TestAHugeSchemaIsReadInBoundedTime(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"definitions":{`)
	for i := range 14 {
		b.WriteString(`"d` + string(rune('a'+i)) + `":{"properties":{"x":{"anyOf":[`)
		for j := range 14 {
			if j != i {
				b.WriteString(`{"$ref":"#/definitions/d` + string(rune('a'+j)) + `"},`)
			}
		}
		b.WriteString(`{"type":"string"}]},"` + string(rune('a'+i)) + `":{"$ref":"#/definitions/d` + string(rune('a'+(i*5+3)%14)) + `"}}},`)
	}
	b.WriteString(`"z":{}},"$ref":"#/definitions/da"}`)
	r := partial.Reader{Shape: shapeOf(t, b.String())}
	r.Add([]byte(`{"x":{"x":"a`))
	if got := string(r.Value()); got != `{"x":{"x":"a"}}` && got != `{"x":{}}` {
		t.Errorf("it shows %s", got)
	}
}

// Of these each level refers to the next twice, or to sets of others.
func TestASchemaOfManyReferencesIsReadInBoundedTime(t *testing.T) {
	t.Parallel()
	const levels = 60
	for _, of := range []string{
		`{"allOf":[%,%]}`, `{"anyOf":[%,%]}`, `{"properties":{"a":%,"b":%}}`, `{"items":%,"contains":%}`, `{"anyOf":[{"properties":{"a":%}},{"properties":{"a":%,"b":%}}]}`,
		`{"oneOf":[{"items":%},%]}`,
	} {
		var b strings.Builder
		b.WriteString(`{"$ref":"#/definitions/0","definitions":{`)
		for i := range levels {
			fmt.Fprintf(&b, `"%d":%s,`, i, strings.ReplaceAll(of, "%", fmt.Sprintf(`{"$ref":"#/definitions/%d"}`, i+1)))
		}
		fmt.Fprintf(&b, `"%d":{"enum":["ab"]}}}`, levels)
		started := time.Now()
		if shapeOf(t, b.String()) == nil {
			t.Errorf("%s: all strings grow", of)
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("%s: %v", of, took)
		}
	}
}
