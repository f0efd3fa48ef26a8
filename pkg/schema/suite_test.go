package schema_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"spillway/pkg/schema"
)

// suiteGroup is a schema of the JSON-Schema-Test-Suite and the values that do and do not satisfy it.
type suiteGroup struct {
	Description string
	Schema      json.RawMessage
	Tests       []struct {
		Description string
		Data        json.RawMessage
		Valid       bool
	}
}

func suite(t *testing.T, pattern string) map[string][]suiteGroup {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "suite", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	groups := map[string][]suiteGroup{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var content []suiteGroup
		if err := json.Unmarshal(raw, &content); err != nil {
			t.Fatal(err)
		}
		groups[strings.TrimSuffix(filepath.Base(file), ".json")] = content
	}
	return groups
}

// declare adds $schema, which the suite leaves out where the folder says it.
func declare(document json.RawMessage, dialect string) []byte {
	if strings.Contains(string(document), `"$schema"`) || document[0] != '{' || dialect == "" {
		return document
	}
	rest := strings.TrimSpace(string(document[1:]))
	if rest != "}" {
		rest = "," + rest
	}
	return []byte(`{"$schema":"http://json-schema.org/` + dialect + `/schema#"` + rest)
}

// The point of the whole package: a schema is refused, or it is checked right. Never accepted and not checked.
func TestASchemaOfTheSuiteIsRefusedOrCheckedRight(t *testing.T) {
	t.Parallel()
	for folder, dialect := range map[string]string{"draft4": "draft-04", "draft7": "draft-07", "draft2020-12": ""} {
		accepted, refused := 0, 0
		for file, groups := range suite(t, folder+"/*.json") {
			if folder == "draft2020-12" && file == "format" {
				continue // there a format is an annotation by default; here it is checked
			}
			for _, group := range groups {
				name := folder + "/" + file + "/" + group.Description
				compiled, err := schema.Compile(declare(group.Schema, dialect))
				if err != nil {
					refused++
					if dialect == "draft-07" && !mayBeRefused(file, group.Description) {
						t.Errorf("%s: refused: %v", name, err)
					}
					continue
				}
				accepted++
				checkGroup(t, name, compiled, group)
			}
		}
		t.Logf("%s: %d schemas checked right, %d refused", folder, accepted, refused)
	}
}

// mayBeRefused are the groups of draft 7 that need what is refused on purpose: foreign references, ids,
// keywords beside $ref, bounds that are written as decimals (gojsonschema takes none), and formats without a checker.
func mayBeRefused(file, description string) bool {
	return slices.Contains([]string{"ref", "refRemote", "definitions"}, file) || strings.HasSuffix(description, "with a decimal") ||
		slices.Contains([]string{"idn-hostname format", "uri-template format"}, description)
}

func checkGroup(t *testing.T, name string, compiled *schema.Schema, group suiteGroup) {
	t.Helper()
	for _, test := range group.Tests {
		value, err := schema.Decode(test.Data)
		if err != nil {
			t.Errorf("%s: %s: %v", name, test.Description, err)
			continue
		}
		if violations := compiled.Validate(value); (violations == nil) != test.Valid {
			t.Errorf("%s: %s: want valid %v, got %v", name, test.Description, test.Valid, violations)
		}
	}
}

func TestFormatsAreCheckedAsTheSuiteSays(t *testing.T) {
	t.Parallel()
	// Where we are more lenient than the suite, on purpose or because of package mail.
	lenient := []string{
		"no time offset", "no time offset with second fraction", // see isTime
		"fractional duration is not allowed by RFC 3339 ABNF", "a comma as the decimal separator is invalid",
		"years and days cannot appear without months", "hours and seconds cannot appear without minutes",
		"an invalid domain",
		"an IPv6-address-literal after the @ is valid",
	}
	for format, groups := range suite(t, "format/*.json") {
		for _, group := range groups {
			group.Tests = slices.DeleteFunc(group.Tests, func(test struct {
				Description string
				Data        json.RawMessage
				Valid       bool
			},
			) bool {
				return slices.Contains(lenient, test.Description)
			})
			compiled, err := schema.Compile(group.Schema)
			if err != nil {
				if format != "unknown" {
					t.Errorf("%s: %v", format, err)
				}
				continue
			}
			checkGroup(t, format, compiled, group)
		}
	}
}
