package validator

import (
	"encoding/json"
	"math/big"
)

// equal reports whether two decoded values are the same: numbers by their value, objects without regard to
// order.
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || sameNumber(a, b))
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key, member := range a {
			other, has := b[key]
			if !has || !equal(member, other) {
				return false
			}
		}
		return true
	}
	return a == b
}

// sameNumber compares exactly. Decode bounds digits and exponents, and so the cost.
func sameNumber(a, b json.Number) bool {
	x, ok := new(big.Rat).SetString(string(a))
	if !ok {
		return false
	}
	y, ok := new(big.Rat).SetString(string(b))
	return ok && x.Cmp(y) == 0
}
