package schema

import (
	"strings"
	"testing"
)

func compiled(t *testing.T, document string) *Schema {
	t.Helper()
	s, err := Compile([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The walk is blinded: what is refused, gojsonschema refuses.
func TestWhatTheWalkTakesGojsonschemaJudges(t *testing.T) {
	t.Parallel()
	s := compiled(t, `{"type":"object","required":["a"]}`)
	s.root = &node{length: unlimited(), items: unlimited(), members: unlimited()}
	value, err := Decode([]byte(`{"b":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Validate(value); len(got) != 1 || !strings.Contains(got[0].Message, "a is required") {
		t.Errorf("%v", got)
	}
}

func TestGojsonschemaIsSparedWhatItWouldNotEnd(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		document string
		spared   bool
	}{
		"flat":                         {`{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}]}}}`, false},
		"a list that refers to itself": {`{"properties":{"next":{"$ref":"#"}}}`, false},
		"a tree of forms":              {`{"anyOf":[{"type":"null"},{"properties":{"left":{"$ref":"#"}}}]}`, true},
		"two patterns for one name":    {`{"patternProperties":{"a":{"$ref":"#"},"^a":{"$ref":"#"}}}`, true},
		"one definition, used often":   {`{"properties":{"a":{"$ref":"#/definitions/x"},"b":{"$ref":"#/definitions/x"}},"definitions":{"x":{"oneOf":[{"type":"string"},{"type":"null"}]}}}`, false},
	} {
		if s := compiled(t, row.document); (s.library == nil) != row.spared {
			t.Errorf("%s: spared %v", name, s.library == nil)
		}
	}
}
