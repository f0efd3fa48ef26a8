package fakellm_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
	"testing"

	"github.com/xeipuuv/gojsonschema"

	"spillway/pkg/fakellm"
)

// satisfies checks with a validator that shares no code with the simulator.
func satisfies(t *testing.T, schema, document string) bool {
	t.Helper()
	result, err := gojsonschema.Validate(gojsonschema.NewStringLoader(schema), gojsonschema.NewStringLoader(document))
	if err != nil {
		t.Fatalf("%v: %s", err, document)
	}
	for _, e := range result.Errors() {
		t.Logf("%s in %s", e, document)
	}
	return result.Valid()
}

func schemaTable() map[string]string {
	return map[string]string{
		"the routing task":            `{"type":"object","required":["intent","urgency"],"properties":{"intent":{"enum":["exchange","inquiry","support"]},"urgency":{"type":"number","minimum":0,"maximum":1},"suggestedRoute":{"type":"string"}},"additionalProperties":false}`,
		"zod's output":                `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"summary":{"type":"string","minLength":40,"maxLength":60},"sentiment":{"type":"string","enum":["positive","negative"]},"keywords":{"type":"array","items":{"type":"string"},"minItems":3,"maxItems":5}},"required":["summary","sentiment","keywords"],"additionalProperties":false}`,
		"pydantic's references":       `{"$defs":{"Item":{"type":"object","properties":{"sku":{"type":"string","pattern":"^[A-Z]{3}-[0-9]{4}$"},"price":{"type":"number","exclusiveMinimum":0,"multipleOf":0.01}},"required":["sku","price"]}},"type":"object","properties":{"items":{"type":"array","items":{"$ref":"#/$defs/Item"},"minItems":2},"best":{"anyOf":[{"$ref":"#/$defs/Item"},{"type":"null"}]}},"required":["items","best"]}`,
		"draft 4's definitions":       `{"$schema":"http://json-schema.org/draft-04/schema#","definitions":{"share":{"type":"number","minimum":0,"exclusiveMinimum":true,"maximum":0.5,"exclusiveMaximum":true}},"type":"object","properties":{"a":{"$ref":"#/definitions/share"},"b":{"$ref":"#/definitions/share"}},"required":["a","b"]}`,
		"all formats":                 `{"type":"object","required":["a","b","c","d","e","f","g","h","i"],"properties":{"a":{"type":"string","format":"date-time"},"b":{"type":"string","format":"date"},"c":{"type":"string","format":"email"},"d":{"type":"string","format":"uri"},"e":{"type":"string","format":"uuid"},"f":{"type":"string","format":"ipv4"},"g":{"type":"string","format":"ipv6"},"h":{"type":"string","format":"hostname"},"i":{"type":"string","format":"time"}}}`,
		"integers between bounds":     `{"type":"object","required":["a","b","c","d","e"],"properties":{"a":{"type":"integer","minimum":3,"maximum":3},"b":{"type":"integer","exclusiveMinimum":3,"exclusiveMaximum":5},"c":{"type":"integer","multipleOf":7,"minimum":100,"maximum":105},"d":{"type":"integer","maximum":-10},"e":{"type":"integer","minimum":1.5,"maximum":2.5}}}`,
		"numbers between bounds":      `{"type":"object","required":["a","b","c","d","e"],"properties":{"a":{"type":"number","minimum":0.1,"maximum":0.1},"b":{"type":"number","multipleOf":0.1},"c":{"type":"number","exclusiveMinimum":0.3,"exclusiveMaximum":0.30001},"d":{"type":"number","minimum":-90,"maximum":90},"e":{"type":"number","minimum":1000000}}}`,
		"a type or null":              `{"type":"object","required":["a","b"],"properties":{"a":{"type":["string","null"]},"b":{"type":["null"]}}}`,
		"const, and enum of anything": `{"type":"object","required":["kind","level","flag"],"properties":{"kind":{"const":"refund"},"level":{"enum":[1,2,3]},"flag":{"enum":[true,null,{"a":1}]}}}`,
		"allOf":                       `{"allOf":[{"type":"object","properties":{"a":{"type":"integer","minimum":5}},"required":["a"]},{"properties":{"a":{"maximum":6},"b":{"type":"string"}},"required":["b"]}]}`,
		"oneOf, told apart by const":  `{"oneOf":[{"type":"object","properties":{"type":{"const":"card"},"last4":{"type":"string","pattern":"^\\d{4}$"}},"required":["type","last4"],"additionalProperties":false},{"type":"object","properties":{"type":{"const":"iban"},"iban":{"type":"string"}},"required":["type","iban"],"additionalProperties":false}]}`,
		"anyOf whose first can't be":  `{"type":"object","required":["a"],"properties":{"a":{"type":"integer","anyOf":[{"type":"string"},{"minimum":7,"maximum":7}]}}}`,
		"a recursive tree":            `{"definitions":{"node":{"type":"object","properties":{"name":{"type":"string"},"children":{"type":"array","items":{"$ref":"#/definitions/node"}}},"required":["name"],"additionalProperties":false}},"$ref":"#/definitions/node"}`,
		"unique items of an enum":     `{"type":"array","uniqueItems":true,"minItems":2,"maxItems":9,"items":{"enum":["a","b","c"]}}`,
		"a tuple":                     `{"type":"array","items":[{"type":"string"},{"type":"integer"}],"additionalItems":false,"minItems":2}`,
		"a map of numbers":            `{"type":"object","additionalProperties":{"type":"number"},"minProperties":2,"maxProperties":3}`,
		"required, undescribed":       `{"type":"object","required":["a","b"],"minProperties":4}`,
		"few properties":              `{"type":"object","maxProperties":2,"required":["z"],"properties":{"a":{},"b":{},"z":{"type":"boolean"}}}`,
		"short and long strings":      `{"type":"object","required":["a","b","c","d"],"properties":{"a":{"type":"string","maxLength":3},"b":{"type":"string","minLength":24,"maxLength":24},"c":{"type":"string","minLength":300},"d":{"type":"string","minLength":7,"maxLength":7}}}`,
		"patterns":                    `{"type":"object","required":["a","b","c"],"properties":{"a":{"type":"string","pattern":"^(EUR|USD) [1-9][0-9]*\\.[0-9]{2}$"},"b":{"type":"string","pattern":"^[a-z]+$","minLength":12,"maxLength":14},"c":{"type":"string","pattern":"error|warning"}}}`,
		"a string":                    `{"type":"string"}`,
		"allOf of enums and bounds":   `{"type":"object","required":["a","b","c"],"properties":{"a":{"allOf":[{"enum":["x","y","z"]},{"enum":["z","q"]}]},"b":{"allOf":[{"type":"number","minimum":0,"exclusiveMinimum":0.25},{"type":"integer","maximum":9,"exclusiveMaximum":2}]},"c":{"allOf":[{"type":"array","items":{"type":"integer"},"maxItems":4},{"items":{"minimum":9},"minItems":3}]}}}`,
		"references into itself":      `{"type":"object","required":["a","b"],"properties":{"a":{"anyOf":[{"type":"integer"},{"enum":["q/~"]}]},"b":{"$ref":"#/properties/a/anyOf/1"},"c":{"$ref":"#/properties/d~1e"},"d/e":{"type":"null"}}}`,
		"anything":                    `{"type":"object","properties":{"a":{},"b":true,"c":false}}`,
	}
}

func TestAGeneratedAnswerSatisfiesTheSchemaOfTheResponseFormat(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	for name, schema := range schemaTable() {
		t.Run(name, func(t *testing.T) {
			for i := range 40 {
				content := b.content(t, ask(fmt.Sprintf("input %d", i), object{"response_format": formatOf(json.RawMessage(schema))}))
				if !satisfies(t, schema, content) {
					t.Fatalf("input %d: the validator refuses %s", i, content)
				}
			}
		})
	}
}

func TestAnAnswerOffSchemaIsValidJSONThatAnIndependentValidatorRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindOffSchema}}})
	for name, schema := range schemaTable() {
		t.Run(name, func(t *testing.T) {
			content := b.content(t, ask("input", object{"response_format": formatOf(json.RawMessage(schema))}))
			if !json.Valid([]byte(content)) {
				t.Fatalf("not JSON: %s", content)
			}
			if satisfies(t, schema, content) {
				t.Fatalf("the validator takes %s", content)
			}
		})
	}
}

func TestASchemaInTheSystemMessageIsSatisfiedToo(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	schema, err := json.MarshalIndent(routing(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	prompt := "You route customers {not JSON}. An example of an input: {\"message\": \"hi\", \"type\": \"greeting\"}.\n" +
		"Answer with one JSON object that satisfies this schema:\n" + string(schema) + "\nKnown so far: nothing."
	for _, role := range []string{"system", "developer"} {
		content := b.content(t, object{"model": "m", "messages": []object{say(role, prompt), say("user", "hello")}})
		if !satisfies(t, string(schema), content) {
			t.Errorf("%s: the validator refuses %s", role, content)
		}
	}
}

func TestASchemaInAUserMessageIsNoOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	contains(t, "content", b.content(t, ask(`{"type":"object","properties":{}}`, nil)), "This is a simulated answer")
}

func TestASchemaThatIsNoneIsRefusedAsOpenAIDoes(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	r := b.chat(t, ask("hello", object{"response_format": formatOf(object{"type": "obj"})}))
	equal(t, "status", r.status, http.StatusBadRequest)
	contains(t, "body", r.body, "Invalid schema for response_format")
	equal(t, "outcomes", b.Counts().Outcomes[fakellm.OutcomeRejected], 1)
}

func TestTheSameMessagesGetTheSameAnswerAndOthersAnother(t *testing.T) {
	t.Parallel()
	one, other := setup(t, fakellm.Options{Seed: 3}), setup(t, fakellm.Options{Seed: 4})
	body := ask("a card is blocked", object{"response_format": formatOf(numeric())})
	equal(t, "again", one.content(t, body), one.content(t, body))
	if one.content(t, body) == other.content(t, body) {
		t.Error("another seed gives the same answer")
	}
	if one.content(t, body) == one.content(t, ask("a card is lost", object{"response_format": formatOf(numeric())})) {
		t.Error("another input gets the same answer")
	}
}

func TestAnAnswerCarriesTheNonceOfItsInput(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	const input = "Grüße, \"my\" card\nis blocked"
	h := fnv.New64a()
	_, _ = h.Write([]byte(input))
	nonce := fmt.Sprintf("%016x", h.Sum64())
	equal(t, "Nonce", fakellm.Nonce(input), nonce)
	for name, more := range map[string]object{
		"text":        nil,
		"json_object": {"response_format": object{"type": "json_object"}},
		"json_schema": {"response_format": formatOf(routing())},
	} {
		c := b.chat(t, ask(input, more)).completion(t)
		contains(t, name, c.Choices[0].Message.Content, "[nonce:"+nonce+"]")
		contains(t, name+" id", c.ID, "chatcmpl-"+nonce+"-")
	}
	several := object{"type": "object", "properties": object{
		"code":     object{"type": "string", "maxLength": 23},
		"day":      object{"type": "string", "format": "date"},
		"level":    object{"enum": []string{"low", "high"}},
		"summary":  object{"type": "string", "maxLength": 24},
		"keywords": object{"type": "array", "items": object{"type": "string"}},
	}}
	content := b.content(t, ask(input, object{"response_format": formatOf(several)}))
	equal(t, "nonces in "+content, strings.Count(content, "[nonce:"+nonce+"]"), 1)
	c := b.chat(t, ask(input, object{"response_format": formatOf(numeric())})).completion(t)
	contains(t, "id without a string in the schema", c.ID, "chatcmpl-"+nonce+"-")
}

func TestContentInPartsIsReadAsOneText(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	parts := []object{{"type": "text", "text": "my card "}, {"type": "image_url"}, {"type": "text", "text": "is blocked"}}
	content := b.content(t, object{"model": "m", "messages": []object{{"role": "user", "content": parts}}})
	contains(t, "content", content, fakellm.Nonce("my card is blocked"))
}

func TestUsageIsCharactersByFour(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	c := b.chat(t, object{"model": "m", "messages": []object{say("system", "abcd"), say("user", strings.Repeat("ü", 36))}}).completion(t)
	equal(t, "prompt tokens", c.Usage.PromptTokens, 10)
	equal(t, "completion tokens", c.Usage.CompletionTokens, len(c.Choices[0].Message.Content)/4)
	equal(t, "total", c.Usage.TotalTokens, c.Usage.PromptTokens+c.Usage.CompletionTokens)
	b.SetAnswer("m", "")
	equal(t, "tokens of nothing", b.chat(t, ask("", nil)).completion(t).Usage.CompletionTokens, 1)
}

func TestMaxTokensCutAGeneratedAnswerAndNoLiteralOne(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	for _, field := range []string{"max_tokens", "max_completion_tokens"} {
		c := b.chat(t, ask("hello", object{field: 5})).completion(t)
		equal(t, field, c.Choices[0].FinishReason, "length")
		equal(t, field, len(c.Choices[0].Message.Content), 20)
	}
	equal(t, "enough", b.chat(t, ask("hello", object{"max_tokens": 500})).completion(t).Choices[0].FinishReason, "stop")
	b.SetAnswer("", "a literal answer that is longer than one token")
	equal(t, "literal", b.content(t, ask("hello", object{"max_tokens": 1})), "a literal answer that is longer than one token")
}

func TestLiteralAnswersComeInOrderAndTheLastRepeats(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	b.SetAnswer("m", "one", "two {{nonce}}")
	equal(t, "first", b.content(t, ask("x", nil)), "one")
	b.Script("m", fakellm.Fault{Kind: fakellm.KindServerError})
	equal(t, "a call without content", b.chat(t, ask("x", nil)).status, http.StatusInternalServerError)
	for range 2 {
		equal(t, "last", b.content(t, ask("x", nil)), "two "+fakellm.Nonce("x"))
	}
	contains(t, "another model", b.content(t, ask("x", object{"model": "other"})), "simulated")
	b.SetAnswer("m")
	contains(t, "generated again", b.content(t, ask("x", nil)), "simulated")
}
