package fakellm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// schema is one node of a JSON schema. The zero value admits everything.
type schema struct {
	keywords
	// flat is the node without references and combinations, once it was asked for.
	flat atomic.Pointer[keywords]
}

// keywords are what the simulator reads of a schema, in the shape that generating wants.
type keywords struct {
	// never is true for the schema false, and for combinations that nothing satisfies.
	never bool

	ref                 string
	allOf, anyOf, oneOf []*schema

	types    []string
	enum     []json.RawMessage // const is an enum of one
	hasEnum  bool
	low      bound
	high     bound
	multiple json.Number

	minLength, maxLength int // maxLength -1: none
	pattern, format      string
	matcher              *matcher // of the pattern, in a flat node; nil when it is none of Go's

	items              *schema
	prefix             []*schema
	minItems, maxItems int // maxItems -1: none
	unique             bool

	properties       []property
	required         []string
	additional       *schema
	minProps, maxPro int // maxPro -1: none
}

type property struct {
	name   string
	schema *schema
}

// bound is one end of a range of numbers.
type bound struct {
	set, exclusive bool
	at             float64
}

// UnmarshalJSON reads a schema object, or the schemas true and false.
func (s *schema) UnmarshalJSON(data []byte) error {
	switch string(bytes.TrimSpace(data)) {
	case "true":
		s.keywords = emptyKeywords()
		return nil
	case "false":
		s.keywords = emptyKeywords()
		s.never = true
		return nil
	}
	var w wireSchema
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	w.heed()
	k, err := w.keywords()
	s.keywords = k
	return err
}

// anything returns the schema true.
func anything() *schema { return &schema{keywords: emptyKeywords()} }

func emptyKeywords() keywords { return keywords{maxLength: -1, maxItems: -1, maxPro: -1} }

// wireSchema is a schema object as drafts 4 to 2020-12 write it.
type wireSchema struct {
	Ref              string            `json:"$ref"`
	AllOf            []*schema         `json:"allOf"`
	AnyOf            []*schema         `json:"anyOf"`
	OneOf            []*schema         `json:"oneOf"`
	Type             json.RawMessage   `json:"type"`
	Enum             []json.RawMessage `json:"enum"`
	Const            json.RawMessage   `json:"const"`
	Minimum          *float64          `json:"minimum"`
	Maximum          *float64          `json:"maximum"`
	ExclusiveMinimum json.RawMessage   `json:"exclusiveMinimum"` // a number, or draft 4's boolean
	ExclusiveMaximum json.RawMessage   `json:"exclusiveMaximum"`
	MultipleOf       json.Number       `json:"multipleOf"`
	Description      string            `json:"description"`
	MinLength        *count            `json:"minLength"`
	MaxLength        *count            `json:"maxLength"`
	Pattern          string            `json:"pattern"`
	Format           string            `json:"format"`
	Items            json.RawMessage   `json:"items"` // a schema, or a list of them up to draft 2019-09
	AdditionalItems  *schema           `json:"additionalItems"`
	PrefixItems      []*schema         `json:"prefixItems"`
	MinItems         *count            `json:"minItems"`
	MaxItems         *count            `json:"maxItems"`
	UniqueItems      bool              `json:"uniqueItems"`
	Properties       properties        `json:"properties"`
	Required         json.RawMessage   `json:"required"` // a list; draft 3's boolean is read over
	Additional       *schema           `json:"additionalProperties"`
	MinProperties    *count            `json:"minProperties"`
	MaxProperties    *count            `json:"maxProperties"`
}

// count is a length; JSON may write it 3 or 3.0.
type count int

// UnmarshalJSON implements json.Unmarshaler.
func (c *count) UnmarshalJSON(data []byte) error {
	var f float64
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	*c = count(f)
	return nil
}

func (c *count) or(fallback int) int {
	if c == nil {
		return fallback
	}
	return int(*c)
}

// properties keeps the order in which a schema lists them.
type properties []property

// UnmarshalJSON implements json.Unmarshaler.
func (p *properties) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return errors.Join(err, errors.New("properties is not an object"))
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		one := property{schema: new(schema)}
		one.name, _ = name.(string)
		if err := d.Decode(one.schema); err != nil {
			return fmt.Errorf("property %q: %w", one.name, err)
		}
		*p = append(*p, one)
	}
	return nil
}

func (w *wireSchema) keywords() (keywords, error) {
	k := keywords{
		ref: w.Ref, allOf: w.AllOf, anyOf: w.AnyOf, oneOf: w.OneOf,
		enum: w.Enum, hasEnum: w.Enum != nil, multiple: w.MultipleOf,
		minLength: w.MinLength.or(0), maxLength: w.MaxLength.or(-1), pattern: w.Pattern, format: w.Format,
		minItems: w.MinItems.or(0), maxItems: w.MaxItems.or(-1), unique: w.UniqueItems, prefix: w.PrefixItems,
		properties: w.Properties, additional: w.Additional,
		minProps: w.MinProperties.or(0), maxPro: w.MaxProperties.or(-1),
	}
	if w.Const != nil {
		k.enum, k.hasEnum = []json.RawMessage{w.Const}, true
	}
	if len(w.Required) > 0 && w.Required[0] == '[' {
		if err := json.Unmarshal(w.Required, &k.required); err != nil {
			return k, fmt.Errorf("required: %w", err)
		}
	}
	return k, errors.Join(w.readTypes(&k), w.readItems(&k),
		readBound(&k.low, w.Minimum, w.ExclusiveMinimum, 1), readBound(&k.high, w.Maximum, w.ExclusiveMaximum, -1))
}

func typeNames() []string {
	return []string{"string", "number", "integer", "boolean", "object", "array", "null"}
}

func (w *wireSchema) readTypes(k *keywords) error {
	if len(w.Type) == 0 {
		return nil
	}
	if w.Type[0] == '"' {
		k.types = make([]string, 1)
		if err := json.Unmarshal(w.Type, &k.types[0]); err != nil {
			return fmt.Errorf("type: %w", err)
		}
	} else if err := json.Unmarshal(w.Type, &k.types); err != nil {
		return fmt.Errorf("type: %w", err)
	}
	for _, name := range k.types {
		if !slices.Contains(typeNames(), name) {
			return fmt.Errorf("%q is not a type", name)
		}
	}
	return nil
}

func (w *wireSchema) readItems(k *keywords) error {
	items := bytes.TrimSpace(w.Items)
	if len(items) == 0 {
		return nil
	}
	if items[0] == '[' {
		k.items = w.AdditionalItems
		return json.Unmarshal(items, &k.prefix)
	}
	k.items = new(schema)
	return json.Unmarshal(items, k.items)
}

// readBound takes the tighter of the inclusive and the exclusive bound; direction is 1 for a lower one.
func readBound(b *bound, inclusive *float64, exclusive json.RawMessage, direction float64) error {
	if inclusive != nil {
		*b = bound{set: true, at: *inclusive}
	}
	switch text := string(exclusive); {
	case text == "true":
		b.exclusive = true
		return nil
	case text == "" || text == "false" || text == "null":
		return nil
	}
	limit := bound{set: true, exclusive: true}
	if err := json.Unmarshal(exclusive, &limit.at); err != nil {
		return fmt.Errorf("exclusive bound: %w", err)
	}
	*b = tighter(*b, limit, direction)
	return nil
}

// tighter returns the bound that admits less; direction is 1 for lower bounds, -1 for upper ones.
func tighter(a, b bound, direction float64) bound {
	switch {
	case !a.set:
		return b
	case !b.set:
		return a
	case a.at == b.at:
		a.exclusive = a.exclusive || b.exclusive
		return a
	case (a.at-b.at)*direction > 0:
		return a
	default:
		return b
	}
}

// looksLikeSchema is true for a JSON object that is meant as a schema: it has properties, or the name of a type.
func looksLikeSchema(data []byte) bool {
	var o struct {
		Type       json.RawMessage            `json:"type"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(data, &o) != nil {
		return false
	}
	if o.Properties != nil {
		return true
	}
	w := wireSchema{Type: o.Type}
	var k keywords
	return w.readTypes(&k) == nil && len(k.types) > 0
}
