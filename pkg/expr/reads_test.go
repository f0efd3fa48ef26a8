package expr_test

import (
	"reflect"
	"testing"

	"spillway/pkg/expr"
)

func TestAnExpressionSaysWhatItReads(t *testing.T) {
	t.Parallel()
	for source, want := range map[string][]expr.Read{
		`true`:                   nil,
		`output.urgency > 0.5`:   {{Variable: "output", Path: []string{"urgency"}}},
		`size(input) > 1`:        {{Variable: "input"}},
		`has(output.a.b)`:        {{Variable: "output", Path: []string{"a", "b"}}},
		`input["a"].b == "x"`:    {{Variable: "input", Path: []string{"a", "b"}, Against: []string{"x"}}},
		`"x" != state.mood`:      {{Variable: "state", Path: []string{"mood"}, Against: []string{"x"}}},
		`input.a in ["x", "y"]`:  {{Variable: "input", Path: []string{"a"}, Against: []string{"x", "y"}}},
		`input.a[0].b == "x"`:    {{Variable: "input", Path: []string{"a"}}},
		`input[output.a] == "x"`: {{Variable: "input"}, {Variable: "output", Path: []string{"a"}}},
		`output.items.all(i, i.price > session.turns)`: {
			{Variable: "output", Path: []string{"items"}}, {Variable: "session", Path: []string{"turns"}},
		},
	} {
		program, err := expr.Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if got := program.Reads(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s reads %+v, want %+v", source, got, want)
		}
	}
}
