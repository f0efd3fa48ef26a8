package schema_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xeipuuv/gojsonschema"

	"spillway/pkg/schema"
)

// chooser makes schemas and values of the bytes of a fuzzer, of zeros when they are spent.
type chooser struct{ bytes []byte }

func (c *chooser) pick(n int) int {
	if len(c.bytes) == 0 {
		return 0
	}
	first := int(c.bytes[0])
	c.bytes = c.bytes[1:]
	return first % n
}

func (c *chooser) of(choices ...string) string { return choices[c.pick(len(choices))] }

func (c *chooser) name() string { return c.of("kind", "a", "b", "parts", "x-1") }

func (c *chooser) scalar() string {
	return c.of(`null`, `"a"`, `"b"`, `1`, `0`, `true`, `false`, `1.0`, `-1.5`, `1e1`, `""`, `"x-1"`, `"a@b.ch"`, `"éé"`, `[]`, `{}`, `[1]`, `{"a":1.0}`, `0.1`, `10`)
}

func (c *chooser) value(depth int) string {
	if depth == 0 {
		return c.scalar()
	}
	var parts []string
	switch c.pick(4) {
	case 0:
		for range c.pick(4) {
			parts = append(parts, c.value(depth-1))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case 1, 2:
		var names []string
		for range c.pick(5) {
			if name := c.name(); !slices.Contains(names, name) {
				names = append(names, name)
				parts = append(parts, strconv.Quote(name)+":"+c.value(depth-1))
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return c.scalar()
}

func (c *chooser) schema(depth int) string {
	switch c.pick(8) {
	case 0:
		return c.of("true", "true", "{}", "false")
	case 1, 2:
		return `{"$ref":"` + c.of("#", "#/definitions/tree", "#/definitions/leaf", "#/definitions/any") + `"}`
	}
	words := map[string]string{}
	for range 1 + c.pick(4) {
		name, value := c.keyword(depth)
		words[name] = value
	}
	return object(words)
}

func object(members map[string]string) string {
	var parts []string
	for name, value := range members {
		parts = append(parts, strconv.Quote(name)+":"+value)
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, ",") + "}"
}

func (c *chooser) keyword(depth int) (name, value string) {
	if depth == 0 || c.pick(3) == 0 {
		return c.simple()
	}
	sub := func() string { return c.schema(depth - 1) }
	switch name = c.of("oneOf", "anyOf", "properties", "items", "additionalProperties", "allOf", "not", "if", "then", "else",
		"patternProperties", "propertyNames", "contains", "dependencies", "additionalItems"); name {
	case "oneOf", "anyOf", "allOf":
		list := []string{sub()}
		for range c.pick(3) {
			list = append(list, c.variant(depth-1))
		}
		return name, "[" + strings.Join(list, ",") + "]"
	case "properties":
		return name, object(map[string]string{c.name(): sub(), c.name(): sub()})
	case "items":
		if c.pick(3) == 0 {
			return name, "[" + sub() + "," + sub() + "]"
		}
	case "patternProperties":
		return name, object(map[string]string{c.of("^x-", "a|b", "^$"): sub()})
	case "dependencies":
		return name, object(map[string]string{c.name(): `["` + c.name() + `"]`, c.name(): sub()})
	}
	return name, sub()
}

// variant is one of a union's forms, told apart by a constant.
func (c *chooser) variant(depth int) string {
	return object(map[string]string{
		"properties": object(map[string]string{"kind": `{"const":` + c.scalar() + `}`, "parts": c.schema(depth)}),
		"required":   c.of(`["kind"]`, `["kind","parts"]`, `[]`), "additionalProperties": c.of("true", "false"),
	})
}

func (c *chooser) simple() (name, value string) {
	switch name = c.of("type", "enum", "const", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
		"pattern", "format", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "additionalProperties"); name {
	case "type":
		return name, c.of(`"object"`, `"array"`, `"string"`, `"number"`, `"integer"`, `"null"`, `"boolean"`, `["string","null"]`, `["integer","array","object"]`)
	case "enum":
		return name, "[" + c.scalar() + `,"never"]`
	case "const":
		return name, c.scalar()
	case "required":
		return name, `["` + c.name() + `"]`
	case "pattern":
		return name, c.of(`"^a"`, `"."`, `"b$"`)
	case "format":
		return name, c.of(`"email"`, `"password"`, `"date"`)
	case "multipleOf":
		return name, c.of("1", "0.1", "3")
	case "uniqueItems", "additionalProperties":
		return name, c.of("true", "false")
	}
	return name, c.of("0", "1", "2", "10")
}

func (c *chooser) document() string {
	root := c.schema(3)
	if root[0] != '{' {
		root = "{}"
	}
	return strings.Replace(root, "{", `{"definitions":{"tree":`+c.schema(2)+`,"leaf":`+c.schema(1)+`,"any":`+c.schema(1)+`},`, 1)
}

// The library is the judge of what satisfies a schema, wherever it comes to an end.
func FuzzVerdicts(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	seeds := 3000
	if flag.Lookup("test.fuzz").Value.String() != "" {
		seeds = 50 // the fuzzer runs each before it makes one of its own
	}
	for range seeds {
		seed := make([]byte, 40+random.IntN(160))
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		c := &chooser{bytes}
		document := strings.Replace(c.document(), ",}", "}", 1)
		ours, err := schema.Compile([]byte(document))
		if err != nil {
			return // it never ends, or its bounds are at odds
		}
		theirs, err := gojsonschema.NewSchema(gojsonschema.NewStringLoader(document))
		if err != nil {
			t.Fatalf("%s: %v", document, err)
		}
		for range 8 {
			text := c.value(3)
			value := mustDecode(t, text)
			want, err := theirs.Validate(gojsonschema.NewRawLoader(value))
			if err != nil {
				t.Fatalf("%s of %s: %v", text, document, err)
			}
			got := ours.Validate(value)
			if (got == nil) != want.Valid() {
				t.Fatalf("%s of %s:\n got %v\nwant %v", text, document, got, want.Errors())
			}
			for _, v := range got {
				if v.Rule == "internal" || v.Rule == "steps" || v.Message == "" {
					t.Fatalf("%s of %s: %+v", text, document, v)
				}
			}
		}
	})
}

// tree is a form of union that refers to itself, as zod and pydantic write it.
const tree = `{"$ref":"#/definitions/node","definitions":{"node":{"UNION":[
	{"type":"object","properties":{"kind":{"const":"section"},"children":{"type":"array","items":{"$ref":"#/definitions/node"}}},"required":["kind","children"],"additionalProperties":false},
	{"type":"object","properties":{"kind":{"const":"list"},"children":{"type":"array","items":{"$ref":"#/definitions/node"}}},"required":["kind","children"],"additionalProperties":false},
	{"type":"object","properties":{"kind":{"const":"text"},"text":{"type":"string"}},"required":["kind","text"],"additionalProperties":false}]}}}`

func TestUnionsThatReferToThemselvesAreJudgedToTheBottom(t *testing.T) {
	t.Parallel()
	const levels = 60
	of := func(leaf string) string {
		return strings.Repeat(`{"kind":"section","children":[{"kind":"list","children":[`, levels/2) + leaf + strings.Repeat(`]}]}`, levels/2)
	}
	for _, union := range []string{"oneOf", "anyOf"} {
		s := mustCompile(t, strings.Replace(tree, "UNION", union, 1))
		started := time.Now()
		if got := s.Validate(mustDecode(t, of(`{"kind":"text","text":"a"}`))); got != nil {
			t.Errorf("%s: %v", union, got)
		}
		got := s.Validate(mustDecode(t, of(`{"kind":"text","text":1}`)))
		if last := got[len(got)-1]; last.String() != strings.Repeat("/children/0", levels)+"/text: must be a string, got 1" {
			t.Errorf("%s: %s", union, last)
		}
		// The library takes longer than a day.
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("%s: %v", union, took)
		}
	}
}

// Each of these doubles the work of who judges each branch anew, with each level: of the value, or of the schema.
func TestSchemasThatDoubleTheWorkAreJudgedInBoundedTime(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		schema, value string
		valid         bool
	}{
		"two alike":      {`{"anyOf":[{"not":{"items":{"$ref":"#"}}},{"items":{"$ref":"#"},"minItems":5}]}`, deep(99), false},
		"allOf twice":    {`{"allOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"}}],"type":"array"}`, deep(100), true},
		"allOf, a fault": {`{"allOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"}}],"type":"array"}`, strings.Replace(deep(100), "[]", "[1]", 1), false},
		"one value":      {doubled("anyOf", 60), `1`, false},
		"all of one":     {doubled("allOf", 60), `1`, false},
		"one string":     {doubled("oneOf", 60), `"a"`, false},
		"if":             {`{"if":{"items":{"$ref":"#"}},"then":{"items":{"$ref":"#"}},"else":false}`, deep(100), true},
		"contains":       {`{"anyOf":[{"contains":{"$ref":"#"}},{"contains":{"$ref":"#"},"minItems":1}]}`, deep(100), false},
		"patterns":       {`{"patternProperties":{"a":{"$ref":"#"},"^a":{"$ref":"#"}},"type":"object"}`, strings.Repeat(`{"a":`, 100) + "{}" + strings.Repeat("}", 100), true},
		"dependencies":   {`{"dependencies":{"a":{"properties":{"a":{"$ref":"#"}}}},"properties":{"a":{"$ref":"#"}}}`, strings.Repeat(`{"a":`, 100) + "{}" + strings.Repeat("}", 100), true},
	} {
		started := time.Now()
		got := mustCompile(t, row.schema).Validate(mustDecode(t, row.value))
		if (got == nil) != row.valid || !row.valid && (got[0].Rule == "internal" || got[0].Message == "") {
			t.Errorf("%s: %v", name, got)
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

func deep(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// doubled is a schema of which each definition refers to the next twice.
func doubled(word string, levels int) string {
	defs := map[string]string{strconv.Itoa(levels): `{"type":"null"}`}
	for i := range levels {
		ref := `{"$ref":"#/definitions/` + strconv.Itoa(i+1) + `"}`
		defs[strconv.Itoa(i)] = `{"` + word + `":[` + ref + "," + ref + "]}"
	}
	return `{"$ref":"#/definitions/0","definitions":` + object(defs) + "}"
}

func TestAValueThatTakesTooManyStepsIsRefused(t *testing.T) {
	t.Parallel()
	branches := strings.Repeat(`{"required":["a"]},`, 1000)
	s := mustCompile(t, `{"items":{"anyOf":[`+branches+`{"required":["b"]}]}}`)
	started := time.Now()
	got := s.Validate(mustDecode(t, "["+strings.Repeat("{},", 10_000)+"{}]"))
	if len(got) == 0 {
		t.Fatal("valid")
	}
	valid := s.Validate(mustDecode(t, "["+strings.Repeat(`{"b":1},`, 10_000)+"{}]"))
	if len(valid) != 1 || valid[0].Rule != "steps" {
		t.Errorf("%v", valid)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("%v", took)
	}
}

func TestEqualChoicesAreEqualHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		schema, value string
		valid         bool
	}{
		{`{"const":{"a":1,"b":[1.0]}}`, `{"b":[1],"a":1e0}`, true},
		{`{"enum":[0.1]}`, `1e-1`, true},
		{`{"enum":["1"]}`, `1`, false},
		{`{"const":9007199254740993}`, `9007199254740992`, false}, // as doubles they are equal
		{`{"maximum":9007199254740992}`, `9007199254740993`, false},
		{`{"minimum":0}`, `-1e-400`, false},
	} {
		if got := mustCompile(t, row.schema).Validate(mustDecode(t, row.value)); (got == nil) != row.valid {
			t.Errorf("%s of %s: %v", row.value, row.schema, got)
		}
	}
}
