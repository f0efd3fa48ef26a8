package expr_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/pkg/expr"
	"spillway/pkg/schema"
)

func decode(t testing.TB, text string) any {
	t.Helper()
	value, err := schema.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func vars(t testing.TB) expr.Vars {
	t.Helper()
	return expr.Vars{
		Input: decode(t, `{"message":"My card is BLOCKED","count":3,"index":1,"list":["a","b"],"id":9007199254740993,
			"null":null,"nested":{"a":{"b":1}},"neg":-2,"frac":0.5,"whole":2.0}`),
		Output: decode(t, `{"intent":"support","urgency":1,"score":0.25,"id":9007199254740992}`),
		State:  map[string]any{"intent": "exchange"},
	}
}

func compile(t testing.TB, src string) *expr.Program {
	t.Helper()
	program, err := expr.Compile(src)
	if err != nil {
		t.Fatalf("compile %q: %v", src, err)
	}
	return program
}

func TestConditionsSeeTheFourVariables(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]bool{
		`state.intent == "exchange"`:                               true,
		`input.message.matches("(?i)refund|blocked|fraud")`:        true,
		`input.message.matches("refund")`:                          false,
		`output.intent != "support" || has(output.suggestedRoute)`: false,
		`has(output.suggestedRoute)`:                               false,
		`has(input.nested.a.b)`:                                    true,
		`has(session.id)`:                                          false,
		`input["null"] == null`:                                    true,
		`"a" in input.list`:                                        true,
		`input.list[input.index] == "b"`:                           true,
		`input.list.exists(x, x == "b")`:                           true,
		`size(input.list) == 2`:                                    true,
		`output.intent in ["inquiry", "support"]`:                  true,
		`type(input.list) == list`:                                 true,
		`input.nested == {"a": {"b": 1}}`:                          true,
		`input.nested.a.b == 1 && input.nested.a.b == 1.0`:         true,
		`output.id != input.id`:                                    true,
		`false && state.nothing`:                                   false,
		`state.nothing == 1 || true`:                               true,
	} {
		t.Run(src, func(t *testing.T) {
			got, err := compile(t, src).Bool(vars(t))
			if err != nil || got != want {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
		})
	}
}

// JSON does not tell 1 from 1.0, so no expression may depend on how a model wrote a number.
func TestNumbersMixWithLiteralsHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, one := range []string{`1`, `1.0`, `1e0`, `10e-1`} {
		v := expr.Vars{Output: decode(t, `{"n":`+one+`,"list":["a","b"]}`)}
		for _, src := range []string{
			`output.n + 1 == 2`, `1 + output.n == 2`, `output.n + 0.5 == 1.5`, `output.n * 2.0 > 1`, `2 * output.n == 2`,
			`output.n / 2 == 0.5`, `output.n - 1 == 0`, `3 - output.n * 0.5 == 2.5`, `output.n < 2 && output.n < 1.5`,
			`output.n >= 1 && output.n <= 1`, `output.n % 2 == 1`, `-output.n == -1`, `output.n in [1, 2]`,
			`size(output.list) == output.n + 1`, `size(output.list) - output.n == 1`, `output.list[output.n] == "b"`,
			`int(output.n) == 1`, `string(output.n) == "1"`, `1 / 2 + output.n == 1`,
		} {
			got, err := compile(t, src).Bool(v)
			if err != nil || !got {
				t.Errorf("%s with n = %s: got %v, %v; want true", src, one, got, err)
			}
		}
	}
}

func TestOtherOperandsOfArithmeticStayAsInCEL(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`"a" + "b"`:                       `"ab"`,
		`[1] + [2]`:                       `[1,2]`,
		`input.list + ["c"]`:              `["a","b","c"]`,
		`7 / 2`:                           `3`,
		`7 % 4`:                           `3`,
		`duration("1m") + duration("1s")`: `"1m1s"`,
		`timestamp("2026-01-01T00:00:00Z") - duration("1h")`: `"2025-12-31T23:00:00Z"`,
	} {
		got, err := compile(t, src).Value(vars(t))
		text, _ := json.Marshal(got)
		if err != nil || string(text) != want {
			t.Errorf("%s: got %s, %v; want %s", src, text, err, want)
		}
	}
	for _, src := range []string{`"a" + 1`, `input.message + 1`, `input.message % 2`, `1 / 0`, `output.urgency % 0`, `input.list - 1`, `true + 1`} {
		program, err := expr.Compile(src)
		if err != nil {
			continue
		}
		if got, err := program.Value(vars(t)); err == nil {
			t.Errorf("%s: got %v, want an error", src, got)
		}
	}
}

func TestValuesAreAsDecodedFromJSON(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`output.intent`:      `"support"`,
		`output.score`:       `0.25`,
		`output.urgency + 1`: `2`,
		`input.id`:           `9007199254740993`,
		`input.nested`:       `{"a":{"b":1}}`,
		`input.list`:         `["a","b"]`,
		`{"a": input.list, "b": null, "c": [1.5]}`: `{"a":["a","b"],"b":null,"c":[1.5]}`,
		`input.list.map(x, x + "!")`:               `["a!","b!"]`,
		`output.intent == "support" ? 1 : 2`:       `1`,
		`0.5e-9`:                                   `5e-10`,
	} {
		got, err := compile(t, src).Value(vars(t))
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if !reflect.DeepEqual(got, decode(t, want)) {
			t.Errorf("%s: got %#v, want %s", src, got, want)
		}
	}
}

func TestAResultWithoutAFormInJSONIsAnError(t *testing.T) {
	t.Parallel()
	for _, src := range []string{`1.0 / 0.0`, `type(1)`, `{1: 2}`} {
		if got, err := compile(t, src).Value(expr.Vars{}); err == nil {
			t.Errorf("%s: got %v, want an error", src, got)
		}
	}
}

func TestAMissingKeyIsToldFromOtherErrors(t *testing.T) {
	t.Parallel()
	for src, missing := range map[string]bool{
		`state.step == "x"`:          true,
		`output.a.b == 1`:            true,
		`input["absent"] == 1`:       true,
		`input.nested.absent.b == 1`: true,
		`input.message > 1`:          false,
		`input.list[7] == "x"`:       false,
		`input.message`:              false,
	} {
		_, err := compile(t, src).Bool(vars(t))
		if err == nil || errors.Is(err, expr.ErrMissing) != missing {
			t.Errorf("%s: got %v, want an error, of a missing key: %v", src, err, missing)
		}
	}
}

func TestFaultsCarryLineAndColumn(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`inputs.x == 1`:             "1:1: undeclared reference to 'inputs'",
		"state.a == 1 &&\n  foo(1)": "2:6: undeclared reference to 'foo'",
		`state.a ==`:                "1:11: Syntax error",
		`"a".matches("(")`:          "1:1: error parsing regexp",
		``:                          "1:1: Syntax error",
	} {
		_, err := expr.Compile(src)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s…", src, err, want)
			continue
		}
		if _, ok := errors.AsType[*expr.Error](err); !ok {
			t.Errorf("%q: %T is no *expr.Error", src, err)
		}
	}
}

func TestIsBoolTellsWhetherAConditionIsOne(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]bool{`state.a`: true, `1 < 2`: true, `"a"`: false, `size(input)`: false} {
		if got := compile(t, src).IsBool(); got != want {
			t.Errorf("%s: got %v", src, got)
		}
	}
	if src := `state.a  == 1`; compile(t, src).String() != src {
		t.Error("String is not the source")
	}
}

func TestAPatternIsTheAuthorsOwn(t *testing.T) {
	t.Parallel()
	for src, column := range map[string]int{
		`input.text.matches(output.text)`:                             26,
		`matches(output.text, input.text + "$")`:                      33,
		`true && input.list.all(x, x.matches(string(state.pattern)))`: 43,
	} {
		_, err := expr.Compile(src)
		fault, ok := errors.AsType[*expr.Error](err)
		if !ok || fault.Line != 1 || fault.Column != column || !strings.Contains(fault.Message, "the pattern of matches must be a text in the expression itself") {
			t.Errorf("%s: %v", src, err)
		}
	}
	if ok, err := compile(t, `matches("b", "^[a-c]$") && "/x".matches("^/[a-z]+$")`).Bool(expr.Vars{}); !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestNoExpressionRunsAway(t *testing.T) {
	t.Parallel()
	items := make([]any, 20_000)
	for i := range items {
		items[i] = json.Number(fmt.Sprint(i))
	}
	v := expr.Vars{Input: map[string]any{"list": items, "text": strings.Repeat("ab", 1<<17)}}
	program := compile(t, `input.list.all(a, input.list.all(b, input.list.all(c, a + b + c >= 0)))`)
	start := time.Now()
	_, err := program.Bool(v)
	if err == nil || !strings.Contains(err.Error(), "cost limit exceeded") {
		t.Errorf("got %v, want the cost limit", err)
	}
	t.Logf("stopped after %v", time.Since(start))
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("stopped only after %v", took)
	}
	// The largest input that a request can have may still be searched.
	if got, err := compile(t, `input.text.matches("(?i)refund|blocked|fraud")`).Bool(v); err != nil || got {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAProgramRunsConcurrently(t *testing.T) {
	t.Parallel()
	program := compile(t, `input.list.exists(x, x == "b") && output.urgency + 1 == 2`)
	v := vars(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if ok, err := program.Bool(v); !ok || err != nil {
					t.Errorf("got %v, %v", ok, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func ExampleProgram_Bool() {
	program, err := expr.Compile(`output.intent != "support" || has(output.suggestedRoute)`)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(program.Bool(expr.Vars{Output: map[string]any{"intent": "support"}}))
	// Output: false <nil>
}
