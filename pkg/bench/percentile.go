package bench

import (
	"math"
	"slices"
	"time"
)

// percentile returns the nearest-rank percentile of sorted values: the smallest of them that p percent, or
// more, do not exceed. Nothing is interpolated: the value is one that was measured. It is 0 for no values.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// SpreadOf sums up durations, which it sorts.
func SpreadOf(measured []time.Duration) Spread {
	slices.Sort(measured)
	return Spread{
		Jobs: len(measured),
		P50:  milliseconds(percentile(measured, 50)),
		P95:  milliseconds(percentile(measured, 95)),
		P99:  milliseconds(percentile(measured, 99)),
	}
}

// milliseconds keeps three digits behind the point.
func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}
