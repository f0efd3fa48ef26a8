package validator

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const nested = `{"type":"object","additionalProperties":false,"required":["items"],"properties":{
	"items":{"type":"array","items":{"type":"object","additionalProperties":false,"required":["id"],
		"properties":{"id":{"type":"integer"},"note":{"type":"string"},"done":{"type":"boolean"},"any":{}}}},
	"maybe":{"type":["string","null"]},"free":{"type":"object"},"a/b~c":{"type":"string"},"tag":{"type":"string"}}}`

func TestAnswersAreShapedAsTheTaskAllowsAndNoFurther(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, drop, null, coerce, answer, output, says string }{
		{"a null for an optional property", "", "drop", "", `{"items":[{"id":1,"note":null}],"tag":null}`, `{"items":[{"id":1}]}`, "/items/0/note"},
		{"a null that the schema allows stays", "", "drop", "", `{"items":[],"maybe":null}`, `{"items":[],"maybe":null}`, ""},
		{"a null in an open object stays", "", "drop", "", `{"items":[{"id":1,"any":null}],"free":{"x":null}}`, `{"items":[{"id":1,"any":null}],"free":{"x":null}}`, ""},
		{"a null for a required property", "", "drop", "", `{"items":null}`, "", ""},
		{"a null deep in a required place", "", "drop", "", `{"items":[{"id":null}]}`, "", ""},
		{"a null in an array", "", "drop", "", `{"items":[null]}`, "", ""},
		{"a null when nulls are rejected", "", "reject", "", `{"items":[],"tag":null}`, "", ""},
		{"a pointer that needs escapes", "", "drop", "", `{"items":[],"a/b~c":null}`, `{"items":[]}`, "/a~1b~0c"},

		{"additional properties", "drop", "", "", `{"items":[{"id":1,"x":{"y":1}}],"z":0}`, `{"items":[{"id":1}]}`, "/items/0/x"},
		{"additional properties, rejected", "reject", "", "", `{"items":[],"z":0}`, "", ""},
		{"in an open object they stay", "drop", "", "", `{"items":[],"free":{"x":1}}`, `{"items":[],"free":{"x":1}}`, ""},
		{"an additional null", "drop", "reject", "", `{"items":[],"z":null}`, `{"items":[]}`, "/z"},
		{"an additional property beside a fault", "drop", "", "", `{"items":[{"id":"one"}],"z":0}`, "", ""},

		{"a number in quotes", "", "", "yes", `{"items":[{"id":"17"}]}`, `{"items":[{"id":17}]}`, `"17"`},
		{"a boolean in quotes", "", "", "yes", `{"items":[{"id":1,"done":"true"}]}`, `{"items":[{"id":1,"done":true}]}`, "/items/0/done"},
		{"a fraction for an integer", "", "", "yes", `{"items":[{"id":"1.5"}]}`, "", ""},
		{"a word for a number", "", "", "yes", `{"items":[{"id":"seventeen"}]}`, "", ""},
		{"a huge exponent in quotes", "", "", "yes", `{"items":[{"id":"1e1000001"}]}`, "", ""},
		{"a number for a string", "", "", "yes", `{"items":[],"tag":5}`, "", ""},
		{"the string null", "", "drop", "yes", `{"items":[{"id":1,"done":"null"}]}`, "", ""},
		{"numbers in quotes without leave", "", "", "", `{"items":[{"id":"17"}]}`, "", ""},
		{"all at once", "drop", "drop", "yes", `{"items":[{"id":"2","note":null,"x":1}]}`, `{"items":[{"id":2}]}`, "/items/0/id"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			tk := taskOf(t, nested)
			tk.Output.AdditionalProperties, tk.Output.OptionalNull, tk.Output.Coerce = row.drop, row.null, row.coerce != ""
			v := judged(t, tk, row.answer)
			if row.output == "" {
				if v.Outcome != Invalid || v.Output != nil {
					t.Errorf("%s: %s", v.Outcome, v.Output)
				}
				return
			}
			if v.Outcome != Valid || !same(t, v.Output, row.output) {
				t.Errorf("%s: %s, faults %v", v.Outcome, v.Output, v.Faults)
			}
			if said := strings.Join(v.Notes, "; "); !strings.Contains(said, row.says) || row.says == "" && said != "" {
				t.Errorf("notes %q, want %q", said, row.says)
			}
		})
	}
}

func TestWhatWasShapedIsToldInTheVerdict(t *testing.T) {
	t.Parallel()
	j := answered(`{"intent":"support","urgency":0.9,"suggestedRoute":null}`, "stop")
	if err := handle(t, handlerOf(t, taskOf(t, onboarding)), j); err != nil {
		t.Fatal(err)
	}
	if e := lastVerdict(t, j); e.Outcome != Valid || !strings.Contains(e.Detail, "/suggestedRoute") {
		t.Errorf("%+v", e)
	}
	if string(j.Outcome.Output) != `{"intent":"support","urgency":0.9}` || j.Outcome.Recovery != "strict" {
		t.Errorf("%s, %s", j.Outcome.Output, j.Outcome.Recovery)
	}
}

func TestFaultsAreThoseOfTheAnswerAsItCame(t *testing.T) {
	t.Parallel()
	v := judged(t, taskOf(t, onboarding), `{"intent":null,"urgency":0.9}`)
	if len(v.Faults) == 0 || v.Faults[0].Pointer != "/intent" || v.Faults[0].Got != "null" {
		t.Errorf("%+v: a null that was tried away is told as missing", v.Faults)
	}
}

func TestAnyNumberOfFaultsIsShapedAndTheFirstAreTold(t *testing.T) {
	t.Parallel()
	const n = 5000
	var extras, nulls, texts strings.Builder
	for i := range n {
		fmt.Fprintf(&extras, `,"x%d":1`, i)
		nulls.WriteString(`{"id":1,"note":null},`)
		texts.WriteString(`{"id":"1"},`)
	}
	items := strings.Repeat(`{"id":1},`, n) + `{"id":1}]}`
	for name, row := range map[string]struct{ answer, output string }{
		"additional properties": {`{"items":[]` + extras.String() + "}", `{"items":[]}`},
		"nulls":                 {`{"items":[` + nulls.String() + `{"id":1}]}`, `{"items":[` + items},
		"numbers in quotes":     {`{"items":[` + texts.String() + `{"id":1}]}`, `{"items":[` + items},
	} {
		tk := taskOf(t, nested)
		tk.Output.MaxBytes, tk.Output.AdditionalProperties, tk.Output.Coerce = 1<<20, "drop", true
		v := judged(t, tk, row.answer)
		if v.Outcome != Valid || !same(t, v.Output, row.output) {
			t.Errorf("%s: %s, %.100s, %.3v", name, v.Outcome, v.Output, v.Faults)
		}
		if len(v.Notes) != maxNotes+1 || v.Notes[maxNotes] != fmt.Sprintf("and %d more changes", n-maxNotes) {
			t.Errorf("%s: %d notes, the last %q", name, len(v.Notes), v.Notes[len(v.Notes)-1])
		}
	}
}

func TestWhatAChangeUncoversIsChangedAsWell(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, `{"type":"object","properties":{"kind":{"type":"integer"},"a":{}},
		"if":{"properties":{"kind":{"const":1}}},"then":{"properties":{"kind":{},"a":{}},"additionalProperties":false}}`)
	tk.Output.AdditionalProperties, tk.Output.Coerce = "drop", true
	if v := judged(t, tk, `{"kind":"1","a":1,"z":2}`); v.Outcome != Valid || !same(t, v.Output, `{"kind":1,"a":1}`) {
		t.Errorf("%s, %s, %v", v.Outcome, v.Output, v.Faults)
	}
}

func TestATextThatIsOfTheRightTypeIsNotTakenForANumber(t *testing.T) {
	t.Parallel()
	tk := taskOf(t, `{"properties":{"code":{"type":["string","number"],"maxLength":1}}}`)
	tk.Output.Coerce = true
	if v := judged(t, tk, `{"code":"12"}`); v.Outcome != Invalid {
		t.Errorf("%s, %s", v.Outcome, v.Output)
	}
}

// Many values are at fault in a way that the task does not shape: the words for all of them would take 100 MB.
func TestAnAnswerFullOfFaultsIsRefusedAtLittleCost(t *testing.T) {
	const size = 64 << 10
	item := `{"type":"array","items":` + analysis + `}`
	of := func(item string) string { return `{"type":"array","items":` + item + `}` }
	items := func(item string) string { return "[" + strings.Repeat(item+",", size/(len(item)+1)) + item + "]" }
	for name, row := range map[string]struct{ schema, answer, first string }{
		"items of a wrong type": {item, items("1"), "/0: must be an object, got 1"},
		"missing properties":    {item, items("{}"), "/0/confidence: is required, but missing"},
		"unknown properties":    {item, items(`{"a":1}`), "/0/a: is not a known property: leave it out, got 1"},
		"strings that are none": {analysis, strings.Replace(goodAnalysis, `"card"`, strings.Repeat("1,", 32<<10)+"1", 1), "/topics: must have at most 10 items, has 32769, got [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,…"},
		"anyOf":                 {of(`{"anyOf":[{"type":"string"},{"type":"object"},{"type":"null"}]}`), items("1"), "/0: must have at least one of the allowed forms; what else is said of it is about the nearest one, got 1"},
		"oneOf":                 {of(`{"oneOf":[{"required":["a"]},{"required":["b","c"]}]}`), items("{}"), "/0: must have exactly one of the allowed forms, got {}"},
		"oneOf, more than one":  {of(`{"oneOf":[{"type":"string"},{"type":"number"},{"minimum":0}]}`), items("1"), "/0: must have exactly one of the allowed forms, got 1"},
		"anyOf within anyOf":    {of(`{"anyOf":[{"anyOf":[{"type":"string"},{"anyOf":[{"const":2},{"enum":[3]}]}]},{"type":"null"}]}`), items("1"), "/0: must have at least one of the allowed forms; what else is said of it is about the nearest one, got 1"},
		"minimum":               {of(`{"minimum":5}`), items("1"), "/0: must be at least 5, got 1"},
		"multipleOf":            {of(`{"multipleOf":0.7}`), items("1"), "/0: must be a multiple of 0.7, got 1"},
		"enum":                  {of(`{"enum":["a",2]}`), items("1"), `/0: must be one of "a", 2, got 1`},
		"not":                   {of(`{"not":{"type":"number"}}`), items("1"), "/0: has a form that is not allowed, got 1"},
		"allOf":                 {of(`{"allOf":[{"minimum":5},{"type":"string"}]}`), items("1"), "/0: must be at least 5, got 1"},
		"propertyNames":         {of(`{"propertyNames":{"pattern":"^b"}}`), items(`{"a":1}`), `/0/a: is not an allowed name of a property, got {"a":1}`},
		"uniqueItems":           {of(`{"uniqueItems":true}`), items("[1,1]"), "/0: must have no equal items: those at 0 and 1 are, got [1,1]"},
		"patternProperties":     {of(`{"patternProperties":{"^a":{"type":"string"}}}`), items(`{"a":1}`), "/0/a: must be a string, got 1"},
		"contains":              {of(`{"contains":{"const":2}}`), items("[1,1]"), "/0: must have at least one item of the demanded form, got [1,1]"},
		"dependencies":          {of(`{"dependencies":{"a":["b"]}}`), items(`{"a":1}`), "/0/b: is required beside another property, but missing"},
		"if":                    {of(`{"if":{"minimum":0},"then":{"type":"string"}}`), items("1"), "/0: must be a string, got 1"},
		"formats":               {of(`{"format":"email"}`), items(`"a"`), `/0: must be a valid email, got "a"`},
		"patterns":              {of(`{"pattern":"^b"}`), items(`"a"`), `/0: must match the pattern ^b, got "a"`},
		"additionalItems":       {of(`{"items":[true],"additionalItems":false}`), items("[1,1]"), "/0: has more items than are allowed, got [1,1]"},
		"many of one object":    {`{"additionalProperties":{"minLength":2}}`, "{" + distinct(size) + "}", `/k0: must have at least 2 characters, has 1, got "v"`},
	} {
		tk := taskOf(t, row.schema)
		tk.Output.MaxBytes = 1 << 20
		started := time.Now()
		v, bytes := allocated(t, tk, row.answer)
		// Measured: at most 15 ms and 4 MB.
		t.Logf("%s: %v, %d KB", name, time.Since(started), bytes>>10)
		if v.Outcome != Invalid || v.Faults[0].String() != row.first || bytes > 10<<20 {
			t.Errorf("%s: %s, %.1q, %d KB", name, v.Outcome, v.Faults[0], bytes>>10)
		}
	}
}

// distinct are members, each with a name of its own.
func distinct(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `"k%d":"v",`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}
