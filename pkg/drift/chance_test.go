package drift

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestTheLadyTastingTea holds chance to the example that the test was published with (R. A. Fisher, The Design of
// Experiments, 1935, chapter II): of eight cups four have the milk first; to name all four by chance is one in 70, three
// or more 17 in 70.
func TestTheLadyTastingTea(t *testing.T) {
	t.Parallel()
	for named, of70 := range map[int]float64{4: 1, 3: 17, 2: 53, 1: 69, 0: 70} {
		if got := chance(named, 4, 4-named, 4); math.Abs(got-of70/70) > 1e-12 {
			t.Errorf("%d cups named: %v, want %v in 70", named, got*70, of70)
		}
	}
}

// exactly is chance in whole numbers of any size.
func exactly(windowBad, window, usualBad, usual int) *big.Rat {
	ways := func(n, k int) *big.Int { return new(big.Int).Binomial(int64(n), int64(k)) }
	bad := windowBad + usualBad
	sum := new(big.Int)
	for k := windowBad; k <= min(bad, window); k++ {
		sum.Add(sum, new(big.Int).Mul(ways(bad, k), ways(window+usual-bad, window-k)))
	}
	return new(big.Rat).SetFrac(sum, ways(window+usual, window))
}

func TestChanceIsWhatBinomialsOfAnySizeSay(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		window := windows()[random.IntN(3)]
		usual := leastUsual + random.IntN(usualAnswers)
		usualBad := random.IntN(usual/2 + 1)
		least := usualBad * window / usual
		windowBad := least + random.IntN(min(window-least, 40)+1)
		want, _ := exactly(windowBad, window, usualBad, usual).Float64()
		if got := chance(windowBad, window, usualBad, usual); math.Abs(got-want) > 1e-8*want {
			t.Fatalf("%d of %d after %d of %d: %g, want %g", windowBad, window, usualBad, usual, got, want)
		}
	}
}

// TestDrawnAnswersAlarmAsOftenAsTheirExactChance draws 200 usual answers and a window of 50 again and again, and compares
// how often they alarm at one in 20 with the exact probability of that: the sum over all outcomes of two binomials that
// big rational numbers find alarming.
func TestDrawnAnswersAlarmAsOftenAsTheirExactChance(t *testing.T) {
	t.Parallel()
	const usual, window, share, oneIn, trials = 200, 50, 0.1, 20, 200_000
	random := rand.New(rand.NewPCG(3, 4))
	draw := func(n int) (bad int) {
		for range n {
			if random.Float64() < share {
				bad++
			}
		}
		return bad
	}
	alarms := 0
	for range trials {
		if before, now := draw(usual), draw(window); chance(now, window, before, usual) <= 1.0/oneIn {
			alarms++
		}
	}
	p := 0.0
	for before := range usual + 1 {
		for now := range window + 1 {
			likely := math.Exp(logBinomial(usual, before, share) + logBinomial(window, now, share))
			if likely > 1e-12 && exactly(now, window, before, usual).Cmp(big.NewRat(1, oneIn)) <= 0 {
				p += likely
			}
		}
	}
	if p > 1.0/oneIn {
		t.Fatalf("the exact chance of an alarm is %g: it is no bound", p)
	}
	deviation := math.Sqrt(p * (1 - p) * trials)
	if math.Abs(float64(alarms)-p*trials) > 4*deviation {
		t.Errorf("%d alarms in %d trials, want %.0f, give or take %.0f", alarms, trials, p*trials, deviation)
	}
}

func logBinomial(n, k int, p float64) float64 {
	ways, _ := new(big.Float).SetInt(new(big.Int).Binomial(int64(n), int64(k))).Float64()
	return math.Log(ways) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p)
}
