package validator

import (
	"flag"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"spillway/pkg/schema"
	"spillway/pkg/task"
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
	for i, line := range corpusLines(f) {
		if len(line.Answer) <= maxSeed && (i%seedsApart == 0 || !isFuzzing()) {
			f.Add(line.Answer)
		}
	}
}

// isFuzzing: the fuzzer runs each seed before it makes an answer of its own, for which ten seconds would not leave time.
func isFuzzing() bool { return flag.Lookup("test.fuzz").Value.String() != "" }

// seedsApart is of how many lines of the corpus one is a seed of the fuzzer.
const seedsApart = 16

// maxSeed keeps out what would only slow the fuzzing down.
const maxSeed = 4 << 10

// Whatever the answer is, each piece that is found stands in it, begins and ends with brackets, overlaps no
// other, and JSON that is whole is found as it is.
func FuzzExtraction(f *testing.F) {
	seed(f)
	tk := taskOf(f, "")
	f.Fuzz(func(t *testing.T, text string) {
		found := pieces(tk, text)
		if len(found.found) > maxPieces {
			t.Fatalf("%d pieces", len(found.found))
		}
		end := 0
		for _, p := range found.found {
			last, _ := utf8.DecodeLastRuneInString(p.text)
			if p.begin < end || p.text != text[p.begin:p.end] || !opens(p.text) || !strings.ContainsRune("}]｝］", last) {
				t.Fatalf("%q is no piece", p.text)
			}
			end = p.end
		}
		value, err := schema.Decode([]byte(text))
		if kind := reflect.TypeOf(value); kind == nil || kind.Kind() != reflect.Map && kind.Kind() != reflect.Slice {
			return
		}
		if err == nil && (len(found.found) != 1 || found.cutTaken || found.found[0].text != strings.TrimSpace(text)) {
			t.Fatalf("%q is whole, and %v was found", text, found)
		}
	})
}

// What is said stands in the text, and of an answer without a mark all is said.
func FuzzThoughts(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		before, last, ok := said(text)
		if !ok {
			return
		}
		if !strings.HasSuffix(text, last) || len(before)+len(last) > 2*len(text) {
			t.Fatalf("%q says %q and %q", text, before, last)
		}
		for line := range strings.Lines(before) {
			if !strings.Contains(text, strings.TrimSuffix(line, "\n")) {
				t.Fatalf("%q never said %q", text, line)
			}
		}
		if !strings.ContainsAny(text, "<[◁") && last != text {
			t.Fatalf("of %q only %q is said", text, last)
		}
		if _, again, ok := said(last); !ok || again != last {
			t.Fatalf("%q is said, and of that only %q", last, again)
		}
	})
}

// What is taken for repaired has the letters, digits and brackets of the text, all of them, in their order,
// and no others: a reading may change quotes and commas alone. And JSON that needs no repair reads as what it is.
func FuzzRepair(f *testing.F) {
	seed(f)
	choices := vocabularyOf(compile(f, onboarding)).choices
	f.Fuzz(func(t *testing.T, text string) {
		strict, err := schema.Decode([]byte(text))
		value, _, ok := read(text, choices)
		if err == nil && (!ok || !reflect.DeepEqual(value, strict)) {
			t.Fatalf("%q is JSON, and was read as %v, %t", text, value, ok)
		}
		c, r := mend(text, choices)
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
		if foreign := foreignTo(text, again); foreign != "" {
			t.Fatalf("%q has no %q, its repair %s has", text, foreign, c.output())
		}
		if r.twice || strings.Contains(text, "\\") {
			return // escapes are letters of the text that are none of the value, and what is said twice is there once
		}
		if got, want := letters(string(c.output())), letters(text); got != want {
			t.Fatalf("%q has %q, its repair %s has %q", text, want, c.output(), got)
		}
	})
}

// letters are the letters, digits, brackets and signs of a text, with Python's constants as JSON's, full-width
// signs as narrow ones and without the letters of escapes.
func letters(text string) string {
	text = strings.NewReplacer("True", "true", "False", "false", "None", "null", `\n`, "", `\r`, "", `\t`, "").Replace(text)
	return strings.Map(func(r rune) rune {
		if sign := narrow(r); sign < utf8.RuneSelf {
			r = rune(sign)
		}
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("{}[]:.+-", r) {
			return r
		}
		return -1
	}, text)
}

// Whatever a model says, there is a verdict, an output satisfies the schema, it has nothing that the answer has
// not, and an answer that is strict JSON is judged by that alone. Of the schemas one has forms that refer to itself.
func FuzzJudge(f *testing.F) {
	seed(f)
	for _, answer := range hostileTrees(1) {
		f.Add(answer)
	}
	tasks := []*task.Task{taskOf(f, onboarding), taskOf(f, treeSchema)}
	for _, tk := range tasks {
		tk.Output.AdditionalProperties, tk.Output.Coerce = "drop", true
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, tk := range tasks {
			judgedRight(t, tk, text)
		}
	})
}

func judgedRight(t *testing.T, tk *task.Task, text string) {
	t.Helper()
	started := time.Now()
	v := judged(t, tk, text)
	if took := time.Since(started); took > 3*time.Second {
		t.Fatalf("%v for %d bytes", took, len(text))
	}
	if v.Outcome == "" || (v.Output == nil) == (v.Outcome == Valid || v.Outcome == Extracted || v.Outcome == Repaired) {
		t.Fatalf("%q: %+v", text, v)
	}
	strict, err := schema.Decode([]byte(text))
	if err == nil && tk.OutputSchema.Validate(strict) == nil && v.Outcome != Valid {
		t.Fatalf("%q is valid, and was called %s", text, v.Outcome)
	}
	if v.Output == nil {
		return
	}
	value, err := schema.Decode(v.Output)
	if err != nil || tk.OutputSchema.Validate(value) != nil {
		t.Fatalf("%q was taken as %s", text, v.Output)
	}
	if foreign := foreignTo(text, value); foreign != "" {
		t.Fatalf("%q has no %q, its output %s has", text, foreign, v.Output)
	}
}
