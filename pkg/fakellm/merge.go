package fakellm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
)

// merge returns the keywords of a schema that demands what both do, as far as one can say it without
// references and combinations. Of two patterns or formats it keeps a's.
func merge(a, b keywords) keywords {
	k := a
	k.never = a.never || b.never
	k.types = mergeTypes(a.types, b.types)
	k.never = k.never || len(k.types) == 0 && len(a.types) > 0 && len(b.types) > 0
	mergeEnum(&k, b)
	k.low, k.high = tighter(a.low, b.low, 1), tighter(a.high, b.high, -1)
	k.multiple = cmp.Or(a.multiple, b.multiple)
	k.minLength, k.maxLength = max(a.minLength, b.minLength), lower(a.maxLength, b.maxLength)
	k.pattern, k.format = cmp.Or(a.pattern, b.pattern), cmp.Or(a.format, b.format)

	k.items = both(a.items, b.items)
	if len(b.prefix) > len(a.prefix) {
		k.prefix = b.prefix
	}
	k.minItems, k.maxItems = max(a.minItems, b.minItems), lower(a.maxItems, b.maxItems)
	k.unique = a.unique || b.unique

	k.properties = mergeProperties(a.properties, b.properties)
	k.required = union(a.required, b.required)
	k.additional = both(a.additional, b.additional)
	k.minProps, k.maxPro = max(a.minProps, b.minProps), lower(a.maxPro, b.maxPro)
	return k
}

// mergeTypes returns the types that both admit; no types means all.
func mergeTypes(a, b []string) []string {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	var both []string
	for _, name := range a {
		switch {
		case slices.Contains(b, name), name == "integer" && slices.Contains(b, "number"):
			both = append(both, name)
		case name == "number" && slices.Contains(b, "integer"):
			both = append(both, "integer")
		}
	}
	return both
}

func mergeEnum(k *keywords, b keywords) {
	switch {
	case !b.hasEnum:
	case !k.hasEnum:
		k.enum, k.hasEnum = b.enum, true
	default:
		k.enum = slices.DeleteFunc(slices.Clone(k.enum), func(v json.RawMessage) bool {
			return !slices.ContainsFunc(b.enum, func(w json.RawMessage) bool { return sameJSON(v, w) })
		})
		k.never = k.never || len(k.enum) == 0
	}
}

// lower returns the lower of two limits, of which -1 is none.
func lower(a, b int) int {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}

func both(a, b *schema) *schema {
	switch {
	case a == nil:
		return b
	case b == nil || a == b:
		return a
	default:
		s := anything()
		s.allOf = []*schema{a, b}
		return s
	}
}

func mergeProperties(a, b []property) []property {
	if len(a) == 0 {
		return b
	}
	all := slices.Clone(a)
	for _, p := range b {
		i := slices.IndexFunc(all, func(q property) bool { return q.name == p.name })
		if i < 0 {
			all = append(all, p)
		} else {
			all[i].schema = both(all[i].schema, p.schema)
		}
	}
	return all
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, name := range b {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// prepare does what is worth doing once: the pattern is compiled, and the values of an enum that are not
// of the types are dropped.
func (k *keywords) prepare() {
	if k.pattern != "" {
		k.matcher = parseMatcher(k.pattern)
	}
	if len(k.types) == 0 || !k.hasEnum {
		return
	}
	k.enum = slices.DeleteFunc(slices.Clone(k.enum), func(v json.RawMessage) bool {
		return !isOfType(typeOf(decodeValue(v)), k.types)
	})
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	if json.Compact(&x, a) != nil || json.Compact(&y, b) != nil {
		return false
	}
	return bytes.Equal(x.Bytes(), y.Bytes())
}
