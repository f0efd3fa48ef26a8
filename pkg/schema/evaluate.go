package schema

import (
	"encoding/json"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/xeipuuv/gojsonschema"
)

// maxSteps bounds one look at a value: a step is a sub-schema that judges a part of the value, or 32 to 64 bytes
// that are compared. 1,000,000 take less than 0.2 s.
const maxSteps = 1_000_000

// run is one look at a value. Without found it only wants to know whether the value satisfies the schema, and ends at
// the first fault; with it, it goes on and keeps what it finds.
//
// Each branch of an anyOf or oneOf looks at all parts of the value, and the parts may have branches again: told anew
// each time, a schema that refers to itself would take time exponential in the depth. So a verdict of a node that
// more than one place leads to is remembered, and the time is at most schema times value.
type run struct {
	steps int
	known map[verdict]bool
}

// verdict is that of a node on a value: a scalar by itself, an array or object by its address.
type verdict struct {
	node  *node
	value any
}

// exhausted is the panic of a run that would take too long.
type exhausted struct{}

func (r *run) step(n int) {
	if r.steps += n; r.steps > maxSteps {
		panic(exhausted{})
	}
}

// satisfies is check for the verdict alone.
func (r *run) satisfies(n *node, value any) bool {
	if !n.shared {
		return r.judge(n, value, nil, nil)
	}
	key, ok := identity(n, value)
	if !ok {
		return r.judge(n, value, nil, nil)
	}
	is, known := r.known[key]
	if !known {
		is = r.judge(n, value, nil, nil)
		if r.known == nil {
			r.known = map[verdict]bool{}
		}
		r.known[key] = is
	}
	return is
}

// identity is ok for values that take longer to judge than to remember.
func identity(n *node, value any) (v verdict, ok bool) {
	switch value.(type) {
	case []any, map[string]any:
		// Empty arrays share one address, and are equal.
		return verdict{n, reflect.ValueOf(value).Pointer()}, true
	}
	return verdict{n, value}, n.branching
}

func (r *run) check(n *node, value any, at *place, f *found) bool {
	if f == nil {
		return r.satisfies(n, value)
	}
	return r.judge(n, value, at, f)
}

// part judges a part of the value.
func (r *run) part(n *node, value any, at *place, f *found) bool {
	if f == nil || f.shallow {
		return r.satisfies(n, value) || f.miss(n)
	}
	return r.judge(n, value, at, f)
}

// judge reports whether the node holds for the value. Of a value of a wrong type nothing else is said.
func (r *run) judge(n *node, value any, at *place, f *found) bool {
	r.step(1)
	switch {
	case n.never:
		return f.fault(at, "false", n, value)
	case n.types != 0 && !n.types.has(value):
		return f.fault(at, "type", n, value)
	}
	ok := r.listed(n, value, at, f)
	if !ok && f == nil {
		return false
	}
	switch v := value.(type) {
	case string:
		ok = r.text(n, v, at, f) && ok
	case json.Number:
		ok = r.number(n, v, at, f) && ok
	case []any:
		ok = r.array(n, v, at, f) && ok
	case map[string]any:
		ok = r.object(n, v, at, f) && ok
	}
	if !n.branching || !ok && f == nil {
		return ok
	}
	return r.branches(n, value, at, f) && ok
}

func (r *run) listed(n *node, value any, at *place, f *found) bool {
	ok := true
	if n.enum != nil {
		is, cost := n.enum.has(value)
		r.step(cost / 64)
		ok = is || f.fault(at, "enum", n, value)
	}
	if n.fixed != nil {
		is, cost := n.fixed.has(value)
		r.step(cost / 64)
		ok = (is || f.fault(at, "const", n, value)) && ok
	}
	return ok
}

func (r *run) text(n *node, text string, at *place, f *found) bool {
	ok := true
	if n.length != unlimited() || n.pattern != nil || n.format != "" {
		r.step(len(text) / 32)
	}
	if n.length != unlimited() {
		ok = fits(n.length, utf8.RuneCountInString(text), at, f, "minLength", "maxLength", n, text)
	}
	if n.pattern != nil && !n.pattern.MatchString(text) {
		ok = f.fault(at, "pattern", n, text)
	}
	if n.format != "" && !gojsonschema.FormatCheckers.IsFormat(n.format, text) {
		ok = f.fault(at, "format", n, text)
	}
	return ok
}

// fits reports whether a count is within its bounds.
func fits(s size, count int, at *place, f *found, least, most string, n *node, value any) bool {
	switch {
	case count < s.least:
		return f.fault(at, least, n, value)
	case count > s.most:
		return f.fault(at, most, n, value)
	}
	return true
}

func (r *run) number(n *node, value json.Number, at *place, f *found) bool {
	ok := true
	if n.minimum != nil && n.minimum.compare(value) < 0 {
		ok = f.fault(at, "minimum", n, value)
	}
	if n.above != nil && n.above.compare(value) <= 0 {
		ok = f.fault(at, "exclusiveMinimum", n, value)
	}
	if n.maximum != nil && n.maximum.compare(value) > 0 {
		ok = f.fault(at, "maximum", n, value)
	}
	if n.below != nil && n.below.compare(value) >= 0 {
		ok = f.fault(at, "exclusiveMaximum", n, value)
	}
	if n.multipleOf != nil && !new(big.Rat).Quo(exact(value), n.multipleOf).IsInt() {
		ok = f.fault(at, "multipleOf", n, value)
	}
	return ok
}

func (r *run) array(n *node, items []any, at *place, f *found) bool {
	ok := fits(n.items, len(items), at, f, "minItems", "maxItems", n, items)
	if n.closedItems && len(items) > len(n.first) {
		ok = f.fault(at, "additionalItems", n, items)
	}
	for i, item := range items {
		node := n.each
		switch {
		case i < len(n.first):
			node = n.first[i]
		case n.first != nil:
			node = n.rest
		}
		if node == nil {
			break
		}
		if !ok && f == nil {
			return false
		}
		ok = r.part(node, item, f.item(at, i), f) && ok
	}
	if n.unique && (ok || f != nil) {
		_, _, cost, twice := twins(items)
		r.step(cost / 64)
		ok = !(twice && !f.fault(at, "uniqueItems", n, items)) && ok
	}
	if n.contains != nil && (ok || f != nil) && !slices.ContainsFunc(items, func(item any) bool { return r.satisfies(n.contains, item) }) {
		ok = f.fault(at, "contains", n, items)
		r.explainItem(n.contains, items, at, f)
	}
	return ok
}

func (r *run) object(n *node, members map[string]any, at *place, f *found) bool {
	ok := fits(n.members, len(members), at, f, "minProperties", "maxProperties", n, members)
	for _, name := range n.required {
		if _, has := members[name]; !has {
			if ok = f.fault(f.member(at, name), "required", n, members); f == nil {
				return false
			}
		}
	}
	known := 0
	for _, p := range n.ordered {
		value, has := members[p.name]
		if !has {
			continue
		}
		known++
		if ok = r.part(p.node, value, f.member(at, p.name), f) && ok; !ok && f == nil {
			return false
		}
	}
	if n.patterns != nil || n.propertyNames != nil || known < len(members) && (n.closed || n.additional != nil) {
		ok = r.names(n, members, at, f) && ok
	}
	return ok
}

// names judges the members that are no properties, and all members by their names.
func (r *run) names(n *node, members map[string]any, at *place, f *found) bool {
	ok := true
	for name := range f.inOrder(maps.Keys(members)) {
		if !ok && f == nil {
			return false
		}
		value := members[name]
		_, known := n.properties[name]
		for _, p := range n.patterns {
			r.step(1 + len(name)/64)
			if p.expression.MatchString(name) {
				known = true
				ok = r.part(p.node, value, f.member(at, name), f) && ok
			}
		}
		switch {
		case known:
		case n.closed:
			ok = f.fault(f.member(at, name), "additionalProperties", n, value)
		case n.additional != nil:
			ok = r.part(n.additional, value, f.member(at, name), f) && ok
		}
		if n.propertyNames != nil && !r.satisfies(n.propertyNames, name) {
			ok = f.fault(f.member(at, name), "propertyNames", n, members)
		}
	}
	return ok
}

// branches judges the same value by other nodes.
func (r *run) branches(n *node, value any, at *place, f *found) bool {
	ok := true
	for _, branch := range n.allOf {
		if ok = r.check(branch, value, at, f) && ok; !ok && f == nil {
			return false
		}
	}
	satisfies := func(branch *node) bool { return r.satisfies(branch, value) }
	if n.anyOf != nil && !slices.ContainsFunc(n.anyOf, satisfies) {
		ok = f.fault(at, "anyOf", n, value)
		r.explain(n.anyOf, value, at, f)
	}
	if n.oneOf != nil && (ok || f != nil) {
		switch first := slices.IndexFunc(n.oneOf, satisfies); {
		case first < 0:
			ok = f.fault(at, "oneOf", n, value)
			r.explain(n.oneOf, value, at, f)
		case slices.ContainsFunc(n.oneOf[first+1:], satisfies):
			ok = f.fault(at, "oneOf", n, value)
		}
	}
	if n.not != nil && (ok || f != nil) && r.satisfies(n.not, value) {
		ok = f.fault(at, "not", n, value)
	}
	if n.condition != nil && (ok || f != nil) {
		then := n.otherwise
		if r.satisfies(n.condition, value) {
			then = n.then
		}
		ok = (then == nil || r.check(then, value, at, f)) && ok
	}
	return r.depends(n, value, at, f) && ok
}

func (r *run) depends(n *node, value any, at *place, f *found) bool {
	members, _ := value.(map[string]any)
	ok := true
	for _, d := range n.dependencies {
		if _, has := members[d.property]; !has {
			continue
		}
		for _, name := range d.names {
			if _, has := members[name]; !has {
				ok = f.fault(f.member(at, name), "dependencies", n, members)
			}
		}
		ok = (d.node == nil || r.check(d.node, value, at, f)) && ok
	}
	return ok
}
