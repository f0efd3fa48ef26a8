package fakellm_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"spillway/pkg/fakellm"
)

// schemaMaker draws satisfiable schemas from what the simulator says that it supports.
type schemaMaker struct{ *rand.Rand }

func (m schemaMaker) node(depth int) object {
	kinds := 4
	if depth > 0 {
		kinds = 8
	}
	switch m.IntN(kinds) {
	case 0:
		return m.text()
	case 1:
		return m.number("integer")
	case 2:
		return m.number("number")
	case 3:
		return []object{{"type": "boolean"}, {"enum": []any{"a", 1, nil, []int{2}}}, {"const": object{"x": 0.5}}, {"type": []string{"null", "integer"}}}[m.IntN(4)]
	case 4:
		return m.array(depth)
	case 5:
		return object{"allOf": []object{m.object(depth, "p"), m.object(depth, "q")}}
	case 6:
		return object{"anyOf": []object{m.node(depth - 1), m.node(depth - 1)}}
	default:
		return m.object(depth, "r")
	}
}

func (m schemaMaker) text() object {
	s := object{"type": "string"}
	switch m.IntN(4) {
	case 0:
		s["minLength"] = m.IntN(50)
		s["maxLength"] = s["minLength"].(int) + m.IntN(30)
	case 1:
		s["format"] = []string{"date-time", "email", "uri", "uuid", "ipv4"}[m.IntN(5)]
	case 2:
		s["pattern"] = []string{`^[a-z]{2,5}$`, `^\+?[0-9 ]{7,}$`, `^(a|b)+c?$`, `\d{4}-\d{2}`, `^\S+@\S+$`}[m.IntN(5)]
	}
	return s
}

func (m schemaMaker) number(kind string) object {
	low := m.IntN(2000) - 1000
	s := object{"type": kind}
	if m.IntN(2) == 0 {
		s[[]string{"minimum", "exclusiveMinimum"}[m.IntN(2)]] = low
	}
	if m.IntN(2) == 0 {
		s[[]string{"maximum", "exclusiveMaximum"}[m.IntN(2)]] = low + 40 + m.IntN(1000)
	}
	if m.IntN(3) == 0 {
		s["multipleOf"] = []float64{0.01, 0.5, 3, 7}[m.IntN(4)]
	}
	return s
}

func (m schemaMaker) array(depth int) object {
	s := object{"type": "array", "items": m.node(depth - 1)}
	if m.IntN(2) == 0 {
		s["minItems"] = m.IntN(4)
		s["maxItems"] = s["minItems"].(int) + m.IntN(3)
	}
	return s
}

func (m schemaMaker) object(depth int, prefix string) object {
	properties, required := object{}, []string{}
	for i := range m.IntN(5) {
		name := fmt.Sprint(prefix, i)
		properties[name] = m.node(depth - 1)
		if m.IntN(2) == 0 {
			required = append(required, name)
		}
	}
	return object{"type": "object", "properties": properties, "required": required}
}

func TestAGeneratedAnswerSatisfiesAnySchemaOfTheSupportedKeywords(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	for seed := range uint64(400) {
		data, err := json.Marshal(schemaMaker{rand.New(rand.NewPCG(seed, 0))}.object(3, "p"))
		if err != nil {
			t.Fatal(err)
		}
		schema := string(data)
		content := b.content(t, ask(fmt.Sprint(seed), object{"response_format": formatOf(json.RawMessage(schema))}))
		if !satisfies(t, schema, content) {
			t.Fatalf("seed %d: the validator of %s refuses %s", seed, schema, content)
		}
	}
}
