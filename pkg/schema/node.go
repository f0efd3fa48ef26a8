package schema

import (
	"encoding/json"
	"math"
	"math/big"
	"regexp"
)

// node is a sub-schema, ready to judge values. References are followed when it is built, so a node may lead back to
// itself, but only through a part of the value: Compile refuses others.
type node struct {
	// shared: more than one place of the schema leads here, so a value may be judged by it again and again.
	shared bool
	// branching: other nodes hold for the same value.
	branching bool
	never     bool

	types       kind
	typeNames   []string
	enum, fixed *choices

	minimum, maximum, above, below *limit
	multipleOf                     *big.Rat

	length  size
	pattern *expression
	format  string

	items       size
	unique      bool
	each        *node
	first       []*node
	rest        *node
	closedItems bool
	contains    *node
	members     size
	required    []string
	// folded are the names that the node speaks of, see fold.
	folded        map[string]bool
	properties    map[string]*node
	ordered       []property
	patterns      []pattern
	additional    *node
	closed        bool
	propertyNames *node
	dependencies  []dependency

	allOf, anyOf, oneOf []*node
	not                 *node
	condition           *node
	then, otherwise     *node
}

type property struct {
	name string
	node *node
}

type pattern struct {
	expression *regexp.Regexp
	node       *node
}

// dependency demands names, or a form of the object, when it has the property.
type dependency struct {
	property string
	names    []string
	node     *node
}

// size bounds a count.
type size struct{ least, most int }

func unlimited() size { return size{most: math.MaxInt} }

// limit is a bound of numbers. Most are told apart by their nearest float64 alone.
type limit struct {
	exact   *big.Rat
	nearest float64
}

// compare is negative for a number below the bound, positive for one above it.
func (l *limit) compare(n json.Number) int {
	// Rounding keeps the order: only of equal ones it is not known.
	switch nearest, _ := n.Float64(); {
	case nearest < l.nearest:
		return -1
	case nearest > l.nearest:
		return 1
	}
	return exact(n).Cmp(l.exact)
}

// exact panics on what Decode would refuse.
func exact(n json.Number) *big.Rat {
	value, ok := new(big.Rat).SetString(string(n))
	if !ok {
		panic("the number " + string(n) + " can not be read")
	}
	return value
}

// kind is a set of types.
type kind uint8

const (
	isNull kind = 1 << iota
	isBoolean
	isInteger
	isFraction
	isString
	isArray
	isObject
	isNumber = isInteger | isFraction
)

func kindOf(name string) kind {
	switch name {
	case "null":
		return isNull
	case "boolean":
		return isBoolean
	case "integer":
		return isInteger
	case "number":
		return isNumber
	case "string":
		return isString
	case "array":
		return isArray
	}
	return isObject
}

// has reports whether the value is of one of the types.
func (k kind) has(value any) bool {
	switch v := value.(type) {
	case nil:
		return k&isNull != 0
	case bool:
		return k&isBoolean != 0
	case json.Number:
		return k&isNumber == isNumber || k&isInteger != 0 && isWhole(v)
	case string:
		return k&isString != 0
	case []any:
		return k&isArray != 0
	}
	return k&isObject != 0
}

// isWhole: 1.0 and 1e2 are integers (draft 6 validation, 6.25).
func isWhole(n json.Number) bool {
	for i := range len(n) {
		switch n[i] {
		case '.', 'e', 'E':
			return exact(n).IsInt()
		}
	}
	return true
}

// takes: values of the kind of value may satisfy the node, as far as its type tells.
func (n *node) takes(value any) bool { return !n.never && (n.types == 0 || n.types.has(value)) }
