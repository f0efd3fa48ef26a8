package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"spillway/pkg/schema"
)

const floodable = `{"type":"array","items":{"$ref":"#/$defs/p"},"$defs":{"p":{"type":"object","additionalProperties":false,"required":["id"],
	"properties":{"id":{"type":"integer"},"note":{"type":["string","null"]},"any":{},"none":false,"deep":{"type":"array","items":{"type":"boolean"}}}}}}`

func spareNone(any, bool) bool { return false }

func TestAFloodOfFaultsIsSeenAndItsFirstAreThoseOfTheValidation(t *testing.T) {
	t.Parallel()
	s := mustCompile(t, floodable)
	for _, item := range []string{`{"id":"x"}`, `{}`, `{"id":1,"x":0}`, `{"id":1,"note":1}`, `{"id":null,"deep":[true]}`, `1`, `{"id":1,"deep":[1]}`, `{"id":1,"deep":{}}`} {
		value, err := schema.Decode([]byte("[" + strings.Repeat(item+",", 50) + item + "]"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		for _, v := range s.Validate(value) {
			want[v.String()] = true
		}
		got := s.Flood(value, 50, spareNone)
		if len(got) != 52 || got[51].Rule != "more" || len(want) != 51 {
			t.Errorf("%s: %d faults, validation has %d: %v", item, len(got), len(want), got)
			continue
		}
		for _, v := range got[:51] {
			if !want[v.String()] {
				t.Errorf("%s: %s is not in %v", item, v, want)
			}
		}
		if got := s.Flood(value, 51, spareNone); got != nil {
			t.Errorf("%s: 51 faults are no flood over 51: %v", item, got)
		}
	}
}

func TestWhatSatisfiesASchemaOrMightIsNoFlood(t *testing.T) {
	t.Parallel()
	for source, item := range map[string]string{
		floodable: `{"id":1.0,"note":null,"any":[{}],"deep":[true,false]}`,
		`{"items":{"properties":{"a":true},"patternProperties":{"^x":{}},"additionalProperties":false}}`: `{"x1":1,"x2":2}`,
		`{"items":[{"type":"string"}]}`:                              `"a"`,
		`{"items":{"anyOf":[{"type":"string"},{"type":"integer"}]}}`: `1`,
		`{"items":{"type":["number","object"]}}`:                     `1.5`,
	} {
		text := "[" + item + "]"
		s := mustCompile(t, source)
		value, err := schema.Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Validate(value); got != nil {
			t.Fatalf("the test is wrong: %v", got)
		}
		if got := s.Flood(value, 0, spareNone); got != nil {
			t.Errorf("%s: %v", item, got)
		}
	}
}

func TestWhatIsSparedIsNoFault(t *testing.T) {
	t.Parallel()
	value, err := schema.Decode([]byte(`[{"id":"1","x":2}]`))
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	got := mustCompile(t, floodable).Flood(value, 0, func(v any, unknown bool) bool {
		asked = append(asked, fmt.Sprintf("%v %t", v, unknown))
		return true
	})
	if got != nil || strings.Join(asked, " ") != "1 false 2 true" {
		t.Errorf("%v, asked %q", got, asked)
	}
}
