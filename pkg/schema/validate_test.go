package schema_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/pkg/schema"
)

const onboardingLike = `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{
	"intent":{"type":"string","enum":["exchange","inquiry","support"]},"urgency":{"type":"number","minimum":0,"maximum":1},
	"suggestedRoute":{"type":"string"}},"required":["intent","urgency"],"additionalProperties":false}`

func TestAViolationSaysWhatIsDemandedWhereAndWhatCame(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 100)
	for _, test := range []struct {
		schema, value string
		want          []schema.Violation
	}{
		{onboardingLike, `{"intent":"exchange","urgency":1}`, nil},
		{onboardingLike, `{"intent":"supp","urgency":0.9}`, []schema.Violation{{"/intent", `must be one of "exchange", "inquiry", "support"`, `"supp"`, "enum"}}},
		{onboardingLike, `{"urgency":-0.5,"mood":{"b":1,"a":[]}}`, []schema.Violation{
			{"/intent", "is required, but missing", "", "required"},
			{"/mood", "is not a known property: leave it out", `{"a":[],"b":1}`, "additionalProperties"},
			{"/urgency", "must be at least 0", "-0.5", "minimum"},
		}},
		{onboardingLike, `{"intent":null,"urgency":"high"}`, []schema.Violation{
			{"/intent", "must be a string", "null", "type"}, {"/urgency", "must be a number", `"high"`, "type"},
		}},
		{onboardingLike, `[]`, []schema.Violation{{"", "must be an object", "[]", "type"}}},
		{`{"type":["string","null"]}`, `1`, []schema.Violation{{"", "must be a string or null", "1", "type"}}},
		{`{"type":["string","integer","null"]}`, `1.5`, []schema.Violation{{"", "must be a string, an integer or null", "1.5", "type"}}},
		{`{"minLength":10}`, `"añb"`, []schema.Violation{{"", "must have at least 10 characters, has 3", `"añb"`, "minLength"}}},
		{`{"maxLength":1}`, `"` + long + `"`, []schema.Violation{{"", "must have at most 1 character, has 100", `"` + strings.Repeat("é", 30) + "…", "maxLength"}}},
		{`{"items":{"const":1}}`, `[1,2]`, []schema.Violation{{"/1", "must be 1", "2", "const"}}},
		{`{"minItems":1}`, `[]`, []schema.Violation{{"", "must have at least 1 item, has 0", "[]", "minItems"}}},
		{`{"maxItems":1}`, `[1,2]`, []schema.Violation{{"", "must have at most 1 item, has 2", "[1,2]", "maxItems"}}},
		{`{"uniqueItems":true}`, `[1,2,1.0]`, []schema.Violation{{"", "must have no equal items: those at 0 and 2 are", "[1,2,1.0]", "uniqueItems"}}},
		{`{"contains":{"const":1}}`, `[]`, []schema.Violation{{"", "must have at least one item of the demanded form", "[]", "contains"}}},
		{`{"items":[true],"additionalItems":false}`, `[1,2]`, []schema.Violation{{"", "has more items than are allowed", "[1,2]", "additionalItems"}}},
		{`{"minProperties":2}`, `{"a":1}`, []schema.Violation{{"", "must have at least 2 properties, has 1", `{"a":1}`, "minProperties"}}},
		{`{"maxProperties":0}`, `{"a":1}`, []schema.Violation{{"", "must have at most 0 properties, has 1", `{"a":1}`, "maxProperties"}}},
		{`{"pattern":"^a+$"}`, `"b"`, []schema.Violation{{"", "must match the pattern ^a+$", `"b"`, "pattern"}}},
		{`{"format":"email"}`, `"Joe <joe@example.com>"`, []schema.Violation{{"", "must be a valid email", `"Joe <joe@example.com>"`, "format"}}},
		{`{"exclusiveMinimum":0.1}`, `0.1`, []schema.Violation{{"", "must be greater than 0.1", "0.1", "exclusiveMinimum"}}},
		{`{"exclusiveMaximum":9007199254740991}`, `9007199254740991`, []schema.Violation{{"", "must be less than 9007199254740991", "9007199254740991", "exclusiveMaximum"}}},
		{`{"multipleOf":0.01}`, `0.015`, []schema.Violation{{"", "must be a multiple of 0.01", "0.015", "multipleOf"}}},
		{`{"dependencies":{"a":["b"]}}`, `{"a":1}`, []schema.Violation{{"/b", "is required beside another property, but missing", "", "dependencies"}}},
		{`{"propertyNames":{"pattern":"^a"}}`, `{"b/~":1}`, []schema.Violation{{"/b~1~0", "is not an allowed name of a property", `{"b/~":1}`, "propertyNames"}}},
		{`{"not":{"type":"string"}}`, `"a"`, []schema.Violation{{"", "has a form that is not allowed", `"a"`, "not"}}},
		{`{"properties":{"a":false}}`, `{"a":1}`, []schema.Violation{{"/a", "is not allowed here", "1", "false"}}},
		{`{"allOf":[{"minimum":2},{"minimum":2}]}`, `1`, []schema.Violation{{"", "must be at least 2", "1", "minimum"}}},
		{`{"if":true,"then":{"minimum":2}}`, `1`, []schema.Violation{{"", "must be at least 2", "1", "minimum"}}},
		{`{"properties":{"a.b":{"properties":{"c/d~e":{"required":["f/g"]}}}}}`, `{"a.b":{"c/d~e":{}}}`, []schema.Violation{{"/a.b/c~1d~0e/f~1g", "is required, but missing", "", "required"}}},
	} {
		got := mustCompile(t, test.schema).Validate(mustDecode(t, test.value))
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s\n of %s\n got %#v\nwant %#v", test.value, test.schema, got, test.want)
		}
		for _, v := range got {
			if len(v.Got) > schema.MaxGot {
				t.Errorf("%q is longer than %d bytes", v.Got, schema.MaxGot)
			}
		}
	}
}

func TestLongEnumerationsAreCut(t *testing.T) {
	t.Parallel()
	var words []string
	for i := range 500 {
		words = append(words, fmt.Sprintf("wörd-%d", i))
	}
	list, _ := json.Marshal(words)
	got := mustCompile(t, `{"enum":`+string(list)+`}`).Validate("x")
	if len(got) != 1 || len(got[0].Message) > 512 || !strings.HasSuffix(got[0].Message, "…") {
		t.Errorf("got %d bytes: %v", len(got[0].Message), got)
	}
}

func TestManyViolationsAreCounted(t *testing.T) {
	t.Parallel()
	text := `[` + strings.Repeat(`0,`, 100_000) + `0]`
	start := time.Now()
	got := mustCompile(t, `{"items":{"type":"string"}}`).Validate(mustDecode(t, text))
	t.Logf("100,001 violations took %v", time.Since(start))
	if len(got) != schema.MaxViolations+1 || got[schema.MaxViolations].String() != "and more than 937 more" {
		t.Errorf("got %d, the last %v", len(got), got[len(got)-1])
	}
}

// Values that Decode refuses must not end the process either, should they come another way.
func TestAPanicOfTheValidatorIsAViolation(t *testing.T) {
	t.Parallel()
	compiled := mustCompile(t, `{"properties":{"score":{"multipleOf":1}}}`)
	got := compiled.Validate(map[string]any{"score": json.Number("1E1000001")})
	if len(got) != 1 || got[0].Rule != "internal" || !strings.HasPrefix(got[0].Message, "the value can not be checked: ") {
		t.Errorf("got %v", got)
	}
	if again := compiled.Validate(mustDecode(t, `{"score":1}`)); again != nil {
		t.Errorf("afterwards: %v", again)
	}
}

func TestTheLargestNumbersThatDecodeTakesAreChecked(t *testing.T) {
	t.Parallel()
	compiled := mustCompile(t, `{"items":{"type":"number","minimum":0,"multipleOf":0.5,"maximum":1e308}}`)
	if got := compiled.Validate(mustDecode(t, `[1e308,1e307,0.5,5e-1]`)); got != nil {
		t.Errorf("got %v", got)
	}
	if got := compiled.Validate(mustDecode(t, `[1e-400]`)); len(got) != 1 || got[0].Rule != "multipleOf" {
		t.Errorf("got %v", got)
	}
}

func TestASchemaIsUsedConcurrently(t *testing.T) {
	t.Parallel()
	compiled := mustCompile(t, onboardingLike)
	good, bad := mustDecode(t, `{"intent":"support","urgency":0.5}`), mustDecode(t, `{"intent":"supp","urgency":2,"x":1}`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got := compiled.Validate(good); got != nil {
					t.Errorf("good: %v", got)
				}
				if got := compiled.Validate(bad); len(got) != 3 {
					t.Errorf("bad: %v", got)
				}
				if _, err := schema.Compile([]byte(onboardingLike)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestValidateLeavesTheValueAlone(t *testing.T) {
	t.Parallel()
	const text = `{"a":[1.0,{"b":null}],"c":"x"}`
	value := mustDecode(t, text)
	mustCompile(t, `{"type":"object","required":["z"],"properties":{"a":{"items":{"type":"string"}}}}`).Validate(value)
	if !reflect.DeepEqual(value, mustDecode(t, text)) {
		t.Errorf("the value became %v", value)
	}
}

func ExampleSchema_Validate() {
	compiled, err := schema.Compile([]byte(`{"properties":{"intent":{"enum":["exchange","inquiry","support"]}},"required":["urgency"]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	value, _ := schema.Decode([]byte(`{"intent":"supp"}`))
	for _, violation := range compiled.Validate(value) {
		fmt.Println(violation)
	}
	// Output:
	// /intent: must be one of "exchange", "inquiry", "support", got "supp"
	// /urgency: is required, but missing
}

func BenchmarkValidate(b *testing.B) {
	compiled := mustCompile(b, onboardingLike)
	value := mustDecode(b, `{"intent":"support","urgency":0.5,"suggestedRoute":"/support"}`)
	for b.Loop() {
		if compiled.Validate(value) != nil {
			b.Fatal("not valid")
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	text := []byte(`{"items":[` + strings.Repeat(`{"intent":"support","urgency":0.5,"suggestedRoute":"/support"},`, 100) + `null]}`)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := schema.Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAValueThatCanNotBeCheckedSatisfiesNothing(t *testing.T) {
	t.Parallel()
	r := new(schema.Schema).Check(1, nil) // there is nothing to check it by
	if v := r.Violations(); r.Satisfied() || len(v) != 1 || v[0].Rule != "internal" {
		t.Errorf("%v", v)
	}
}

// gojsonschema tells -0 from 0 in an enumeration, and has the last word.
func TestWhatTheLibraryAloneRefusesIsToldWithItsPlace(t *testing.T) {
	t.Parallel()
	got := mustCompile(t, `{"properties":{"a/b":{"items":{"enum":[0,1]}}}}`).Validate(mustDecode(t, `{"a/b":[1,-0]}`))
	want := "/a~1b/1: does not satisfy the schema: a/b.1 must be one of the following: 0, 1, got -0"
	if len(got) != 1 || got[0].String() != want || got[0].Rule != "internal" {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestAnExpressionWithinAnAnswerIsReadAtLittleCost(t *testing.T) {
	t.Parallel()
	s := mustCompile(t, `{"items":{"format":"regex"}}`)
	for text, want := range map[string]bool{`^[a-z]+$`: true, `(?i)a|b`: true, `(`: false, `(?=a)`: false, strings.Repeat("a", 10_000): true} {
		if got := s.Validate([]any{text}); (got == nil) != want {
			t.Errorf("%.20s: %v", text, got)
		}
	}
	large := strings.Repeat(`\pL`, 1<<20/3)
	started := time.Now()
	if got := s.Validate([]any{large}); len(got) != 1 || got[0].Pointer != "/0" {
		t.Errorf("%v", got)
	}
	if bytes := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Validate([]any{large})
		}
	}).AllocedBytesPerOp(); bytes > 1<<20 {
		t.Errorf("a megabyte of an expression takes %d MB, and %v", bytes>>20, time.Since(started))
	}
}
