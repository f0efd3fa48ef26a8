package limit

import (
	"testing"
	"time"
)

const noon = stamp(1_700_000_000_000_000)

func TestABlockIsASecondsWorthAndTheRoundIsFilledNotExceeded(t *testing.T) {
	t.Parallel()
	r, g := perMinute(), &ledger{}
	const limit = 6200 // 100 a second of the round's 62
	now, all := noon, map[stamp]int{}
	for ; now < noon.add(5*time.Minute); now = now.add(900 * time.Millisecond) {
		g.tidy(now, &r)
		g.floor(now, r.block, 0, limit, &r)
		n, _ := g.grant(want{n: 10_000, unit: 1, limit: limit}, now, &r)
		if n > 2*r.worth(limit) {
			t.Fatalf("%d at once, a second is worth %d", n, r.worth(limit))
		}
		g.mend(map[int64]int{now.add(r.block).slot(&r): -n, now.slot(&r): n}, limit, now, &r) // used at once
		all[now] = n
	}
	for from := range all {
		sum := 0
		for at, n := range all {
			if at >= from && at < from.add(time.Minute) {
				sum += n
			}
		}
		full := from > noon && from < now.add(-time.Minute)
		if sum > limit || full && sum < limit*95/100 {
			t.Errorf("%d in the minute after %s, the limit is %d", sum, from.since(noon), limit)
		}
	}
}

func TestWhatWasGrantedCountsUntilNoWindowCanSeeIt(t *testing.T) {
	t.Parallel()
	r, g := perMinute(), &ledger{}
	if n, _ := g.grant(want{n: 1, unit: 1, limit: 1}, noon, &r); n != 1 {
		t.Fatal("an empty window grants nothing")
	}
	latest := noon.add(r.block + r.window + r.jitter) // used at the block's end, and late
	g.tidy(latest, &r)
	n, soonest := g.grant(want{n: 1, unit: 1, limit: 1}, latest, &r)
	if n != 0 || soonest <= latest || soonest > latest.add(r.slot+r.block) {
		t.Errorf("granted %d, the next %s later", n, soonest.since(latest))
	}
	g.tidy(soonest, &r)
	if n, _ := g.grant(want{n: 1, unit: 1, limit: 1}, soonest, &r); n != 1 {
		t.Error("nothing is granted when it was said to be")
	}
}

func TestDebtsSlowDownWhatFollows(t *testing.T) {
	t.Parallel()
	r, g := perMinute(), &ledger{}
	const limit = 62_000
	g.floor(noon, 0, 0, limit, &r)
	g.mend(map[int64]int{noon.slot(&r): 5000}, limit, noon, &r)
	n, soonest := g.grant(want{n: 100, unit: 100, limit: limit}, noon, &r)
	if wait := soonest.since(noon); n != 0 || wait < 4*time.Second || wait > 5*time.Second {
		t.Errorf("granted %d after a debt of 5 s, the next %s later", n, wait)
	}
	g.mend(map[int64]int{noon.slot(&r): -5000}, limit, noon, &r)
	if n, _ := g.grant(want{n: 100, unit: 100, limit: limit}, noon, &r); n != 100 {
		t.Errorf("granted %d after it was given back", n)
	}
}

func TestALogHoldsNothingOldNorBelowZero(t *testing.T) {
	t.Parallel()
	r, g := perMinute(), &ledger{}
	g.mend(map[int64]int{noon.add(-2 * time.Minute).slot(&r): 7, noon.slot(&r): 3, noon.add(-time.Second).slot(&r): 2}, 100, noon, &r)
	if g.used() != 5 {
		t.Errorf("used %d", g.used())
	}
	paid := g.Paid
	g.mend(map[int64]int{noon.slot(&r): -9}, 100, noon, &r)
	if cost := paid - g.Paid; g.used() != 2 || cost != stamp(3*r.interval(100)) {
		t.Errorf("used %d, credited %d", g.used(), cost)
	}
	g.tidy(noon.add(62*time.Second), &r)
	if g.used() != 0 || len(g.Log) != 0 {
		t.Errorf("a minute later %+v", g)
	}
}

func TestOthersKeepWhatCameInByTheirRight(t *testing.T) {
	t.Parallel()
	r := perMinute()
	claims := map[string]*claim{
		"me":   {At: noon, Interactive: 1},
		"near": {At: noon.add(-500 * time.Millisecond), Interactive: 1},
		"dead": {At: noon.add(-time.Minute), Interactive: 1},
		"idle": {At: noon},
	}
	right := rights(claims, 0.5)
	a := asking{me: "me", unit: 1, limit: 6200}
	if n := keep(requests, a, claims, right, noon, &r); n != 16 { // a third of 50
		t.Errorf("kept %d", n)
	}
	a.unit = 10
	if n := keep(requests, a, claims, right, noon, &r); n != 10 {
		t.Errorf("kept %d of calls that take 10", n)
	}
	claims["near"].Needs[requests] = need{N: 500, Since: noon.add(-9 * time.Second)}
	if n := keep(requests, a, claims, right, noon, &r); n != 300 {
		t.Errorf("kept %d for a large call that waits for 9 s", n)
	}
	a.need = need{N: 600, Since: noon.add(-10 * time.Second)}
	if n := keep(requests, a, claims, right, noon, &r); n != 0 {
		t.Errorf("kept %d for a large call that came later", n)
	}
}

func TestASplitGivesToEachByItsRightAndNoMoreThanItWants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit int
		wants map[string]int
		right map[string]float64
		turn  int
		want  map[string]int
	}{
		"equal":          {10, map[string]int{"a": 20, "b": 20}, map[string]float64{"a": 0.5, "b": 0.5}, 0, map[string]int{"a": 5, "b": 5}},
		"by right":       {8, map[string]int{"a": 20, "b": 20}, map[string]float64{"a": 0.75, "b": 0.25}, 0, map[string]int{"a": 6, "b": 2}},
		"one wants less": {10, map[string]int{"a": 2, "b": 20}, map[string]float64{"a": 0.5, "b": 0.5}, 0, map[string]int{"a": 2, "b": 8}},
		"the rest":       {10, map[string]int{"a": 9, "b": 9, "c": 9}, map[string]float64{"a": 1. / 3, "b": 1. / 3, "c": 1. / 3}, 1, map[string]int{"a": 3, "b": 4, "c": 3}},
		"no right":       {3, map[string]int{"a": 9, "b": 9}, map[string]float64{"a": 1, "b": 0}, 1, map[string]int{"a": 3, "b": 0}},
		"in use":         {6, map[string]int{"a": 9, "b": 2}, map[string]float64{"a": 1}, 0, map[string]int{"a": 4, "b": 2}},
	} {
		got := split(c.limit, c.wants, c.right, c.turn)
		for who, n := range c.want {
			if got[who] != n {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	}
}
