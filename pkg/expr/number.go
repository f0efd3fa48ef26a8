package expr

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// maxExact is 2^53: a double holds every integer that is nearer to zero.
const maxExact = 1 << 53

// number makes a JSON number a double; only an integer that a double can not hold stays an integer, so that
// two different ids never look alike.
func number(n json.Number) ref.Val {
	if !strings.ContainsAny(string(n), ".eE") {
		if i, err := strconv.ParseInt(string(n), 10, 64); err == nil && (i >= maxExact || i <= -maxExact) {
			return types.Int(i)
		}
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil && !math.IsInf(f, 0) {
		return types.NewErr("%q is not a number", string(n))
	}
	return types.Double(f)
}

// alike makes two numbers of different kinds doubles, so that a JSON number and a literal can be added.
func alike(a, b ref.Val) (ref.Val, ref.Val) {
	if _, ok := a.(types.Double); ok {
		return a, toDouble(b)
	}
	if _, ok := b.(types.Double); ok {
		return toDouble(a), b
	}
	return a, b
}

func toDouble(v ref.Val) ref.Val {
	switch v := v.(type) {
	case types.Int:
		return types.Double(v)
	case types.Uint:
		return types.Double(v)
	}
	return v
}

// toInt makes a double without a fraction an integer, for %.
func toInt(v ref.Val) ref.Val {
	d, ok := v.(types.Double)
	if ok && d == types.Double(math.Trunc(float64(d))) && math.Abs(float64(d)) < maxExact {
		return types.Int(d)
	}
	return v
}
