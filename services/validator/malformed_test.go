package validator

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"spillway/pkg/task"
)

const goodAnalysis = `{"sentiment":"negative","confidence":0.8,"summary":"The customer's card is blocked.","topics":["card"]}`

const plain = `{"intent":"support","urgency":0.9}`

// The shapes are those that users of output parsers report again and again.
var malformed = []struct{ name, task, answer, verdict, output string }{
	// As it should be.
	{"strict", "", good, Valid, good},
	{"strict with white space around", "", "\n  " + good + "\r\n", Valid, good},
	{"strict over several lines", "", "{\n  \"intent\": \"support\",\n  \"urgency\": 0.9\n}", Valid, plain},
	{"fences within a string", "a", `{"sentiment":"neutral","confidence":1,"summary":"Use ` + "```js x()```" + ` here","topics":["code"]}`, Valid, `{"sentiment":"neutral","confidence":1,"summary":"Use ` + "```js x()```" + ` here","topics":["code"]}`},
	{"braces within a string", "a", `{"sentiment":"neutral","confidence":1,"summary":"Write {name} or }{ there","topics":["x"]}`, Valid, `{"sentiment":"neutral","confidence":1,"summary":"Write {name} or }{ there","topics":["x"]}`},
	{"an array where one is wanted", "list", `[{"a":1}]`, Valid, `[{"a":1}]`},

	// Right, with something around it.
	{"fenced as json", "", "```json\n" + good + "\n```", Extracted, good},
	{"fenced without a language", "", "```\n" + good + "\n```", Extracted, good},
	{"fenced in capitals", "", "```JSON\n" + good + "\n```\n", Extracted, good},
	{"fenced on one line", "", "```json " + good + " ```", Extracted, good},
	{"a fence that is never closed", "", "```json\n" + good, Extracted, good},
	{"a fence that is only closed", "", good + "\n```", Extracted, good},
	{"an indented fence", "", "Here:\n   ```json\n   " + good + "\n   ```", Extracted, good},
	{"a fence at the end of a line of prose", "", "Here it is: ```json\n" + good + "\n```", Extracted, good},
	{"prose before", "", "Sure! Here is the JSON you asked for:\n\n" + good, Extracted, good},
	{"prose behind", "", good + "\n\nLet me know if you need anything else!", Extracted, good},
	{"prose on both sides", "", "Result: " + good + " I hope that helps.", Extracted, good},
	{"prose and a fence", "", "Of course.\n\n```json\n" + good + "\n```\n\nLet me know if you have any further questions.", Extracted, good},
	{"citations before it", "", "As the policy says [1], [2]:\n" + good, Ambiguous, ""},
	{"an odd bracket in the prose before a fence", "", "In the interval [0, 1) I say:\n```json\n" + good + "\n```", Ambiguous, ""},
	{"a template's braces in the prose", "", "For {project} the answer is: " + good, Ambiguous, ""},
	{"another language's fence before it", "", "```bash\necho {}\n```\nSo:\n```json\n" + good + "\n```", Ambiguous, ""},
	{"an empty fence before it", "", "```json\n```\n" + good, Extracted, good},
	{"a byte order mark", "", "\ufeff" + good, Extracted, good},
	{"thoughts before it", "", "<think>\nIs it {\"intent\":\"inquiry\",\"urgency\":0.1}? No.\n</think>\n" + good, Extracted, good},
	{"a label before it", "", "JSON: " + good, Extracted, good},
	{"one brace too many", "", good + "}", Extracted, good},
	{"a semicolon behind", "", good + ";", Extracted, good},
	{"an assignment", "", "const result = " + good + ";", Extracted, good},
	{"a quotation mark around", "", "'" + good + "'", Extracted, good},
	{"XML around", "", "<answer>" + good + "</answer>", Extracted, good},
	{"written into a string", "", `"{\"intent\":\"support\",\"urgency\":0.9}"`, Extracted, plain},
	{"the same answer twice", "", "Answer: " + good + "\nFinal answer: " + good, Extracted, good},
	{"the same answer in other spellings", "", `{"intent":"support","urgency":0.90} {'urgency':0.9,'intent':'support'}`, Extracted, plain},
	{"the same answer, first misspelled", "", `{'urgency':0.9,'intent':'support'} {"intent":"support","urgency":0.90}`, Extracted, plain},
	{"a bracket within a string within a string", "", `Output: "{\"intent\":\"support\",\"urgency\":0.9,\"suggestedRoute\":\"a \\\"}\\\" } b\"}"`, Extracted, `{"intent":"support","urgency":0.9,"suggestedRoute":"a \"}\" } b"}`},
	{"the same answer 64 times", "", strings.Repeat(plain+"\n", 64), Extracted, plain},
	{"an object that is no answer before it", "", `{"message":"My card is blocked!!"} ` + good, Ambiguous, ""},
	{"eighty notes before it", "", strings.Repeat("So says [1]. ", 80) + "\n" + good, Ambiguous, ""},
	{"a token of the template behind", "", good + "<|im_end|>", Extracted, good},
	{"each quote behind a backslash", "", `{\"intent\":\"support\",\"urgency\":0.9}`, Extracted, plain},
	{"written into a string behind a label", "", `Output: "{\"intent\":\"support\",\"urgency\":0.9}"`, Extracted, plain},
	{"written into a string twice", "", `"\"{\\\"intent\\\":\\\"support\\\",\\\"urgency\\\":0.9}\""`, Extracted, plain},
	{"a fence written into a string", "", "\"```json\\n{\\\"intent\\\":\\\"support\\\",\\\"urgency\\\":0.9}\\n```\"", Extracted, plain},
	{"an array in prose", "list", "Here: [{\"a\":1}].", Extracted, `[{"a":1}]`},

	// Nearly JSON, and only one way to read it.
	{"a trailing comma", "", `{"intent":"support","urgency":0.9,}`, Repaired, plain},
	{"a trailing comma in an array", "a", strings.Replace(goodAnalysis, `["card"]`, `["card",]`, 1), Repaired, goodAnalysis},
	{"a trailing comma within a fence", "", "```json\n{\n  \"intent\": \"support\",\n  \"urgency\": 0.9,\n}\n```", Repaired, plain},
	{"Python's quotes", "", `{'intent': 'support', 'urgency': 0.9}`, Repaired, plain},
	{"typographic quotes", "", `{“intent”: “support”, “urgency”: 0.9}`, Repaired, plain},
	{"keys without quotes", "", `{intent: "support", urgency: 0.9}`, Repaired, plain},
	{"German quotes", "", `{„intent“: „support“, „urgency“: 0.9}`, Repaired, plain},
	{"guillemets", "", `{«intent»: «support», »urgency«: 0.9}`, Repaired, plain},
	{"backticks and accents", "", "{`intent´: `support`, `urgency`: 0.9}", Repaired, plain},
	{"full-width signs", "", "｛＂intent＂：＂support＂，＂urgency＂：0.9｝", Repaired, plain},
	{"a choice without quotes", "", `{intent: support, urgency: 0.9}`, Repaired, plain},
	{"a key given twice with one value", "", `{"intent":"support","urgency":0.9,"intent":"support"}`, Repaired, plain},
	{"line breaks spelled as escapes between tokens", "", `{\n"intent":"support",\t"urgency":0.9}`, Repaired, plain},
	{"characters without width between tokens", "", "{\u200b\"intent\":\ufeff\"support\",\u2028\"urgency\": 0.9\u3000}", Repaired, plain},
	{"commas missing between objects on lines of their own", "list", "[\n{\"a\":1}\n{\"a\":2}\n]", Repaired, `[{"a":1},{"a":2}]`},
	{"quotes of an attribute within a string", "a", strings.Replace(goodAnalysis, "card is", `<b id="x">card</b> is`, 1), Repaired, strings.Replace(goodAnalysis, "card is", `<b id=\"x\">card</b> is`, 1)},
	{"a comma missing at the end of a line", "", "{\n  \"intent\": \"support\"\n  \"urgency\": 0.9\n}", Repaired, plain},
	{"a line break within a string", "a", strings.Replace(goodAnalysis, "card is", "card\nis", 1), Repaired, strings.Replace(goodAnalysis, "card is", `card\nis`, 1)},
	{"an escaped apostrophe", "a", strings.Replace(goodAnalysis, "customer's", `customer\'s`, 1), Repaired, goodAnalysis},
	{"quotes within a string", "a", strings.Replace(goodAnalysis, "is blocked", `is "really" blocked`, 1), Repaired, strings.Replace(goodAnalysis, "is blocked", `is \"really\" blocked`, 1)},
	{"a fence and line breaks within a string", "a", strings.Replace(goodAnalysis, "is blocked", "is\n```\nblocked\n```\nnow", 1), Repaired, strings.Replace(goodAnalysis, "is blocked", `is\n`+"```"+`\nblocked\n`+"```"+`\nnow`, 1)},
	{"spaces that do not break", "", "{\u00a0\"intent\":\u00a0\"support\", \"urgency\": 0.9}", Repaired, plain},
	{"Python's constants", "list", `[{"a": True, "b": None, "c": False}]`, Repaired, `[{"a":true,"b":null,"c":false}]`},

	// Not what was asked for.
	{"prose", "", "I am sorry, I do not know what the customer wants.", Invalid, ""},
	{"YAML", "", "intent: support\nurgency: 0.9", Invalid, ""},
	{"a bare word", "", "support", Invalid, ""},
	{"the value without its object", "", `"support"`, Invalid, ""},
	{"null", "", "null", Invalid, ""},
	{"an array of one", "", "[" + good + "]", Invalid, ""},
	{"an array of one in prose", "", "Here: [" + good + "]", Invalid, ""},
	{"an envelope", "", `{"response":` + good + `}`, Invalid, ""},
	{"a tool's envelope", "", `{"name":"answer","arguments":` + good + `}`, Invalid, ""},
	{"the schema instead of data", "", onboarding, Invalid, ""},
	{"a made-up choice", "", `{"intent":"supp","urgency":0.9}`, Invalid, ""},
	{"a missing property", "", `{"intent":"support"}`, Invalid, ""},
	{"an invented property", "", `{"intent":"support","urgency":0.9,"mood":"angry"}`, Invalid, ""},
	{"a number as a string", "", `{"intent":"support","urgency":"0.9"}`, Invalid, ""},
	{"a number out of range", "", `{"intent":"support","urgency":90}`, Invalid, ""},
	{"a percentage", "", `{"intent":"support","urgency":90%}`, Invalid, ""},
	{"null for a required property", "", `{"intent":null,"urgency":0.9}`, Invalid, ""},
	{"a key given twice", "", `{"intent":"support","intent":"inquiry","urgency":0.9}`, Invalid, ""},
	{"comments", "", "{\n  // what the customer wants\n  \"intent\": \"support\", /* sure */\n  \"urgency\": 0.9\n}", Invalid, ""},
	{"a text without quotes", "", `{intent: support, urgency: 0.9, suggestedRoute: support}`, Invalid, ""},
	{"a choice without quotes, in capitals", "", `{intent: SUPPORT, urgency: 0.9}`, Invalid, ""},
	{"a character without width within a number", "", "{\"intent\":\"support\",\"urgency\":0.\u200b9}", Invalid, ""},
	{"another answer begun behind it", "", good + "\n{\"intent\":\"inq", Invalid, ""},
	{"without the opening brace", "", `"intent":"support","urgency":0.9}`, Invalid, ""},
	{"an empty fence", "", "```json\n```", Invalid, ""},
	{"an empty object", "", "{}", Invalid, ""},
	{"a wrong answer in a string", "", `"{\"intent\":\"supp\",\"urgency\":0.9}"`, Invalid, ""},

	{"a wrong answer beside one that is nearly right", "", `{"intent":"supp","urgency":0.9} {"intent":"support","urgency":0.9,}`, Ambiguous, ""},
	{"a wrong try, then the right one", "", `First {"intent":"supp","urgency":0.9}, better: ` + good, Ambiguous, ""},
	{"the same answer 65 times", "", strings.Repeat(plain+"\n", 65), Ambiguous, ""},
	{"two answers", "", good + "\nor\n" + plain, Ambiguous, ""},
	{"an answer a line", "", plain + "\n" + `{"intent":"inquiry","urgency":0.1}`, Ambiguous, ""},
	{"two fences", "", "```json\n" + good + "\n```\n```json\n" + plain + "\n```", Ambiguous, ""},
}

func TestMalformedAnswersGetTheVerdictThatTheyDeserve(t *testing.T) {
	t.Parallel()
	tasks := map[string]*task.Task{"": taskOf(t, onboarding), "a": taskOf(t, analysis), "list": taskOf(t, list)}
	for _, row := range malformed {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			v := judged(t, tasks[row.task], row.answer)
			if v.Outcome != row.verdict {
				t.Fatalf("%s, want %s; faults %v", v.Outcome, row.verdict, v.Faults)
			}
			if row.output == "" {
				if v.Output != nil || len(v.Faults) == 0 {
					t.Errorf("output %s, faults %v", v.Output, v.Faults)
				}
				return
			}
			if !same(t, v.Output, row.output) {
				t.Errorf("output %s, want %s", v.Output, row.output)
			}
			if v.Outcome == Repaired && len(v.Notes) == 0 {
				t.Error("the verdict does not say what was repaired")
			}
		})
	}
}

// What looks as if it could be repaired, and could not without a guess.
var guesses = map[string]string{
	"two objects, one malformed":                `{"intent":"support"} or rather {"intent":"inquiry",}`,
	"two malformed objects":                     `{'intent':'support'} or {'intent':'inquiry'}`,
	"a number cut behind its point":             `{"intent":"support","urgency":0.`,
	"a number cut, then closed":                 `{"intent":"support","urgency":0.}`,
	"a number cut in its exponent":              `{"a":1e}`,
	"a minus without a number":                  `{"a":-}`,
	"a number without its zero":                 `{"urgency":.9}`,
	"a number with a leading zero":              `{"zip":00123}`,
	"thousands":                                 `{"total":1,000}`,
	"a decimal comma":                           `{"urgency":0,9}`,
	"a string cut inside":                       `{"intent":"support","summary":"The customer wants`,
	"a string cut inside, then closed":          `{"summary":"The customer wants}`,
	"a string cut between members":              `{"summary":"The customer wants, "topics":["card"]}`,
	"an object cut behind a colon":              `{"intent":"support","urgency":`,
	"an object cut behind a key":                `{"intent":"support","urg`,
	"an object cut behind a comma":              `{"intent":"support",`,
	"an object without its brace":               `{"intent":"support","urgency":0.9`,
	"an array without its bracket":              `{"topics":["card","fraud"}`,
	"a bracket closed by the wrong one":         `{"topics":["card"},"a":1]`,
	"a list that says there was more":           `{"topics":["card","fraud",...]}`,
	"a value left out":                          `{"intent":,"urgency":0.9}`,
	"a value left out at the end":               `{"intent":"support","urgency":}`,
	"a key without a value":                     `{"intent","urgency":0.9}`,
	"a colon left out":                          `{"intent" "support"}`,
	"two values for a key":                      `{"intent":"support" "inquiry"}`,
	"a key given twice":                         `{'intent':'support','intent':'inquiry'}`,
	"key and value swapped into one":            `{"support":"intent" 0.9}`,
	"words without quotes":                      `{"intent": support or inquiry}`,
	"a quote that ends a string too early":      `{"summary":"He called it "urgent", then left","a":1}`,
	"a quote before a key that is none":         `{"note":"the "dictator", "status": waiting","b":2}`,
	"a quote within a string that is left open": `{"summary":"He called it "urgent", "topics":"card",}`,
	"inches":                         `{"size":"24", 13" and 11" wide"}`,
	"a backslash that means nothing": `{"path":"C:\data\new"}`,
	"strings added up":               `{"summary":"part one" + "part two"}`,
	"a call":                         `{"at":ISODate("2012-12-19T06:01:17.171Z")}`,
	"not a number":                   `{"urgency":NaN}`,
	"undefined":                      `{"urgency":undefined}`,
	"a regular expression":           `{"match":/a+/}`,
	"two commas":                     `{"a":1,,"b":2}`,
	"two trailing commas":            `{"a":1,,}`,
	"a comma first":                  `{,"a":1}`,
	"a missing comma in an array":    `{"a":["x" "y"]}`,
	"a missing comma behind a number in an array": "{\"a\":[1\n{\"b\":1}]}",
	"a quote with blanks on both sides":           `{"a":"see " one" two"}`,
	"a missing comma on one line":                 `{"a":"x" "b":"y"}`,
	"prose between members":                       `{"a":"x", and also "b":"y"}`,
	"quotes of two kinds around one string":       `{"a":"x”,"b":“y"}`,
	"an apostrophe in single quotes":              `{'summary':'it's blocked','a':1}`,
	"escaped in part":                             `{\"intent\":\"support","urgency":1}`,
	"items with a word between":                   `{"a":["fees" and "club"]}`,
	"items with an arrow between":                 `{"a":["fees" -> "club"]}`,
	"items with an ideographic comma":             `{"a":["发票"、"退货"]}`,
	"inches that make a pair":                     `{"size":"24" by 13" wide"}`,
	"texts with a word between":                   `{"a":"It broke." or "It was stolen."}`,
	"quotes doubled":                              `{""a"":""b""}`,
	"quotes that do not look like a pair":         `{"a":"the " and " of it"}`,
	"quotes that look like two openings":          `{"a":"see "one and "two"}`,
	"a comment":                                   `{"a":1 /* or 2 */}`,
	"an unclosed comment":                         `{"a":1 /* and then }`,
	"a cut object behind a whole one":             `{"a":1} and {"a":2,"b":`,
	"a whole object in a cut array":               `[{"a":1},{"a":2}`,
}

// The schema allows everything: what is accepted here would have been delivered.
func TestWhatCanOnlyBeRepairedByAGuessIsNotAccepted(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, permissive)
	for name, answer := range guesses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if v := judged(t, tk, answer); v.Output != nil {
				t.Errorf("%s: accepted as %s", v.Outcome, v.Output)
			}
		})
	}
}

func TestOnlyACompleteAnswerIsRepaired(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	answer := `{"intent":"support","urgency":0.9,}`
	for _, finish := range []string{"", "tool_calls", "unknown"} {
		j := answered(answer, finish)
		if v := Judge(tk, j.Input, j.Answer); v.Outcome != Invalid {
			t.Errorf("finish reason %q: %s", finish, v.Outcome)
		}
	}
	tk.Output.Repair = false
	if v := judged(t, tk, answer); v.Outcome != Invalid {
		t.Errorf("a task that wants no repair: %s", v.Outcome)
	}
	if v := judged(t, tk, "Here: "+good); v.Outcome != Extracted {
		t.Errorf("extraction is no repair: %s", v.Outcome)
	}
}

func TestARepairedAnswerMustSatisfyTheSchemaAsItIs(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	tk.Output.AdditionalProperties, tk.Output.Coerce = "drop", true
	for name, answer := range map[string]string{
		"a null that is required": `{"intent":null,"urgency":0.9,}`,
		"an additional property":  `{"intent":"support","urgency":0.9,"mood":"angry",}`,
		"a number in quotes":      `{"intent":"support","urgency":"0.9",}`,
	} {
		if v := judged(t, tk, answer); v.Outcome != Invalid {
			t.Errorf("%s: %s", name, v.Outcome)
		}
	}
}

func TestALargeTextIsNotRepaired(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, permissive)
	tk.Output.MaxBytes = 1 << 20
	const around = len(`{"a":"",}`)
	for size, want := range map[int]string{64 << 10: Repaired, 64<<10 + 1: Invalid} {
		if v := judged(t, tk, `{"a":"`+strings.Repeat("z", size-around)+`",}`); v.Outcome != want {
			t.Errorf("%d bytes: %s, want %s", size, v.Outcome, want)
		}
	}
}

func TestOnlySoManyQuotesWithinStringsAreForgiven(t *testing.T) {
	t.Parallel()
	for pairs, want := range map[int]bool{16: true, 17: false} {
		if _, _, ok := read(`{"a":"so `+strings.Repeat(`"x" and `, pairs)+`y"}`, nil); ok != want {
			t.Errorf("%d pairs: %t, want %t", pairs, ok, want)
		}
	}
}

func TestAnAnswerMayBeWrittenIntoAStringThreeTimes(t *testing.T) {
	t.Parallel()
	answer := plain
	for times, want := range []string{Valid, Extracted, Extracted, Extracted, Invalid} {
		if v := judged(t, taskOf(t, onboarding), answer); v.Outcome != want || want != Invalid && !same(t, v.Output, plain) {
			t.Errorf("%d times: %s, %s", times, v.Outcome, v.Output)
		}
		answer = strconv.Quote(answer)
	}
}

func TestANullOfAnOptionalPropertySaysNothingInARepairedAnswerEither(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, onboarding)
	const answer = `{'intent': 'support', 'urgency': 0.9, 'suggestedRoute': None}`
	if v := judged(t, tk, answer); v.Outcome != Repaired || !same(t, v.Output, plain) {
		t.Errorf("%s, %s, %v", v.Outcome, v.Output, v.Faults)
	}
	tk.Output.OptionalNull = "reject"
	if v := judged(t, tk, answer); v.Outcome != Invalid {
		t.Errorf("nulls are rejected: %s", v.Outcome)
	}
}

// A word without quotes that is a choice as well as a constant may be either.
func TestAConstantThatIsSpelledLikeAChoiceIsNotRepaired(t *testing.T) {
	t.Parallel()
	const source = `{"type":"object","properties":{"id":{"type":"integer"},"severity":{"enum":[%s]}},"required":["id"]}`
	for _, row := range []struct{ choices, word, verdict string }{
		{`"None","Low","High"`, "None", Invalid},
		{`"none","Low","High"`, "None", Invalid},
		{`"NONE","Low","High"`, "None", Invalid},
		{`"null","Low"`, "null", Invalid},
		{`"Low","High"`, "None", Repaired},
		{`"True",true`, "True", Invalid},
		{`"FALSE",false`, "false", Invalid},
		{`"None","Low","High"`, "Low", Repaired},
	} {
		if v := judged(t, taskOf(t, fmt.Sprintf(source, row.choices)), "{id: 1, severity: "+row.word+"}"); v.Outcome != row.verdict {
			t.Errorf("%s of %s: %s, %s", row.word, row.choices, v.Outcome, v.Output)
		}
	}
}

func TestWhatTheTwoReadersSeeDifferentlyIsNotRepaired(t *testing.T) {
	t.Parallel()
	const text = `{"a":"It was "perfect"","b":1}`
	value, _, ok := read(text, nil)
	if m, _ := value.(map[string]any); !ok || m["a"] != `It was "perfect"` {
		t.Fatalf("%v, %t: the test needs a text that our reader takes", value, ok)
	}
	if c, _ := mend(text, nil); c != nil {
		t.Errorf("%v", c.value)
	}
}

func TestOurReaderRefusesWhatItCanNotReadInOneWay(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	for _, text := range []string{`{'a':1,'a':2}`, deep, "", " ", "{", `{"a":"b`, "{}{}", "{} x", `{"a":"\ud800"}`, "{\"a\":\"\x01\"}", "{\"a\":\"\xff\"}", `[1e999]`, `{"a":"He called it "urgent", "b":"card"}`} {
		if value, _, ok := read(text, nil); ok {
			t.Errorf("%.40q: %v", text, value)
		}
	}
}

func TestTheFaultsOfAWrongAnswerInProseAreThoseOfItsSchema(t *testing.T) {
	t.Parallel()
	v := judged(t, taskOf(t, onboarding), `Here: {"intent":"supp","urgency":0.9} [1]`)
	if v.Outcome != Invalid || len(v.Faults) != 1 || v.Faults[0].Pointer != "/intent" || v.Faults[0].Got != `"supp"` {
		t.Errorf("%+v", v)
	}
}
