package validator

import (
	"strings"
	"testing"
)

// What the forms of an answer have in common with one another is for nobody to choose: of two answers none is taken.
func TestOfTwoFormsThatAnAnswerMayHaveNoneIsChosen(t *testing.T) {
	t.Parallel()
	closed := `"additionalProperties":false`
	const verdict = `{"type":"object","required":["reason"],"properties":{"reason":{"type":"string"},"note":{"type":"string"}},"additionalProperties":false}`
	either := `{"type":"object","required":["approve"],"properties":{"approve":` + verdict + `},` + closed + `},
		{"type":"object","required":["reject"],"properties":{"reject":` + verdict + `},` + closed + `}`
	kinds := `{"type":"object","required":["kind","amount"],"properties":{"kind":{"const":"refund"},"amount":{"type":"number"}},` + closed + `},
		{"type":"object","required":["kind"],"properties":{"kind":{"type":"string"}},` + closed + `}`
	told := `{"type":"object","required":["kind","amount"],"properties":{"kind":{"const":"refund"},"amount":{"type":"number"},"note":{"type":"string"}},` + closed + `},
		{"type":"object","required":["kind"],"properties":{"kind":{"const":"reply"},"text":{"type":"string"}},` + closed + `}`
	optional := `{"$ref":"#/definitions/v"},{"type":"null"}`
	for _, row := range []struct{ name, schema, answer, output string }{
		{"both forms", `{"oneOf":[` + either + `]}`, `{"reject":{"reason":"a"},"approve":{"reason":"b"}}`, ""},
		{"both forms, anyOf", `{"anyOf":[` + either + `]}`, `{"reject":{"reason":"a"},"approve":{"reason":"b"}}`, ""},
		{"one form and half of the other", `{"anyOf":[` + either + `]}`, `{"reject":{"reason":"a"},"approve":{}}`, ""},
		{"one form and a null for the other", `{"oneOf":[` + either + `]}`, `{"reject":null,"approve":{"reason":"b"}}`, ""},
		{"one form and a name that none knows", `{"oneOf":[` + either + `]}`, `{"approve":{"reason":"b"},"extra":1}`, ""},
		{"a null that the form requires", `{"anyOf":[` + kinds + `]}`, `{"kind":"refund","amount":null}`, ""},
		{"a number in quotes", `{"anyOf":[{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"string"}},"required":["b"]},{"type":"object","properties":{"a":{"type":"boolean"}},"required":["c"]}]}`, `{"a":"1","b":"x"}`, ""},
		{"a null of a form that is told apart", `{"oneOf":[` + told + `]}`, `{"kind":"refund","amount":1,"note":null}`, `{"kind":"refund","amount":1}`},
		{"a name that none knows, told apart", `{"oneOf":[` + told + `]}`, `{"kind":"refund","amount":1,"extra":1}`, `{"kind":"refund","amount":1}`},
		{"a name of the other form, told apart", `{"oneOf":[` + told + `]}`, `{"kind":"refund","amount":1,"text":"a"}`, ""},
		{"an optional object", `{"properties":{"v":{"anyOf":[` + optional + `]}},"definitions":{"v":` + verdict + `}}`, `{"v":{"reason":"a","note":null,"extra":1}}`, `{"v":{"reason":"a"}}`},
		{"a part that another demand knows", `{"allOf":[{"properties":{"a":{}},` + closed + `},{"properties":{"b":{}}}]}`, `{"a":1,"b":2}`, ""},
		{"a part that another demand requires", `{"properties":{"a":{}},` + closed + `,"if":{"required":["b"]},"then":false}`, `{"a":1,"b":2}`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			tk := taskOf(t, row.schema)
			tk.Output.AdditionalProperties, tk.Output.OptionalNull, tk.Output.Coerce = drop, drop, true
			v := judged(t, tk, row.answer)
			switch {
			case row.output == "" && (v.Outcome != Invalid || v.Output != nil):
				t.Errorf("%s: %s, %q", v.Outcome, v.Output, v.Notes)
			case row.output != "" && (v.Outcome != Valid || !same(t, v.Output, row.output)):
				t.Errorf("%s: %s, %v", v.Outcome, v.Output, v.Faults)
			}
		})
	}
}

func TestANameThatSaysSomethingOfTheAnswerIsNotDropped(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	tk.Output.AdditionalProperties = drop
	for member, isDropped := range map[string]bool{
		`"reasoning":"the customer asks"`: true, `"x":1`: true, `"language":"en"`: true, `"steps":["one"]`: true,
		`"reasoning":"` + strings.Repeat("It is not a matter of opinion. ", 5) + `"`: true,
		`"Urgency":0.1`: false, `"suggested_route":"/a"`: false, `"suggested-route":"/a"`: false, `"IN TENT":"sales"`: false, `"urgency_":1`: false,
		`"error":"the text is empty"`: false, `"draft":true`: false, `"is_example":true`: false, `"isExample":true`: false, `"previousIntent":"sales"`: false,
		`"status":"draft"`: false, `"note":"this is only an example"`: false, `"invalid":false`: false,
		`"alternative":{"intent":"inquiry","urgency":0.2}`: false, `"others":[{"Intent":"inquiry"}]`: false, `"deep":{"a":[{"b":{"urgency":0.2}}]}`: false,
		`"meta":{"is_example":true}`: false, `"meta":{"status":["draft"]}`: false, `"meta":{"model":"x","n":[1]}`: true, `"why":{"intent":"he asks","urgency":null}`: true,
		`"valid":false`: false, `"isValid":false`: false, `"success":false`: false, `"success":true`: true, `"escalate":false`: true, `"error":null`: true, `"Urgency":null`: false,
	} {
		v := judged(t, tk, `{"intent":"support","urgency":0.9,`+member+`}`)
		if want := `{"intent":"support","urgency":0.9}`; isDropped != (v.Outcome == Valid) || isDropped && !same(t, v.Output, want) {
			t.Errorf("%s: %s, %s", member, v.Outcome, v.Output)
		}
	}
}

func TestANullOfAPropertyThatTheSchemaDoesNotKnowIsNoOptionalNull(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		`{"intent":"support","urgency":0.9,"Urgency":null}`, `{"intent":"support","urgency":0.9,"x":null}`, `{'intent':'support','urgency':0.9,'x':null}`,
	} {
		if v := judged(t, taskOf(t, onboarding), answer); v.Outcome != Invalid || v.Faults[0].Rule != additional {
			t.Errorf("%s: %s, %v", answer, v.Outcome, v.Faults)
		}
	}
}

// Each pass uncovers one name more, for the schema looks at a name once the one before is gone.
func TestOnlySoManyPassesOfChangesAreMade(t *testing.T) {
	t.Parallel()
	for layers, want := range map[int]string{1: Valid, maxPasses: Valid, maxPasses + 1: Invalid} {
		rest := "{}"
		for i := layers; i > 0; i-- {
			next := string(rune('a' + i))
			rest = `{"if":{"properties":{"` + next + `":{"type":"integer"}}},"then":` + rest + `,"else":{"properties":{"` + next + `":{"type":"integer"}}}}`
		}
		tk := taskOf(t, rest)
		tk.Output.Coerce = true
		v := judged(t, tk, `{"b":"1","c":"1","d":"1","e":"1","f":"1"}`)
		if v.Outcome != want {
			t.Errorf("%d layers: %s, %s, %v", layers, v.Outcome, v.Output, v.Faults)
		}
	}
}
