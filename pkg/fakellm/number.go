package fakellm

import (
	"math"
	"strconv"
	"strings"
)

// number returns a number between a schema's bounds, as JSON. It is a multiple of multipleOf, of 1 for
// integers, or else of a power of ten that suits the range, so that 0.1 is not written 0.30000000000000004.
func number(k *keywords, integer bool, d *dice) string {
	step, decimals := stepOf(k, integer)
	low, high := rangeOf(k, max(step, 1))
	if low >= high {
		return between(low, high, k)
	}
	if step == 0 {
		exponent := math.Floor(math.Log10((high - low) / 100))
		exponent = min(exponent, 0)
		step, decimals = math.Pow(10, exponent), int(-exponent)
	}
	// The tolerance keeps 0.3/0.1 = 2.9999999999999996 in.
	first, last := math.Ceil(low/step-1e-9), math.Floor(high/step+1e-9)
	if k.low.exclusive && first*step <= low {
		first++
	}
	if k.high.exclusive && last*step >= high {
		last--
	}
	if first > last {
		return between(low, high, k)
	}
	n := first + math.Floor(d.float()*(last-first+1))
	return written(n*step, 'f', decimals)
}

// written returns x as JSON, which has no infinity: bounds can demand one.
func written(x float64, format byte, decimals int) string {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return "0"
	}
	return strconv.FormatFloat(x, format, decimals, 64)
}

// between answers for a range without a multiple of its step: one end, or the middle.
func between(low, high float64, k *keywords) string {
	at := low
	if k.low.exclusive {
		at = (low + high) / 2
		if !k.high.exclusive {
			at = high
		}
	}
	return written(at, 'g', -1)
}

// stepOf returns what the number is to be a multiple of, and its decimal places; 0: nothing.
func stepOf(k *keywords, integer bool) (step float64, decimals int) {
	step, err := k.multiple.Float64()
	if err != nil || step <= 0 {
		step = 0
	}
	if !integer {
		return step, decimalsOf(string(k.multiple), step)
	}
	if step == 0 {
		return 1, 0
	}
	for n := 1.0; n <= 1000; n++ { // 0.4 becomes 2, for integers
		if whole := n * step; math.Abs(whole-math.Round(whole)) < 1e-9 {
			return math.Round(whole), 0
		}
	}
	return 1, 0
}

func decimalsOf(literal string, step float64) int {
	if step == 0 {
		return 0
	}
	if strings.ContainsAny(literal, "eE") {
		literal = strconv.FormatFloat(step, 'f', -1, 64)
	}
	_, fraction, _ := strings.Cut(literal, ".")
	return len(fraction)
}

// rangeOf returns the bounds, with an open end a hundred units away, and 0 to 100 when they admit all of
// it: the likely size of anything.
func rangeOf(k *keywords, unit float64) (low, high float64) {
	low, high = k.low.at, k.high.at
	switch {
	case !k.low.set && !k.high.set:
		return 0, 100 * unit
	case !k.low.set:
		if low = 0; high <= 0 {
			low = high - 100*unit
		}
	case !k.high.set:
		high = max(100*unit, low+100*unit)
	}
	if low < 0 && high > 100*unit {
		return 0, 100 * unit
	}
	return low, high
}
