package validator

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"spillway/pkg/schema"
)

func seed(f *testing.F) {
	f.Helper()
	for _, text := range []string{
		good, "```json\n" + good + "\n```", "Sure: " + good + " Bye.", `{'a': 'b',}`, `{a: "b", // c` + "\n}", `{"a":"x "y" z"}`,
		`{"a":1 "b":2}`, "{\"a\":\"x\"\n\"b\":\"y\"}", `{“a”: “b”}`, `[1,[2,{"a":[None,True]}],]`, `{"a":"\u00e4\ud83d\ude00"}`, `{"a":"\`, "<think>{}</think>{}",
		`{"a":1E400}`, "[0, 1) {\"a\":\"b}\"}", "```\n```\n{}", `{"a":'it\'s'}`, "\ufeff{}", `{"a":"` + "\x00" + `"}`, `{"a":1}{"a":2}`, `[}`, `{]`, `{"a":"b"/**/}`,
	} {
		f.Add(text)
	}
}

// Whatever the answer is, each piece that is found stands in it, begins and ends with brackets, overlaps no
// other, and JSON that is whole is found as it is.
func FuzzExtraction(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		found, tooMany := pieces(text)
		if tooMany && found != nil || len(found) > maxSegments+1 {
			t.Fatalf("%d pieces, too many: %t", len(found), tooMany)
		}
		rest := text
		for _, s := range found {
			if s.text == "" || !strings.ContainsRune("{[", rune(s.text[0])) || s.closed && !strings.ContainsRune("}]", rune(s.text[len(s.text)-1])) {
				t.Fatalf("%q is no piece", s.text)
			}
			i := strings.Index(rest, s.text)
			if i < 0 {
				t.Fatalf("%q does not stand behind the pieces before it", s.text)
			}
			rest = rest[i+len(s.text):]
		}
		value, err := schema.Decode([]byte(text))
		if kind := reflect.TypeOf(value); kind == nil || kind.Kind() != reflect.Map && kind.Kind() != reflect.Slice {
			return
		}
		if err == nil && (len(found) != 1 || !found[0].closed || found[0].text != strings.TrimSpace(text)) {
			t.Fatalf("%q is whole, and %v was found", text, found)
		}
	})
}

// What is taken for repaired has the letters, digits and brackets of the text, all of them, in their order,
// and no others: a reading may change quotes and commas alone. And JSON that needs no repair reads as what it is.
func FuzzRepair(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		strict, err := schema.Decode([]byte(text))
		value, _, ok := read(text)
		if err == nil && (!ok || !reflect.DeepEqual(value, strict)) {
			t.Fatalf("%q is JSON, and was read as %v, %t", text, value, ok)
		}
		c := mend(text)
		if c == nil {
			return
		}
		if !ok || !reflect.DeepEqual(c.value, value) {
			t.Fatalf("%q: repaired to %v, read as %v", text, c.value, value)
		}
		again, err := schema.Decode(c.output())
		if err != nil || !reflect.DeepEqual(again, c.value) {
			t.Fatalf("%q: the output %s is not its value: %v", text, c.output(), err)
		}
		if strings.ContainsAny(text, "/\\") {
			return // comments and escapes are letters of the text that are none of the value
		}
		if got, want := letters(string(c.output())), letters(text); got != want {
			t.Fatalf("%q has %q, its repair %s has %q", text, want, c.output(), got)
		}
	})
}

// letters are the letters, digits, brackets and signs of a text, with Python's constants as JSON's and
// without the letters of escapes.
func letters(text string) string {
	text = strings.NewReplacer("True", "true", "False", "false", "None", "null", `\n`, "", `\r`, "", `\t`, "").Replace(text)
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("{}[]:.+-", r) {
			return r
		}
		return -1
	}, text)
}

// Whatever a model says, there is a verdict, and an output satisfies the schema.
func FuzzJudge(f *testing.F) {
	seed(f)
	source := compile(f, onboarding)
	tk := taskOf(f, onboarding)
	tk.Output.AdditionalProperties, tk.Output.Coerce = "drop", true
	f.Fuzz(func(t *testing.T, text string) {
		started := time.Now()
		v := judged(t, tk, text)
		if took := time.Since(started); took > 3*time.Second {
			t.Fatalf("%v for %d bytes", took, len(text))
		}
		if v.Outcome == "" || (v.Output == nil) == (v.Outcome == Valid || v.Outcome == Extracted || v.Outcome == Repaired) {
			t.Fatalf("%q: %+v", text, v)
		}
		if v.Output == nil {
			return
		}
		value, err := schema.Decode(v.Output)
		if err != nil || source.Validate(value) != nil {
			t.Fatalf("%q was taken as %s", text, v.Output)
		}
	})
}
