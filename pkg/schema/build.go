package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"

	"github.com/xeipuuv/gojsonschema"
)

// builder makes the nodes of a document that lint and the meta-schema found good.
type builder struct {
	document any
	anchors  map[string]string
	// nodes are by pointer; open are those that are being made.
	nodes map[string]*node
	open  map[*node]bool
	// ways is in how many ways the nodes below the one that is being made are led to, ending at it one by one.
	ways map[*node]int
	sum  int
	// recursive: a node leads back to itself. branching: some hold for one value.
	recursive, branching bool
}

// maxWays bounds the ways through a schema on which gojsonschema walks.
const maxWays = 10_000

// build makes the root. isBounded reports whether a walk that remembers nothing comes to an end soon. Forms that refer
// to themselves it would visit as often as two to the power of the value's depth, and likewise definitions that lead
// to others twice.
func build(document any, anchors map[string]string) (root *node, isBounded bool) {
	b := &builder{document: document, anchors: anchors, nodes: map[string]*node{}, open: map[*node]bool{}, ways: map[*node]int{}}
	root = b.node("", document)
	return root, b.sum < maxWays && !(b.recursive && b.branching)
}

// target is the pointer that a reference means.
func target(ref string, anchors map[string]string) (pointer string, err error) {
	if pointer, err = url.PathUnescape(ref[1:]); err != nil {
		return "", fmt.Errorf("unescape the reference %s: %w", ref, err)
	}
	if anchor, ok := anchors[pointer]; ok {
		return anchor, nil
	}
	return pointer, nil
}

func (b *builder) node(pointer string, raw any) *node {
	members, _ := raw.(map[string]any)
	for ref, refers := members["$ref"].(string); refers; ref, refers = members["$ref"].(string) {
		pointer, _ = target(ref, b.anchors)
		raw, _ = Lookup(b.document, pointer)
		members, _ = raw.(map[string]any)
	}
	if n, built := b.nodes[pointer]; built {
		n.shared = true
		b.recursive = b.recursive || b.open[n]
		b.sum = min(b.sum+b.ways[n], maxWays)
		return n
	}
	n := &node{never: raw == false, length: unlimited(), items: unlimited(), members: unlimited()}
	b.nodes[pointer], b.open[n] = n, true
	before := b.sum
	b.sum = 1
	defer func() {
		delete(b.open, n)
		b.ways[n] = b.sum
		b.sum = min(before+b.sum, maxWays)
	}()
	of := part{b, pointer, members}
	of.values(n)
	of.numbers(n)
	of.array(n)
	of.object(n)
	of.branches(n)
	n.foldNames()
	return n
}

// part is a sub-schema under way.
type part struct {
	*builder
	pointer string
	raw     map[string]any
}

// child is the node of a keyword whose value is a schema; nil: there is none.
func (p part) child(word string) *node {
	raw, ok := p.raw[word]
	if !ok {
		return nil
	}
	return p.node(AppendPointer(p.pointer, word), raw)
}

func (p part) list(word string) (nodes []*node) {
	list, _ := p.raw[word].([]any)
	for i, raw := range list {
		nodes = append(nodes, p.node(AppendPointer(p.pointer, word, strconv.Itoa(i)), raw))
	}
	return nodes
}

// each gives the members of a keyword's value, in order.
func (p part) each(word string, do func(name, pointer string, raw any)) {
	members, _ := p.raw[word].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		do(name, AppendPointer(p.pointer, word, name), members[name])
	}
}

func (p part) texts(word string) []string { return textsOf(p.raw[word]) }

func textsOf(raw any) (texts []string) {
	list, _ := raw.([]any)
	for _, item := range list {
		if text, ok := item.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}

func (p part) size(noun string, s *size) {
	if n, ok := p.raw["min"+noun].(json.Number); ok {
		s.least, _ = strconv.Atoi(string(n))
	}
	if n, ok := p.raw["max"+noun].(json.Number); ok {
		s.most, _ = strconv.Atoi(string(n))
	}
}

func (p part) values(n *node) {
	if name, ok := p.raw["type"].(string); ok {
		n.typeNames = []string{name}
	} else {
		n.typeNames = p.texts("type")
	}
	for _, name := range n.typeNames {
		n.types |= kindOf(name)
	}
	if list, ok := p.raw["enum"].([]any); ok {
		n.enum = choicesOf(list)
	}
	if value, ok := p.raw["const"]; ok {
		n.fixed = choicesOf([]any{value})
	}
	p.size("Length", &n.length)
	if text, ok := p.raw["pattern"].(string); ok {
		n.pattern, _ = compile(text)
	}
	if name, ok := p.raw["format"].(string); ok && gojsonschema.FormatCheckers.Has(name) {
		n.format = name
	}
}

func (p part) numbers(n *node) {
	of := func(word string) *limit {
		text, ok := p.raw[word].(json.Number)
		if !ok {
			return nil
		}
		nearest, _ := text.Float64()
		return &limit{exact: exact(text), nearest: nearest}
	}
	n.minimum, n.maximum, n.above, n.below = of("minimum"), of("maximum"), of("exclusiveMinimum"), of("exclusiveMaximum")
	// In draft 4 these two say of the others that they are exclusive.
	if p.raw["exclusiveMinimum"] == true {
		n.minimum, n.above = nil, n.minimum
	}
	if p.raw["exclusiveMaximum"] == true {
		n.maximum, n.below = nil, n.maximum
	}
	if text, ok := p.raw["multipleOf"].(json.Number); ok {
		n.multipleOf = exact(text)
	}
}

func (p part) array(n *node) {
	p.size("Items", &n.items)
	n.unique = p.raw["uniqueItems"] == true
	n.contains = p.child("contains")
	if _, isList := p.raw["items"].([]any); !isList {
		n.each = p.child("items")
		return
	}
	n.first = p.list("items")
	if n.closedItems = p.raw["additionalItems"] == false; !n.closedItems {
		n.rest = p.child("additionalItems")
	}
}

func (p part) object(n *node) {
	p.size("Properties", &n.members)
	n.required = p.texts("required")
	n.properties = map[string]*node{}
	p.each("properties", func(name, pointer string, raw any) {
		n.properties[name] = p.node(pointer, raw)
		n.ordered = append(n.ordered, property{name, n.properties[name]})
	})
	// What tells one form from another is judged first.
	slices.SortStableFunc(n.ordered, func(a, b property) int { return a.node.weight() - b.node.weight() })
	p.each("patternProperties", func(name, pointer string, raw any) {
		n.patterns = append(n.patterns, pattern{regexp.MustCompile(name), p.node(pointer, raw)})
	})
	if n.closed = p.raw["additionalProperties"] == false; !n.closed {
		n.additional = p.child("additionalProperties")
	}
	n.propertyNames = p.child("propertyNames")
}

func (p part) branches(n *node) {
	n.allOf, n.anyOf, n.oneOf = p.list("allOf"), p.list("anyOf"), p.list("oneOf")
	n.not = p.child("not")
	if n.condition = p.child("if"); n.condition != nil {
		n.then, n.otherwise = p.child("then"), p.child("else")
	}
	p.each("dependencies", func(name, pointer string, raw any) {
		d := dependency{property: name}
		if list, ok := raw.([]any); ok {
			d.names = textsOf(list)
		} else {
			d.node = p.node(pointer, raw)
		}
		n.dependencies = append(n.dependencies, d)
	})
	n.branching = n.allOf != nil || n.anyOf != nil || n.oneOf != nil || n.not != nil || n.condition != nil || n.dependencies != nil
	p.branching = p.branching || n.branching || n.patterns != nil
}

// weight is how dear the node may be: one that lists choices, one of a type alone, any other.
func (n *node) weight() int {
	switch {
	case n.listed():
		return 0
	case !n.branching && n.types&(isArray|isObject) == 0 && n.types != 0:
		return 1
	}
	return 2
}

// listed: the node lists its values.
func (n *node) listed() bool { return n.enum != nil || n.fixed != nil }
