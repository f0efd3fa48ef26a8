package bench

import (
	"testing"
	"time"
)

// The lists and their percentiles are those of the worked examples in Wikipedia, "Percentile", section "The
// nearest-rank method"; numpy.percentile(…, method="inverted_cdf") agrees.
func TestPercentilesAreTheNearestRanksOfThePublishedExamples(t *testing.T) {
	t.Parallel()
	for _, example := range []struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{[]time.Duration{15, 20, 35, 40, 50}, 5, 15},
		{[]time.Duration{15, 20, 35, 40, 50}, 30, 20},
		{[]time.Duration{15, 20, 35, 40, 50}, 40, 20},
		{[]time.Duration{15, 20, 35, 40, 50}, 50, 35},
		{[]time.Duration{15, 20, 35, 40, 50}, 100, 50},
		{[]time.Duration{3, 6, 7, 8, 8, 10, 13, 15, 16, 20}, 25, 7},
		{[]time.Duration{3, 6, 7, 8, 8, 10, 13, 15, 16, 20}, 50, 8},
		{[]time.Duration{3, 6, 7, 8, 8, 10, 13, 15, 16, 20}, 75, 15},
		{[]time.Duration{3, 6, 7, 8, 8, 10, 13, 15, 16, 20}, 100, 20},
		{[]time.Duration{3, 6, 7, 8, 8, 9, 10, 13, 15, 16, 20}, 25, 7},
		{[]time.Duration{3, 6, 7, 8, 8, 9, 10, 13, 15, 16, 20}, 50, 9},
		{[]time.Duration{3, 6, 7, 8, 8, 9, 10, 13, 15, 16, 20}, 75, 15},
	} {
		if got := percentile(example.sorted, example.p); got != example.want {
			t.Errorf("percentile %g of %v is %d, want %d", example.p, example.sorted, got, example.want)
		}
	}
}

func TestNoValuesHaveNoPercentile(t *testing.T) {
	t.Parallel()
	if got := percentile(nil, 99); got != 0 {
		t.Errorf("percentile of nothing is %d", got)
	}
}

func TestASpreadIsToldInMilliseconds(t *testing.T) {
	t.Parallel()
	got := SpreadOf([]time.Duration{3 * time.Millisecond, 1500 * time.Microsecond, 2 * time.Millisecond})
	if want := (Spread{Jobs: 3, P50: 2, P95: 3, P99: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
