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
		"unequal behind":                     good + "!= x",
		"a sign of inequality behind":        good + "!=",
		"a negation with a colon":            "NOT: " + good,
		"a negation by a sign":               "!" + good,
		"a negation by a call":               "[not the answer] " + good,
		"a cross before it":                  "❌ " + good,
		"a comment before it":                "// " + good,
		"a comment of a shell before it":     "# was: " + good,
		"a comment of SQL before it":         "-- " + good,
		"a comment around it":                "/*\n" + good + "\n*/",
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
		"a question before it":               "Is this right?\n" + good,
		"an exclamation on its own line":     "!\n" + good,
		"a condition before an announcement": "Once the text is there.\nHere is the result:\n" + good,
		"an announcement of an example":      "Here is an example of the JSON:\n" + good,
		"an announcement of a format":        "Here is the format:\n" + good,
		"an announcement of something old":   "My previous answer:\n" + good,
		"the input said again":               "Input: " + good,
		"a message of a user":                "<|user|>\n" + good,
		"the name of a fence":                "```example\n" + good + "\n```",
		"a name that takes it back":          "wrongAnswer = " + good,
		"a name that is no answer's":         "ticket = " + good,
		"an input by name":                   "const inputData = " + good,
		"a call that takes it back":          "rejectedAnswer(" + good + ")",
		"a header that takes it back":        "[[ ## previous_answer ## ]]\n" + good,
		"a long line of announcements":       strings.Repeat("sure, ", maxLine) + "\n" + good,
		"a long text of announcements":       strings.Repeat("Here is the JSON:\n", maxFront/10) + good,
		"a long text of marks behind":        good + strings.Repeat("</s>", maxBehind),
		"an object that takes it back":       `{"note":"an example"} ` + good,
		"an object with another choice":      `{"note":"perhaps an inquiry"} ` + good,
		"an object with another number":      `{"by":0.3} ` + good,
		"a call and its result":              "print(" + good + ")\nNone",
		"an offer that doubts":               good + "\nWould you like me to correct the urgency?",
		"a word before it on its line":       "I will not say " + good,
		"a word and a quote before it":       "I will not say `" + good + "`",
		"a digit before it":                  "Option 1 " + good,
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
		"a courtesy":                     good + "\n\nPlease let me know if you need anything else!",
		"a courtesy in German":           good + "\nMelden Sie sich gerne bei Rückfragen.",
		"two courtesies":                 good + "\nHope this helps! Feel free to ask if you have any questions.",
		"brackets, signs and marks":      "(`" + good + "`) }; </code></pre></s>[EOS]<|im_end|>",
		"its own choice before it":       `{"note":"a support matter"} ` + good,
		"its own number before it":       `{"by":0.90} ` + good,
		"whole numbers before it":        `{"tickets":12,"year":2026,"nr":3} ` + good,
		"a version before it":            `{"router":"1.2.3"} ` + good,
		"a choice within another word":   `{"log":"inquiry_log"} ` + good,
		"its properties in plain words":  `{"note":"the intent is clear, and so is the urgency"} ` + good,
		"an announcement":                "Certainly! Here is the JSON you asked for:\n\n" + good,
		"an announcement without a stop": "Here is the final answer\n" + good,
		"an announcement after thanks":   "Thanks for your message. Based on the message, here's the classification:\n" + good,
		"an announcement in bold":        "**Final answer:** " + good,
		"an announcement as a heading":   "### Result\n---\n" + good,
		"an announcement as a point":     "1. The decision:\n" + good,
		"an announcement in a quotation": "> Here you go:\n> " + good,
		"an announcement in German":      "Gerne! Hier ist das gewünschte Ergebnis:\n" + good,
		"an announcement in French":      "Bien sûr ! Voici le résultat demandé :\n" + good,
		"an announcement in Spanish":     "¡Claro! Aquí tienes el JSON:\n" + good,
		"an announcement in Chinese":     "好的，以下是分析结果：\n" + good,
		"an announcement in Arabic":      "إليك النتيجة:\n" + good,
		"an apology for an earlier one":  "I apologize for the confusion. Here is the corrected JSON:\n" + good,
		"the input said again before it": `Input: {"message":"My card"}` + "\nOutput: " + good,
		"a call of a tool":               "<tool_call>\n" + good + "\n</tool_call>",
		"a function":                     "<function=route>\n" + good + "</function>",
		"a token of Python":              "<|python_tag|>" + good,
		"a list of calls":                "[TOOL_CALLS] " + good,
		"a return":                       "return " + good + ";",
		"a call":                         "route(" + good + ");",
		"a turn of a model":              "<|start_header_id|>assistant<|end_header_id|>\n" + good,
		"a comma behind":                 good + ",",
		"a comma between":                good + ",\n" + good,
		"brackets behind":                good + "}]}",
		"NUL behind":                     good + "\x00",
		"blanks of any length around":    "Result:" + strings.Repeat(" \n", maxFront) + good + strings.Repeat("\n", 2*maxBehind),
		"an offer about something else":  good + "\nWould you like me to analyze another message?",
		"the name of a language":         "```python " + good + "```",
		"a prefix of Python":             "b'" + good + "'",
		"a bullet":                       " - " + good,
		"a bracket that is a sign":       "(\n```\n" + good + "\n```",
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
		`{"anyOf":[{"required":["k"]},{"required":["l"]}]}`:                                 "[[k] [l]]",
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

func TestASchemaIsSearchedForItsWordsOnlySoDeep(t *testing.T) {
	t.Parallel()
	for depth, want := range map[int]string{1: "[[z]]", 8: "[[z]]", 9: "[]"} {
		source := strings.Repeat(`{"allOf":[`, depth) + `{"required":["z"]}` + strings.Repeat("]}", depth)
		if got := fmt.Sprint(vocabularyOf(compile(t, source)).names); got != want {
			t.Errorf("%d deep: %s, want %s", depth, got, want)
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
		{`1E300`, `1e300`, true},
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
