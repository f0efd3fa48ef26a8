package schema_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"spillway/pkg/schema"
)

func TestDecodeTakesOneValueAndKeepsItsDigits(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		`null`:                                   nil,
		` true `:                                 true,
		"\n\"a\\u00e9\\n\\/\"\t":                 "aé\n/",
		`-0.10e+2`:                               json.Number("-0.10e+2"),
		`12345678901234567890.123456789`:         json.Number("12345678901234567890.123456789"),
		`1.7E308`:                                json.Number("1.7E308"),
		`0e400`:                                  json.Number("0e400"),
		strings.Repeat("9", 64):                  json.Number(strings.Repeat("9", 64)),
		`1e-400`:                                 json.Number("1e-400"),
		`[]`:                                     []any{},
		`{}`:                                     map[string]any{},
		`{"a":[1,{"b":null}],"":"\ud83d\ude00"}`: map[string]any{"a": []any{json.Number("1"), map[string]any{"b": nil}}, "": "😀"},
		strings.Repeat("[", 128) + strings.Repeat("]", 128): nested(128),
	} {
		got, err := schema.Decode([]byte(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.60s: got %#v, %v; want %#v", text, got, err, want)
		}
	}
}

func TestDecodeMembersGivesThoseOfAnObjectAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]string{
		` {"a" : 1.50 , "b\u0063":[ {"a": 2} ],"d":{"a":"\u00e9"}, "e":null }` + "\n": {"a": "1.50", "bc": `[ {"a": 2} ]`, "d": `{"a":"\u00e9"}`, "e": "null"},
		`{}`:        {},
		`[{"a":1}]`: {},
		`"a"`:       {},
	} {
		value, raw, err := schema.DecodeMembers([]byte(text))
		if err != nil || len(raw) != len(want) {
			t.Errorf("%s: %v %q", text, err, raw)
		}
		if plain, err := schema.Decode([]byte(text)); err != nil || !reflect.DeepEqual(value, plain) {
			t.Errorf("%s: %v, Decode says %v", text, value, plain)
		}
		for name, member := range want {
			if string(raw[name]) != member {
				t.Errorf("%s: %s is %q", text, name, raw[name])
			}
		}
	}
	if _, _, err := schema.DecodeMembers([]byte(`{"a":1,"a":2}`)); err == nil {
		t.Error("a key that is given twice is taken")
	}
}

func nested(depth int) any {
	var value any = []any{}
	for range depth - 1 {
		value = []any{value}
	}
	return value
}

func TestDecodeRefusesWhatIsNotOneStrictValue(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text, message string
		pointer       string
		offset        int
	}{
		"nothing":                {"", "the text is empty", "", 0},
		"white space":            {" \n", "the text is empty", "", 0},
		"trailing garbage":       {`{"a":1} trailing`, "there is more text after the JSON value", "", 8},
		"two values":             {`{"a":1}{"a":2}`, "there is more text after the JSON value", "", 7},
		"a duplicate key":        {`{"a":1,"b":{"c":1,"c":2}}`, "the key is given twice", "/b/c", 18},
		"an escaped duplicate":   {`{"a":1,"\u0061":2}`, "the key is given twice", "/a", 7},
		"truncated":              {`{"a":[1,2`, "the text ends before the JSON value does", "/a", 9},
		"a truncated string":     {`{"a":"abc`, "the text ends before the JSON value does", "/a", 9},
		"too deep":               {strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "arrays and objects nest deeper than 128", strings.Repeat("/0", 128), 128},
		"too deep, in objects":   {strings.Repeat(`{"a":`, 100_000), "arrays and objects nest deeper than 128", strings.Repeat("/a", 128), 640},
		"a large exponent":       {`{"score":1E1000001}`, "the exponent of a number is beyond ±400", "/score", 9},
		"1e400":                  {`{"n":1e400}`, "a number is beyond ±1.8e308, the largest that a double can hold", "/n", 5},
		"a negative one":         {`-1.8e308`, "a number is beyond ±1.8e308, the largest that a double can hold", "", 0},
		"a shifted one":          {`1` + strings.Repeat("0", 10) + `e300`, "a number is beyond ±1.8e308, the largest that a double can hold", "", 0},
		"exponent 401":           {`1e401`, "the exponent of a number is beyond ±400", "", 0},
		"exponent -401":          {`[1e-401]`, "the exponent of a number is beyond ±400", "/0", 1},
		"an exponent beyond int": {`1e99999999999999999999`, "the exponent of a number is beyond ±400", "", 0},
		"a long number":          {`{"n":` + strings.Repeat("9", 65) + `}`, "a number is longer than 64 characters", "/n", 5},
	} {
		_, err := schema.Decode([]byte(test.text))
		var syntax *schema.SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%s: got %v, want a *SyntaxError", name, err)
			continue
		}
		if want := (schema.SyntaxError{Offset: test.offset, Pointer: test.pointer, Message: test.message}); *syntax != want {
			t.Errorf("%s: got %+v, want %+v", name, *syntax, want)
		}
	}
}

func TestDecodeRefusesTextThatOnlyLooksLikeJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{a:1}`, `{'a':1}`, `{"a":1,}`, `[1,]`, `[1 2]`, `{"a" 1}`, `01`, `+1`, `.5`, `5.`, `1e`, `0x10`, `NaN`, `Infinity`, `undefined`,
		`True`, `"a` + "\n" + `"`, `"\x"`, `"\ud800"`, "\"\xff\"", "\xef\xbb\xbf{}", "{\"\xc0\xaf\":1}", `// comment` + "\n1", `]`, `}`, `,`, "\x00",
		"```json\n{}\n```",
	} {
		if value, err := schema.Decode([]byte(text)); err == nil {
			t.Errorf("%q: got %v, want an error", text, value)
		} else if text := err.Error(); !strings.Contains(text, "byte") {
			t.Errorf("%q: the error does not say where: %v", text, err)
		}
	}
}

// Package encoding/json is the judge of what is JSON; Decode may only be stricter.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,2.5e3,"x\n",null,true,{"b":{}}]}`, `{"score":1E1000001}`, `{"a":1,"a":2}`, `[[[[[]]]]]`, `{"a":1} x`, `"\ud83d\ude00"`,
		`"\ud800"`, "\"\xff\"", `-0`, `1e401`, ``, ` `, `{"":0}`, `[1,]`, strings.Repeat("[", 200),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		value, err := schema.Decode(raw)
		if err != nil {
			var syntax *schema.SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(raw) || syntax.Message == "" {
				t.Fatalf("%q: %#v is not a good error", raw, err)
			}
			return
		}
		if !utf8.Valid(raw) {
			t.Fatalf("%q: took invalid UTF-8", raw)
		}
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var want any
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("%q: took what encoding/json refuses: %v", raw, err)
		}
		if !reflect.DeepEqual(value, want) {
			t.Fatalf("%q: got %#v, encoding/json has %#v", raw, value, want)
		}
	})
}

func ExampleDecode() {
	_, err := schema.Decode([]byte(`{"id":1,"id":2}`))
	fmt.Println(err)
	// Output: the key is given twice (at /id, byte 8)
}
