package schema_test

import (
	"encoding/json"
	"os"
	"testing"

	"spillway/pkg/schema"
)

// emitted is a schema as a generator emits it: why it does not load, or values with the verdicts of another validator.
// See testdata/generated.
type emitted struct {
	Name   string
	Schema json.RawMessage
	Fault  string
	Values []struct {
		Value json.RawMessage
		Valid bool
	}
}

func corpus(t *testing.T) (all []emitted) {
	t.Helper()
	text, err := os.ReadFile("testdata/generated.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSchemasOfZodPydanticAndOpenAILoadOrSayExactlyWhy(t *testing.T) {
	t.Parallel()
	all := corpus(t)
	if len(all) < 60 {
		t.Errorf("%d schemas", len(all))
	}
	for _, one := range all {
		compiled, err := schema.Compile(one.Schema)
		if one.Fault != "" {
			if err == nil || err.Error() != one.Fault {
				t.Errorf("%s:\n got %v\nwant %s", one.Name, err, one.Fault)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", one.Name, err)
			continue
		}
		verdicts := map[bool]int{}
		for _, row := range one.Values {
			verdicts[row.Valid]++
			got := compiled.Validate(mustDecode(t, string(row.Value)))
			if (got == nil) != row.Valid || got != nil && got[0].Rule == "internal" {
				t.Errorf("%s: %s: got %v, want valid %v", one.Name, row.Value, got, row.Valid)
			}
		}
		if verdicts[true] == 0 || verdicts[false] == 0 {
			t.Errorf("%s: %v values by verdict, want some of both", one.Name, verdicts)
		}
	}
}
