package schema_test

import (
	"strings"
	"testing"

	"spillway/pkg/schema"
)

const floodable = `{"type":"array","items":{"$ref":"#/$defs/p"},"$defs":{"p":{"type":"object","additionalProperties":false,"required":["id"],
	"properties":{"id":{"type":"integer"},"note":{"type":["string","null"]},"any":{},"none":false,"deep":{"type":"array","items":{"type":"boolean"}}}}}}`

// There may be a fault for each value of a large answer: the search ends, and says so.
func TestOfAFloodOfFaultsTheFirstAreTold(t *testing.T) {
	t.Parallel()
	s := mustCompile(t, floodable)
	for item, want := range map[string]string{
		`{"id":"x"}`: `/0/id: must be an integer, got "x"`, `{}`: "/0/id: is required, but missing", `1`: "/0: must be an object, got 1",
		`{"id":1,"x":0}`: "/0/x: is not a known property: leave it out, got 0", `{"id":1,"deep":[1]}`: "/0/deep/0: must be a boolean, got 1",
	} {
		for n, more := range map[int]string{64: "", 65: "and 1 more", 1000: "and 936 more", 1001: "and more than 937 more", 9000: "and more than 937 more"} {
			got := s.Validate(mustDecode(t, "["+strings.Repeat(item+",", n-1)+item+"]"))
			if got[0].String() != want {
				t.Errorf("%s: %s", item, got[0])
			}
			if last := got[len(got)-1]; more != "" && (last.Rule != "more" || last.Message != more) || more == "" && last.Rule == "more" {
				t.Errorf("%d of %s: %s", n, item, last)
			}
		}
	}
}

func TestWhatIsSparedIsKeptAndDoesNotCount(t *testing.T) {
	t.Parallel()
	value := mustDecode(t, "["+strings.Repeat(`{"id":"1"},`, 5000)+`{"id":1,"x":2}]`)
	r := mustCompile(t, floodable).Check(value, func(f schema.Fault) bool { return f.Rule == "type" && f.Value == "1" })
	rules := map[string]int{}
	r.Each(func(f schema.Fault) { rules[f.Rule]++ })
	if r.IsCut() || r.Satisfied() || rules["type"] != 5000 || rules["additionalProperties"] != 1 {
		t.Errorf("cut %t, %v", r.IsCut(), rules)
	}
}
