package drift

import "math"

// chance is how likely it is that so many of a window are bad by chance, or more, when window and usual answers have the
// same share: of all ways to draw the window out of both together, the part that has at least windowBad bad ones in it.
func chance(windowBad, window, usualBad, usual int) float64 {
	all, bad := window+usual, windowBad+usualBad
	term := math.Exp(logWays(bad, windowBad) + logWays(all-bad, window-windowBad) - logWays(all, window))
	sum := 0.0
	for k := windowBad; k <= min(bad, window) && term > sum*negligible; k++ {
		sum += term
		term *= float64(bad-k) * float64(window-k) / (float64(k+1) * float64(all-bad-window+k+1))
	}
	return sum
}

// negligible is which part of the sum the rest of it may be.
const negligible = 1e-12

// logWays is the logarithm of the number of ways to choose k of n.
func logWays(n, k int) float64 {
	return logFactorial(n) - logFactorial(k) - logFactorial(n-k)
}

func logFactorial(n int) float64 {
	l, _ := math.Lgamma(float64(n + 1))
	return l
}
