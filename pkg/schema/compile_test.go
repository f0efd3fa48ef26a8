package schema_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"spillway/pkg/schema"
)

func mustCompile(t testing.TB, document string) *schema.Schema {
	t.Helper()
	compiled, err := schema.Compile([]byte(document))
	if err != nil {
		t.Fatalf("compile %s: %v", document, err)
	}
	return compiled
}

func TestCompileSaysWhatIsWrongWhereAndWhatToWrite(t *testing.T) {
	t.Parallel()
	const pattern = ` (RE2 syntax: no back-references, look-ahead only right behind a leading ^; format may say the same)`
	for document, want := range map[string]string{
		`{"$ref":"file:///etc/passwd"}`:                                                                 `/$ref: the reference "file:///etc/passwd" leads out of the document, and nothing is loaded from elsewhere: copy the schema into "definitions" and refer to "#/definitions/…"`,
		`{"properties":{"a":{"$ref":"other.json#/a"}}}`:                                                 `/properties/a/$ref: the reference "other.json#/a" leads out of the document, and nothing is loaded from elsewhere: copy the schema into "definitions" and refer to "#/definitions/…"`,
		`{"items":{"$id":"https://example.com/a.json"}}`:                                                `/items/$id: the id "https://example.com/a.json" is not local: remove it, references are by pointer (#/definitions/…)`,
		`{"$schema":"http://json-schema.org/draft-04/schema#","items":{"id":"a.json"}}`:                 `/items/id: the id "a.json" is not local: remove it, references are by pointer (#/definitions/…)`,
		`{"$schema":"https://example.com/own"}`:                                                         `/$schema: the dialect "https://example.com/own" is not known: declare http://json-schema.org/draft-07/schema#, or draft-04, draft-06, 2019-09, 2020-12`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"prefixItems":[{}]}}}`: `/properties/a/prefixItems: prefixItems is not checked: declare "$schema": "https://json-schema.org/draft/2020-12/schema", or write items as an array of schemas (and additionalItems for the rest)`,
		`{"prefixItems":[{}],"items":[{}]}`:                                                             `/prefixItems: prefixItems is not checked beside an array of items or additionalItems: items is the schema of the items that follow`,
		`{"prefixItems":{}}`:                                                                            `/prefixItems: must be an array of at least one schema, not {}`,
		`{"prefixItems":[{"type":"strin"}]}`:                                                            `/prefixItems/0/type: must be one of "array", "boolean", "integer", "null", "number", "object", "string", not "strin"`,
		`{"$schema":"https://json-schema.org/draft/2020-12/schema","additionalItems":false}`:            `/additionalItems: additionalItems is not checked in 2020-12: write prefixItems and items, or remove it`,
		`{"dependentRequired":{"a":"b"}}`:                                                               `/dependentRequired: must be an object of arrays of names, not {"a":"b"}`,
		`{"anyOf":[{}],"unevaluatedItems":false}`:                                                       `/unevaluatedItems: unevaluatedItems is not checked beside $ref, forms, conditions or contains: write prefixItems and items: false`,
		`{"type":"string","format":"jwt"}`:                                                              `/format: the format "jwt" is not checked: write a pattern beside it, or remove it`,
		`{"pattern":"^(?=a)b|c"}`:                                                                       `/pattern: the pattern "^(?=a)b|c" can not be used: the look-ahead holds for one alternative only` + pattern,
		`{"pattern":"^(?=a)?b"}`:                                                                        "/pattern: the pattern \"^(?=a)?b\" can not be used: invalid or unsupported Perl syntax: `(?=`" + pattern,
		`{"extends":{}}`:                                                                                `/extends: extends is not checked: write allOf`,
		`{"$schema":"https://json-schema.org/draft/2019-09/schema","allOf":[{}],"unevaluatedProperties":false}`: `/unevaluatedProperties: unevaluatedProperties is not checked beside $ref, forms, conditions or contains: name all properties in one place and write additionalProperties: false there`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","$defs":{"a":{"dependentRequired":{"x":["y"]}}}}`: `/$defs/a/dependentRequired: dependentRequired is not checked: write dependencies`,
		`{"$schema":"https://json-schema.org/draft/2020-12/schema","items":[{}]}`:                               `/items: items is one schema in 2020-12: declare "$schema": "http://json-schema.org/draft-07/schema#" to give each position its own`,
		`{"contains":{},"minContains":2}`:                                                                                                          `/minContains: minContains is not checked: remove it: contains alone means at least one; or check it by a rule in task.yaml`,
		`{"$schema":"http://json-schema.org/draft-04/schema#","const":1}`:                                                                          `/const: const is not checked in draft-04: declare "$schema": "http://json-schema.org/draft-07/schema#"`,
		`{"$schema":"http://json-schema.org/draft-06/schema#","if":{}}`:                                                                            `/if: if is not checked in draft-06: declare "$schema": "http://json-schema.org/draft-07/schema#"`,
		`{"properties":{"a":{"enum":["x"],"type":"string","nullable":true}}}`:                                                                      `/properties/a/nullable: nullable is not checked without a type, beside const, or beside an enum without null: write "type": ["string", "null"], or anyOf with {"type": "null"}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"type":"string","nullable":true}}}`:                               `/properties/a/nullable: nullable is not checked: write "type": ["string", "null"], or anyOf with {"type": "null"}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a":{}},"properties":{"a":{"$ref":"#/definitions/a","minLength":1}}}`: `/properties/a/minLength: minLength is not checked beside $ref in draft-07: write "allOf": [{"$ref": …}] instead of $ref`,
		`{"properties":{"a":{"minLenght":3}}}`:                                                                                                     `/properties/a/minLenght: minLenght is not a keyword: did you mean minLength?`,
		`{"requierd":["a"]}`:                                                                                                                       `/requierd: requierd is not a keyword: did you mean required?`,
		`{"properties":{"a":{"type":"strin"}}}`:                                                                                                    `/properties/a/type: must be one of "array", "boolean", "integer", "null", "number", "object", "string", not "strin"`,
		`{"$defs":{"a":{"type":"strin"}}}`:                                                                                                         `/$defs/a/type: must be one of "array", "boolean", "integer", "null", "number", "object", "string", not "strin"`,
		`{"required":"a"}`:                                                                                                                         `/required: must be an array, not "a"`,
		`{"minimum":"1"}`:                                                                                                                          `/minimum: must be a number, not "1"`,
		`{"exclusiveMinimum":true,"minimum":1}`:                                                                                                    `/exclusiveMinimum: must be a number, not true: write "exclusiveMinimum": 1 and leave minimum out, or declare "$schema": "http://json-schema.org/draft-04/schema#"`,
		`{"properties":{"a":{"pattern":"y(?!x)"}}}`:                                                                                                `/properties/a/pattern: the pattern "y(?!x)" can not be used: invalid or unsupported Perl syntax: ` + "`(?!`" + pattern,
		`{"patternProperties":{"(":{}}}`:                                                                                                           `/patternProperties/(: the pattern "(" can not be used: missing closing ): ` + "`(`" + pattern,
		`{"properties":{"a":{"$ref":"#/definitions/b"}}}`:                                                                                          `/properties/a/$ref: the reference "#/definitions/b" leads nowhere`,
		`{"properties":{"a":7}}`:                                                                                                                   `/properties/a: a schema must be an object, not 7`,
		`[]`:                                                                                                                                       `a schema must be an object, not []`,
		`{"type":"object"`:                                                                                                                         `the text ends before the JSON value does (at byte 16)`,
		`{"minLength":5,"maxLength":1}`:                                                                                                            `minLength cannot be greater than maxLength`,
	} {
		_, err := schema.Compile([]byte(document))
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", document, err, want)
		}
	}
}

func TestCompileReportsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := schema.Compile([]byte(`{"properties":{"a":{"pattern":"("},"b":{"$ref":"http://x/"},"c":{"prefixItems":[]}}}`))
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("got %v, want three faults", err)
	}
}

// A stack overflow ends the process: no recover() helps, so these must never be compiled.
func TestASchemaThatNeverEndsIsRefused(t *testing.T) {
	t.Parallel()
	for _, document := range []string{
		`{"$ref":"#"}`,
		`{"allOf":[{"$ref":"#"}]}`,
		`{"definitions":{"a":{"$ref":"#/definitions/b"},"b":{"$ref":"#/definitions/a"}},"$ref":"#/definitions/a"}`,
		`{"definitions":{"a":{"anyOf":[{"type":"string"},{"oneOf":[{"$ref":"#/definitions/a"}]}]}},"properties":{"x":{"$ref":"#/definitions/a"}}}`,
		`{"not":{"$ref":"#"}}`, `{"if":{"$ref":"#"}}`, `{"then":{"$ref":"#"},"if":true}`, `{"else":{"$ref":"#"},"if":false}`,
		`{"dependencies":{"a":{"$ref":"#"}}}`,
		`{"x-own":{"a":{"allOf":[{"$ref":"#/x-own/a"}]}},"items":{"$ref":"#/x-own/a"}}`,
		`{"$defs":{"a%":{"$ref":"#/$defs/a%25"}},"items":{"$ref":"#/$defs/a%25"}}`,
		`{"definitions":{"a":{"$id":"#a","allOf":[{"$ref":"#a"}]}},"items":{"$ref":"#/definitions/a"}}`,
	} {
		_, err := schema.Compile([]byte(document))
		if err == nil || !strings.Contains(err.Error(), "checking would never end") {
			t.Errorf("%s: got %v", document, err)
		}
	}
}

func TestASchemaMayBeRecursiveOverPartsOfTheValue(t *testing.T) {
	t.Parallel()
	compiled := mustCompile(t, `{"type":"object","required":["name"],"properties":{"name":{"type":"string"},
		"children":{"type":"array","items":{"$ref":"#"}}},"additionalProperties":false}`)
	value, _ := schema.Decode([]byte(`{"name":"a","children":[{"name":"b","children":[{"nome":"c"}]}]}`))
	var pointers []string
	for _, v := range compiled.Validate(value) {
		pointers = append(pointers, v.Pointer)
	}
	if got := strings.Join(pointers, " "); got != "/children/0/children/0/name /children/0/children/0/nome" {
		t.Errorf("got %s", got)
	}
}

func TestNothingIsEverLoadedFromElsewhere(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte(`{"type":"string"}`))
	}))
	defer server.Close()
	secret := filepath.Join(t.TempDir(), "secret.json")
	if err := os.WriteFile(secret, []byte(`{"type":"string"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{server.URL + "/a.json", server.URL + "/a.json#/definitions/x", "//" + server.Listener.Addr().String() + "/a.json", "file://" + secret, secret} {
		quoted, _ := json.Marshal(target)
		for _, frame := range []string{
			`{"$ref":%}`, `{"properties":{"a":{"$ref":%}}}`, `{"$id":%,"properties":{"a":{"$ref":"#/definitions/x"}}}`, `{"id":%,"$ref":"a.json"}`,
			`{"$schema":%}`, `{"definitions":{"a":{"$id":%}},"items":{"$ref":"x.json"}}`, `{"allOf":[{"anyOf":[{"not":{"$ref":%}}]}]}`,
			`{"x-own":{"$ref":%},"items":{"$ref":"#/x-own"}}`, `{"$defs":{"a":{"$ref":%}},"items":{"$ref":"#/$defs/a"}}`,
			`{"dependencies":{"a":{"$ref":%}}}`, `{"items":[{"$ref":%}]}`, `{"$schema":"http://json-schema.org/draft-04/schema#","id":%,"items":{"$ref":"b.json"}}`,
		} {
			document := strings.ReplaceAll(frame, "%", string(quoted))
			if _, err := schema.Compile([]byte(document)); err == nil {
				t.Errorf("%s was compiled", document)
			}
		}
		// What only looks like a reference is data.
		document := strings.ReplaceAll(`{"default":{"$ref":%},"enum":[{"$ref":%}],"properties":{"$ref":{"const":%}}}`, "%", string(quoted))
		if _, err := schema.Compile([]byte(document)); err != nil {
			t.Errorf("%s: %v", document, err)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestSourceIsTheCompactedText(t *testing.T) {
	t.Parallel()
	compiled := mustCompile(t, "{\n \"title\": \"ä <b>\",  \"$defs\": {\"a\": {}},\n\t\"items\": {\"$ref\": \"#/$defs/a\"} }")
	if got, want := string(compiled.Source()), `{"title":"ä <b>","$defs":{"a":{}},"items":{"$ref":"#/$defs/a"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
