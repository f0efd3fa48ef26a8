package schema

import (
	"slices"
	"strings"
)

// scope knows which nodes may hold for the parts of a value, in whatever branch.
type scope struct {
	root  *node
	known map[*place][]*node
}

// at are the nodes that may hold for the value at a place.
func (s *scope) at(p *place) []*node {
	if p == nil {
		return closed([]*node{s.root})
	}
	// Most places of faults have the parent in common.
	if nodes, ok := s.known[p]; ok {
		return nodes
	}
	var nodes []*node
	for _, n := range s.at(p.parent) {
		nodes = append(nodes, n.parts(p)...)
	}
	nodes = closed(nodes)
	if s.known == nil {
		s.known = map[*place][]*node{}
	}
	s.known[p] = nodes
	return nodes
}

// parts are the nodes that may hold for a part of the node's value.
func (n *node) parts(p *place) (nodes []*node) {
	if p.index >= 0 {
		nodes = append(nodes, n.each, n.contains)
		if p.index < len(n.first) {
			return append(nodes, n.first[p.index])
		}
		return append(nodes, n.rest)
	}
	nodes = append(nodes, n.properties[p.name], n.additional)
	for _, p := range n.patterns {
		nodes = append(nodes, p.node)
	}
	return nodes
}

// closed adds what may hold for the same value.
func closed(nodes []*node) (all []*node) {
	met := map[*node]bool{nil: true}
	for len(nodes) > 0 {
		n := nodes[0]
		nodes = nodes[1:]
		if met[n] {
			continue
		}
		met[n] = true
		all = append(all, n)
		nodes = slices.Concat(nodes, n.allOf, n.anyOf, n.oneOf, []*node{n.not, n.condition, n.then, n.otherwise})
		for _, d := range n.dependencies {
			nodes = append(nodes, d.node)
		}
	}
	return all
}

// knows reports whether the node speaks of a property whose name is read the same.
func (n *node) knows(name string) bool {
	if n.folded[fold(name)] {
		return true
	}
	return slices.ContainsFunc(n.patterns, func(p pattern) bool { return p.expression.MatchString(name) })
}

// speaksOf reports whether an object within the value has a property that one of the nodes may have, and with its value.
func speaksOf(nodes []*node, value any) bool {
	switch v := value.(type) {
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { return speaksOf(nodes, item) })
	case map[string]any:
		for name, member := range v {
			if slices.ContainsFunc(nodes, func(n *node) bool { return n.mayHave(name, member) }) || speaksOf(nodes, member) {
				return true
			}
		}
	}
	return false
}

// mayHave reports whether the node speaks of a property whose name is read the same, and takes the value for it.
func (n *node) mayHave(name string, value any) bool {
	return n.folded[fold(name)] && slices.ContainsFunc(n.ordered, func(p property) bool {
		return fold(p.name) == fold(name) && p.node.takes(value) && p.node.lists(value)
	})
}

func (n *node) foldNames() {
	n.folded = map[string]bool{}
	for name := range n.properties {
		n.folded[fold(name)] = true
	}
	for _, name := range n.required {
		n.folded[fold(name)] = true
	}
	for _, d := range n.dependencies {
		n.folded[fold(d.property)] = true
		for _, name := range d.names {
			n.folded[fold(name)] = true
		}
	}
}

// fold leaves out what names of one property differ by: suggestedRoute, suggested_route, Suggested-Route.
func fold(name string) string {
	return strings.Map(func(c rune) rune {
		if c == '_' || c == '-' || c == ' ' {
			return -1
		}
		return c
	}, strings.ToLower(name))
}
