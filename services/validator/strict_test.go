package validator

import (
	"encoding/json"
	"os"
	"testing"
)

// form is what of a strict schema says which properties a value has.
type form struct {
	Ref        string           `json:"$ref"`
	AnyOf      []*form          `json:"anyOf"`
	Properties map[string]*form `json:"properties"`
	Items      *form            `json:"items"`
	Const      any              `json:"const"`
	Defs       map[string]*form `json:"$defs"`
	Old        map[string]*form `json:"definitions"`
}

// target is what a reference means.
func (f *form) target(root *form) *form {
	if f.Ref == "#" {
		return root
	}
	for _, defs := range []map[string]*form{root.Defs, root.Old} {
		for name, def := range defs {
			if f.Ref == "#/$defs/"+name || f.Ref == "#/definitions/"+name {
				return def
			}
		}
	}
	return f
}

// completed is a value as a model in strict mode gives it: with null for each property that it has not. It changes value.
func (f *form) completed(root *form, value any) any {
	if f == nil {
		return value
	}
	f = f.target(root)
	for _, one := range f.AnyOf {
		if one.means(root, value) {
			return one.completed(root, value)
		}
	}
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = f.Items.completed(root, v[i])
		}
	case map[string]any:
		for name, property := range f.Properties {
			v[name] = property.completed(root, v[name])
		}
	}
	return value
}

// means reports whether the value is of the form, by its names and constants.
func (f *form) means(root *form, value any) bool {
	f = f.target(root)
	switch v := value.(type) {
	case []any:
		return f.Items != nil
	case map[string]any:
		for name, member := range v {
			property, has := f.Properties[name]
			if !has || property.Const != nil && property.Const != member {
				return false
			}
		}
		return f.Properties != nil
	}
	return false
}

// The schemas and their good values are those of generators; the verdicts on the latter are ajv's.
func TestAnAnswerInStrictModeIsTheOneThatTheTaskAskedFor(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../pkg/schema/testdata/generated.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Name, Fault string
		Schema      json.RawMessage
		Values      []struct {
			Value json.RawMessage
			Valid bool
		}
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	asked, dropped := 0, 0
	for _, one := range all {
		if one.Fault != "" {
			continue
		}
		tk := taskOf(t, string(one.Schema))
		tk.Output.ProviderSchema = "auto"
		sent := tk.ResponseFormat()
		if !sent.Strict {
			continue
		}
		strict := compile(t, string(sent.Schema))
		var root form
		if err := json.Unmarshal(sent.Schema, &root); err != nil {
			t.Fatal(err)
		}
		for _, row := range one.Values {
			var value any
			if err := json.Unmarshal(row.Value, &value); err != nil {
				t.Fatal(err)
			}
			answer, err := json.Marshal(root.completed(&root, value))
			if err != nil {
				t.Fatal(err)
			}
			// Names that the task's schema does not mention it allows, and strict mode does not.
			faults := strict.Validate(decoded(t, answer))
			if !row.Valid || len(faults) == 1 && faults[0].Rule == "additionalProperties" {
				continue
			}
			asked++
			if faults != nil {
				t.Errorf("%s: strict mode does not let the model say %s: %v: %s", one.Name, answer, faults, sent.Schema)
			}
			v := judged(t, tk, string(answer))
			if v.Outcome != Valid {
				t.Errorf("%s: %s is %s: %v", one.Name, answer, v.Outcome, v.Faults)
			}
			if v.Notes != nil {
				dropped++
			}
		}
	}
	if asked < 30 || dropped < 5 {
		t.Errorf("%d values asked for, of %d a null was dropped", asked, dropped)
	}
}
