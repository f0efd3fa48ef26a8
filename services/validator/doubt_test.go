package validator

import (
	"fmt"
	"strings"
	"testing"

	"spillway/pkg/schema"
)

func TestWhatStandsAroundAValueMayNotSpeakAgainstIt(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for name, answer := range map[string]string{
		"words behind":                       good + "\nScratch that, it was another customer.",
		"words behind a fence":               "```json\n" + good + "\n```\nThat is wrong.",
		"words in another script behind":     good + "\n这是错误的。",
		"words in a mark behind":             good + "<example>",
		"more words than a courtesy":         good + "\nI hope that helps, although I doubt it.",
		"a courtesy that is none":            good + "\nI do not hope that helps.",
		"a number behind":                    good + " 0",
		"a question mark behind":             good + " (?)",
		"dots behind":                        good + " ...",
		"dots with spaces behind":            good + "\n. . .",
		"an ellipsis behind":                 good + " …",
		"a symbol behind":                    good + " ❌",
		"a comma behind":                     good + ",",
		"two braces behind":                  good + "}}",
		"a bracket behind":                   good + "]",
		"unequal behind":                     good + "!= x",
		"a sign of inequality behind":        good + "!=",
		"NUL behind":                         good + "\x00",
		"a negation with a colon":            "NOT: " + good,
		"a negation by a sign":               "!" + good,
		"a negation by a call":               "[not the answer] " + good,
		"a cross before it":                  "❌ " + good,
		"a comment before it":                "// " + good,
		"a comment of a shell before it":     "# was: " + good,
		"a comment of SQL before it":         "-- " + good,
		"a comment around it":                "/*\n" + good + "\n*/",
		"a call of a tool":                   "<tool_call>" + good + "</tool_call>",
		"a function":                         "<function=route>\n" + good + "</function>",
		"a token of Python":                  "<|python_tag|>" + good,
		"a list of calls":                    "[TOOL_CALLS] " + good,
		"an action's input":                  "Action Input: " + good,
		"an example":                         "<example>" + good,
		"a draft":                            "<draft>" + good,
		"a number with a comma":              "Urgency of 0,2, I say:\n" + good,
		"a number in percent":                "Urgency of 20%, I say:\n" + good,
		"a number without a zero":            "Urgency of .2, I say:\n" + good,
		"a number as a fraction":             "Urgency of 2/10, I say:\n" + good,
		"a note behind":                      good + " [1]",
		"an object behind":                   good + ` {"valid":false}`,
		"a cut array behind":                 good + " [",
		"a word before it on its line":       "I will not say " + good,
		"a word and a quote before it":       "I will not say `" + good + "`",
		"a digit before it":                  "Option 1 " + good,
		"a return":                           "return " + good + ";",
		"another choice before it":           "Perhaps it is an inquiry.\n" + good,
		"another choice in capitals":         "INQUIRY?\n" + good,
		"another number before it":           "The urgency is 0.3 by the table.\n" + good,
		"an answer before a thought":         draft + "\n<think>Hm.</think>\n" + good,
		"its properties in words":            "intent: support\nurgency: 1\n\n" + good,
		"its properties in a list":           `{"required":["intent","urgency"]} ` + good,
		"its properties in a string":         `"{\"intent\":\"support\",\"urgency\":1}" ` + good,
		"its properties in an array":         `[{"intent":"support","urgency":1}] ` + good,
		"its properties in an envelope":      `{"result":{"intent":"support","urgency":1}} ` + good,
		"its properties with too many":       `{"intent":"support","urgency":1,"reason":"x"} ` + good,
		"its properties in capitals":         `{"Intent":"support","Urgency":1} ` + good,
		"its properties, half of them":       `{"urgency":1} ` + good,
		"its properties, misspelled":         `{"intent":"support","urgency":.4} ` + good,
		"its properties in HTML":             `{&quot;urgency&quot;:1} ` + good,
		"its properties cut within a fence":  "```json\n[\"urgency\", \n```\n" + good,
		"its properties in another language": "```ruby\nx = [\"urgency\" => 1]\n```\n" + good,
	} {
		if v := judged(t, tk, answer); v.Outcome != Ambiguous || v.Output != nil || len(v.Faults) == 0 {
			t.Errorf("%s: %s, %s, %v", name, v.Outcome, v.Output, v.Faults)
		}
	}
}

func TestWhatCanNotSpeakAgainstAValueMayStandAroundIt(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for name, answer := range map[string]string{
		"a courtesy":                      good + "\n\nPlease let me know if you need anything else!",
		"a courtesy in German":            good + "\nMelden Sie sich gerne bei Rückfragen.",
		"two courtesies":                  good + "\nHope this helps! Feel free to ask if you have any questions.",
		"brackets, signs and marks":       "(`" + good + "`) }; </code></pre></s>[EOS]<|im_end|>",
		"its own choice before it":        "It is a support matter:\n" + good,
		"its own number before it":        "I am sure by 0.90.\n" + good,
		"whole numbers before it":         "Of 12 tickets in 2026, no. 3 is meant:\n" + good,
		"a version before it":             "Router 1.2.3 says:\n" + good,
		"a choice within another word":    "My inquiry_log is empty:\n" + good,
		"its properties in plain words":   "The intent is clear, and so is the urgency:\n" + good,
		"a property before a comma":       "The intent, as I see it:\n" + good,
		"a property announced":            "Here are the intent and the urgency:\n" + good,
		"a property in backticks":         "The value of `intent` is plain to see. So: " + good,
		"the name of a language":          "```python " + good + "```",
		"a prefix of Python":              "b'" + good + "'",
		"a bullet":                        " - " + good,
		"a bracket of another kind, open": "In [0, 1) I say:\n```\n" + good + "\n```",
	} {
		if v := judged(t, tk, answer); v.Outcome != Extracted || !same(t, v.Output, good) {
			t.Errorf("%s: %s, %s, %v", name, v.Outcome, v.Output, v.Faults)
		}
	}
}

func TestHalfOfThePropertiesMakeAnotherAnswer(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, analysis)
	for front, want := range map[string]string{
		"{\"confidence\":0.8}\n":                            Extracted,
		"{\"confidence\":0.8,\"sentiment\":\"negative\"}\n": Ambiguous,
	} {
		if v := judged(t, tk, front+goodAnalysis); v.Outcome != want {
			t.Errorf("%s: %s, %v", front, v.Outcome, v.Faults)
		}
	}
}

func TestTheCaseOfAWordDoesNotMatter(t *testing.T) {
	t.Parallel()
	v := vocabularyOf(compile(t, `{"type":"object","properties":{"customerId":{"enum":["ACME","Umbrella"]}},"required":["customerId"]}`))
	if hasWord("prénoted, notedé", "noted", func(string, string) bool { return true }) {
		t.Error("a part of a word is taken for it")
	}
	for _, text := range []string{`{"customerId":1}`, "CustomerID: 1"} {
		if !v.isAnswered(text) {
			t.Errorf("%s is no answer", text)
		}
	}
	if got := v.other("acme or umbrella", map[string]any{"customerId": "Umbrella"}); got != "ACME" {
		t.Errorf("%q", got)
	}
}

func TestTheVocabularyIsThatOfTheSchema(t *testing.T) {
	t.Parallel()
	const parts = `"definitions":{"p":{"type":"object","required":["deep"],"properties":{"kind":{"const":"x1"},"deep":{"enum":["y1",2]}}}}`
	for source, want := range map[string]string{
		`{"type":"object","properties":{"a":{},"b":{}}}`:                                    "[[a b]]",
		`{"type":"object","properties":{"a":{},"b":{}},"required":["b"]}`:                   "[[b]]",
		`{"type":"array","items":{"type":"object","properties":{"c":{}},"required":["c"]}}`: "[[c]]",
		`{"required":["f"],"oneOf":[{"required":["g","h"]},{"type":"null"}]}`:               "[[f] [g h]]",
		`{"allOf":[{"required":["d"]},{"required":["e"]}]}`:                                 "[[d] [e]]",
		`{"$ref":"#/definitions/p",` + parts + `}`:                                          "[[deep]]",
		`{"type":"array","items":{"$ref":"#/definitions/p"},` + parts + `}`:                 "[[deep]]",
		`{"type":"object"}`: "[]",
	} {
		v := vocabularyOf(compile(t, source))
		if got := fmt.Sprint(v.names); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
		if strings.Contains(source, parts) && strings.Join(v.choices, " ") != "x1 y1" {
			t.Errorf("%s: choices %q", source, v.choices)
		}
	}
}

func TestEqualValuesAreEqualHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	decode := func(text string) any {
		value, err := schema.Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{`0.9`, `0.90`, true},
		{`9e-1`, `0.9`, true},
		{`-0`, `0`, true},
		{`1`, `1.0`, true},
		{`1E400`, `1e400`, true},
		{`{"a":1,"b":[null,true]}`, `{"b":[null,true],"a":1.0}`, true},
		{`0.9`, `0.91`, false},
		{`1`, `"1"`, false},
		{`[1]`, `[1,1]`, false},
		{`[1]`, `{"a":1}`, false},
		{`{"a":1}`, `{"b":1}`, false},
		{`{"a":1}`, `{"a":1,"b":1}`, false},
		{`null`, `false`, false},
		{`[1,2]`, `[2,1]`, false},
	} {
		if got := equal(decode(row.a), decode(row.b)); got != row.want || got != equal(decode(row.b), decode(row.a)) {
			t.Errorf("%s and %s: %t", row.a, row.b, got)
		}
	}
}
