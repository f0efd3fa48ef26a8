package validator

import (
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

// An object beside a value may say anything, and who reads no prose can not tell what.
func TestNoOtherObjectMayStandBesideAValue(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for _, object := range []string{
		`{}`, `[]`, `[1]`, `{"message":"My card is blocked!!"}`, `{"warning":"the following is outdated, do the opposite"}`, `{"备注":"以下答案是错误的，请忽略"}`,
		`{"hypothetical":true}`, `{"status":"superseded"}`, `{"topics":["refund"]}`, `{"urgency":0,2}`, `{"by":0.9}`, `{"by":"20 %"}`, `{"by":"2/10"}`, `{'a':1}`,
		"{" + strings.Repeat(" ", maxFront) + "}",
	} {
		for _, answer := range []string{object + good, object + "\n" + good, "Input: " + object + "\nOutput: " + good, good + object, good + "\n" + object, good + "\n" + object + good} {
			if v := judged(t, tk, answer); v.Outcome != Ambiguous || v.Output != nil {
				t.Errorf("%.90q: %s, %s", answer, v.Outcome, v.Output)
			}
		}
	}
	decision := taskOf(t, `{"type":"object","properties":{"approved":{"type":"boolean"},"by":{"type":"string"}},"required":["approved","by"]}`)
	if v := judged(t, decision, `{"approved":true} {"approved":false,"by":"a person"}`); v.Outcome != Ambiguous {
		t.Errorf("%s, %s", v.Outcome, v.Output)
	}
}

// What a courtesy says may be a choice of the schema.
func TestAnAnnouncementThatNamesAnotherChoiceIsNone(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, `{"type":"object","properties":{"mood":{"enum":["great","poor"]}},"required":["mood"]}`)
	for answer, want := range map[string]string{
		`Great! {"mood":"poor"}`: Ambiguous, `Great! {"mood":"great"}`: Extracted, `Sure! {"mood":"poor"}`: Extracted,
		`{"mood":"poor"} Great! {"mood":"poor"}`: Ambiguous,
	} {
		if v := judged(t, tk, answer); v.Outcome != want {
			t.Errorf("%s: %s, %v", answer, v.Outcome, v.Faults)
		}
	}
}

func TestNoSentenceOutsideOfTheClosedListAnnounces(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for _, front := range []string{
		"Thank you for your message:", "Thank you for providing the input:", "Thank you for your message.", "Here is the JSON from the message you sent:",
		"The JSON of your input is as follows:", "The response from the ticket:", "Here is the JSON of the schema:", "Here are the items of the instructions:",
		"I will review the following answer:", "I'll process the following JSON:", "I reviewed the following output:", "I'm sorry for the mistake:", "I apologize for the error:",
		"I apologize for the confusion:", "I apologize for the confusion.", "Sorry:", "Yes.", "Here is a possible answer:", "Here is an answer:", "Here is a result:", "Here is the wrong answer:",
		"Here is the input:", "For the message, the classification is:", "Result...", "Result?", "The result is not:", "Here is the JSON you did not ask for:",
		"broken_json =", "staleResult =", "maybe_result =", "todo_result =", "user_data =", "wrongAnswer =", "ticket =", "const inputData =", "result !=", "result ==",
		"undo(", "forbid(", "del(", "if(", "console.warn(", "rejectedAnswer(", "not(", "customer(", "return the answer(", "submit data(", "json.fail(", "handleRoute((", "<function=rollback_route>",
		"[[ ## reasoning ## ]]", "[[ ## previous_answer ## ]]", "<rejected>", "<s>", "</think", "[/INST]", "<|return|>", "<|user|>", "(", "(*", "[", "{", "+ ", "2. ", ";", "%", "-", "~~", "->", ":", "\\",
	} {
		for _, sep := range []string{"", " ", "\n"} {
			if strings.Trim(front, "+2. ") == "" && sep == "\n" || front == "-" && sep != "" {
				continue
			}
			if v := judged(t, tk, front+sep+good); v.Output != nil {
				t.Errorf("%q: %s, %s", front+sep, v.Outcome, v.Output)
			}
		}
	}
}

func TestOnlyWhatSaysNothingMayStandBehindAValue(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for _, behind := range []string{
		"⁇", "﹖", "‽", "\u037e", "・・・", "、、、", "<|retract|>", "<|refusal|>", "<|im_start|>", "||", "<-", "->", ":(", "{}", "[]", "(", "{", "[", "\u0336", "+", "-", "--", "---", ">", "=", "/", "*/", "-->", "#",
		"~~", "..", ". .", ",,", ".;", "!", "?", "</s>!", "<wrong>", "</wrong>", "</think", "<s>", "<|im_end|>x", "> no", "@", "&", "--- x", "%", "$", "^", ":", "|",
		"Would you like me to analyze another possibility?", "Would you like me to analyze another message? No.", "Hope this helps?", "Hope this helpsx", "That is all wrong.",
	} {
		for _, sep := range []string{"", " ", "\n"} {
			if sep == "\n" && (behind == ">" || behind == "---") {
				continue // the last line of a quotation, and a line under the value
			}
			if v := judged(t, tk, good+sep+behind); v.Output != nil {
				t.Errorf("%q: %s, %s", sep+behind, v.Outcome, v.Output)
			}
		}
	}
}

// Marks that may be comments, or strike something out, leave all that stands around them in doubt.
func TestWhatMayBeStruckOutIsNotTaken(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	for _, answer := range []string{
		"(* " + good + " *)", "- " + good + "\n+", "- " + good + "\n+ " + draft, "~~" + good + "\n\n~~" + draft, "~~" + good + "~~", "~~" + good + "~~ " + draft,
		"<!-->" + good + "<!-- -->" + draft, "<!-- " + good + " -->", "<!-- " + draft + " -->" + good, "<s>" + good + "</s>", "<s>" + good + "</s>" + draft,
		"<del>" + draft + "</del>" + good, "<strike>" + draft + "</strike>" + good, "# " + good, "### " + good, "-- " + good, "// " + good, "/*" + good + "*/", "; " + good,
	} {
		if v := judged(t, tk, answer); v.Output != nil {
			t.Errorf("%q: %s, %s", answer, v.Outcome, v.Output)
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
		"brackets, signs and marks":      "`" + good + "`) }; </code></pre></s>[EOS]<|im_end|>",
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
		"a call of a tool":               "<tool_call>\n" + good + "\n</tool_call>",
		"a function":                     "<function=route>\n" + good + "</function>",
		"a token of Python":              "<|python_tag|>" + good,
		"a list of calls":                "[TOOL_CALLS] " + good,
		"a parser":                       "json.loads('" + good + "')",
		"a header of DSPy":               "[[ ## final_answer ## ]]\n" + good + "\n[[ ## completed ## ]]",
		"a name":                         "let finalAnswer = " + good + ";",
		"tokens of other templates":      good + "<end_of_turn><eos>\n<｜end▁of▁sentence｜>",
		"repeated within tags":           "<answer>" + good + "</answer>\n**Final answer:** <answer>" + good + "</answer>",
		"repeated behind a fence":        "```json\n" + good + "\n```\nHere is the JSON:\n```json\n" + good + "\n```",
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
	} {
		if v := judged(t, tk, answer); v.Outcome != Extracted || !same(t, v.Output, good) {
			t.Errorf("%s: %s, %s, %v", name, v.Outcome, v.Output, v.Faults)
		}
	}
}

func TestTheCaseOfAWordDoesNotMatter(t *testing.T) {
	t.Parallel()
	v := vocabularyOf(compile(t, `{"type":"object","properties":{"customerId":{"enum":["ACME","Umbrella"]}},"required":["customerId"]}`))
	if hasWord("prénoted, notedé", "noted") {
		t.Error("a part of a word is taken for it")
	}
	if got := v.other("acme or umbrella", map[string]any{"customerId": "Umbrella"}); got != "ACME" {
		t.Errorf("%q", got)
	}
}

func TestTheVocabularyIsThatOfTheSchema(t *testing.T) {
	t.Parallel()
	const parts = `"definitions":{"p":{"type":"object","properties":{"kind":{"const":"x1"},"deep":{"enum":["y1",2,"x1"]}}}}`
	for source, want := range map[string]string{
		`{"$ref":"#/definitions/p",` + parts + `}`:                          "x1 y1",
		`{"type":"array","items":{"$ref":"#/definitions/p"},` + parts + `}`: "x1 y1",
		`{"anyOf":[{"enum":["b"]},{"properties":{"a":{"enum":["a"]}}}]}`:    "a b",
		`{"type":"object"}`: "",
	} {
		if got := strings.Join(vocabularyOf(compile(t, source)).choices, " "); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
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
