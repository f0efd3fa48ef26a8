package schema

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// ordered is an object that keeps the order of its members: models answer in the order of the properties. Its values
// are *ordered, []any, or as those of Decode.
type ordered struct{ members []orderedMember }

type orderedMember struct {
	name  string
	value any
}

// readOrdered reads a text that Decode took.
func readOrdered(text []byte) any {
	return orderedValue(jsontext.NewDecoder(bytes.NewReader(text)))
}

func orderedValue(d *jsontext.Decoder) any {
	token, err := d.ReadToken()
	if err != nil {
		return nil
	}
	switch token.Kind() {
	case '{':
		o := &ordered{}
		for d.PeekKind() == '"' {
			name, _ := d.ReadToken()
			o.members = append(o.members, orderedMember{name: name.String()})
			o.members[len(o.members)-1].value = orderedValue(d)
		}
		_, _ = d.ReadToken()
		return o
	case '[':
		items := []any{}
		for kind := d.PeekKind(); kind != ']' && kind != 0; kind = d.PeekKind() {
			items = append(items, orderedValue(d))
		}
		_, _ = d.ReadToken()
		return items
	case '"':
		return token.String()
	case '0':
		return json.Number(token.String())
	case 't', 'f':
		return token.Bool()
	}
	return nil
}

func (o *ordered) find(name string) int {
	if o == nil {
		return -1
	}
	return slices.IndexFunc(o.members, func(m orderedMember) bool { return m.name == name })
}

// get returns nil for what is not there.
func (o *ordered) get(name string) any {
	if i := o.find(name); i >= 0 {
		return o.members[i].value
	}
	return nil
}

func (o *ordered) has(name string) bool { return o.find(name) >= 0 }

// set replaces a member, or adds it at the end.
func (o *ordered) set(name string, value any) {
	if i := o.find(name); i >= 0 {
		o.members[i].value = value
	} else {
		o.members = append(o.members, orderedMember{name, value})
	}
}

func (o *ordered) remove(names ...string) {
	o.members = slices.DeleteFunc(o.members, func(m orderedMember) bool { return slices.Contains(names, m.name) })
}

// only is a new object, of these members.
func (o *ordered) only(names ...string) *ordered {
	return &ordered{slices.DeleteFunc(slices.Clone(o.members), func(m orderedMember) bool { return !slices.Contains(names, m.name) })}
}

func (o *ordered) text(name string) string {
	text, _ := o.get(name).(string)
	return text
}

func (o *ordered) object(name string) *ordered {
	object, _ := o.get(name).(*ordered)
	return object
}

// all are the members; of nil, none.
func (o *ordered) all() []orderedMember {
	if o == nil {
		return nil
	}
	return o.members
}

// lookupOrdered is Lookup in an ordered document.
func lookupOrdered(value any, pointer string) any {
	tokens, err := SplitPointer(pointer)
	if err != nil {
		return nil
	}
	for _, token := range tokens {
		switch v := value.(type) {
		case *ordered:
			value = v.get(token)
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

func appendOrdered(text []byte, value any) []byte {
	switch v := value.(type) {
	case *ordered:
		text = append(text, '{')
		for i, m := range v.members {
			if i > 0 {
				text = append(text, ',')
			}
			text, _ = jsontext.AppendQuote(text, m.name)
			text = appendOrdered(append(text, ':'), m.value)
		}
		return append(text, '}')
	case []any:
		text = append(text, '[')
		for i, item := range v {
			if i > 0 {
				text = append(text, ',')
			}
			text = appendOrdered(text, item)
		}
		return append(text, ']')
	}
	return appendJSON(text, value, func(n json.Number) string { return string(n) })
}
