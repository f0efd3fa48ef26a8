package schema

import (
	"iter"
	"slices"
	"strconv"
)

// maxFaults bounds the faults that Check keeps, beside those that are spared.
const maxFaults = 1000

// found are the faults of a value. nil: nobody wants to know them.
type found struct {
	faults []Fault
	// spared are faults that do not count.
	spared  func(Fault) bool
	counted int
	// branch: what is found is said of one form among others that the value may mean as well.
	branch bool
	// shallow: only the distance of the value from the node counts, and not what is wrong within its parts.
	shallow  bool
	distance int
}

// enough is the panic that ends the search for faults.
type enough struct{}

// The distances of a value from a form that it does not have. A value of another type is never meant as that form, and
// a property that lists other choices tells that another form is meant.
const (
	farByType   = 1000
	farByChoice = 3
)

// fault keeps a fault, and is false, as what is said of a value that has one.
func (f *found) fault(at *place, rule string, n *node, value any) bool {
	if f == nil {
		return false
	}
	if f.shallow {
		switch rule {
		case "type", "false":
			f.distance += farByType
		case "enum", "const":
			f.distance += farByChoice
		default:
			f.distance++
		}
		return false
	}
	fault := Fault{at: at, Rule: rule, node: n, Value: value, InBranch: f.branch}
	f.faults = append(f.faults, fault)
	if f.spared == nil || !f.spared(fault) {
		f.counted++
	}
	if f.counted > maxFaults {
		panic(enough{})
	}
	return false
}

// miss takes a part of the value into account that does not satisfy its node, and is false.
func (f *found) miss(n *node) bool {
	switch {
	case f == nil:
	case n.listed():
		f.distance += farByChoice
	default:
		f.distance++
	}
	return false
}

// inOrder gives names in an order that is always the same, where it matters.
func (f *found) inOrder(names iter.Seq[string]) iter.Seq[string] {
	if f == nil || f.shallow {
		return names
	}
	return slices.Values(slices.Sorted(names))
}

// place leads to a value. Its pointer is made only when it is shown.
type place struct {
	parent *place
	// name is of a member; index is of an item, -1 of a member.
	name  string
	index int
}

func (f *found) member(parent *place, name string) *place {
	if f == nil || f.shallow {
		return nil
	}
	return &place{parent: parent, name: name, index: -1}
}

func (f *found) item(parent *place, index int) *place {
	if f == nil || f.shallow {
		return nil
	}
	return &place{parent: parent, index: index}
}

func (p *place) pointer() string {
	switch {
	case p == nil:
		return ""
	case p.index >= 0:
		return AppendPointer(p.parent.pointer(), strconv.Itoa(p.index))
	}
	return AppendPointer(p.parent.pointer(), p.name)
}

// explain says what of the nearest form a value does not have that has none of the branches' forms. Nobody knows that
// this one is meant, unless all others are out.
func (r *run) explain(branches []*node, value any, at *place, f *found) {
	if f == nil || f.shallow {
		return
	}
	left := slices.DeleteFunc(slices.Clone(branches), func(n *node) bool { return n.isOut(value) })
	if len(left) == 1 {
		r.judge(left[0], value, at, f)
		return
	}
	was := f.branch
	f.branch = true
	r.judge(r.nearest(branches, value), value, at, f)
	f.branch = was
}

// explainItem is explain for an array of which no item has the form of the node.
func (r *run) explainItem(n *node, items []any, at *place, f *found) {
	if f == nil || f.shallow || len(items) == 0 {
		return
	}
	nearest, least := 0, r.distance(n, items[0])
	for i, item := range items[1:] {
		if d := r.distance(n, item); d < least {
			nearest, least = i+1, d
		}
	}
	was := f.branch
	f.branch = true
	r.judge(n, items[nearest], f.item(at, nearest), f)
	f.branch = was
}

func (r *run) nearest(branches []*node, value any) *node {
	return slices.MinFunc(branches, func(a, b *node) int { return r.distance(a, value) - r.distance(b, value) })
}

func (r *run) distance(n *node, value any) int {
	f := &found{shallow: true}
	r.judge(n, value, nil, f)
	return f.distance
}

// isOut: the value is surely not meant as the form of the node. It is of another type, or a property has none of the
// choices that the form leaves it.
func (n *node) isOut(value any) bool {
	if !n.takes(value) {
		return true
	}
	members, _ := value.(map[string]any)
	return slices.ContainsFunc(n.ordered, func(p property) bool {
		member, has := members[p.name]
		return has && member != nil && !p.node.lists(member)
	})
}

// lists reports whether the value is among the choices of the node, or it leaves none.
func (n *node) lists(value any) bool {
	for _, c := range []*choices{n.enum, n.fixed} {
		if c != nil {
			if is, _ := c.has(value); !is {
				return false
			}
		}
	}
	return true
}
