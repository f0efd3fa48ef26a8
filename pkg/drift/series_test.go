package drift

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// played are the events of a series, each with the number of its answer.
type played struct {
	*series
	random *rand.Rand
	n      int
	events []Change
	at     []int
}

func play(seed uint64) *played {
	return &played{series: newSeries(), random: rand.New(rand.NewPCG(seed, seed))}
}

// answers plays n answers of which so large a share is bad, and returns what they made of the series.
func (p *played) answers(n int, share float64) []Event {
	before := len(p.events)
	for range n {
		p.n++
		if c := p.saw(p.random.Float64() < share); c.Event != None {
			p.events, p.at = append(p.events, c), append(p.at, p.n)
		}
	}
	var events []Event
	for _, c := range p.events[before:] {
		events = append(events, c.Event)
	}
	return events
}

func want(t *testing.T, what string, got []Event, want ...Event) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestASteadyShareAlarmsNoMoreOftenThanItsBound plays 200 starts of 10,000 answers for each share: two million answers,
// of which chance may alarm 20 times. Starts are what is hardest: little is known of what is usual.
func TestASteadyShareAlarmsNoMoreOftenThanItsBound(t *testing.T) {
	t.Parallel()
	for _, share := range []float64{0.001, 0.01, 0.03, 0.1, 0.3, 0.45} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			t.Parallel()
			const starts, answers = 200, 10_000
			alarms := 0
			for seed := range uint64(starts) {
				for _, e := range play(seed).answers(answers, share) {
					if e == Doubled {
						alarms++
					}
				}
			}
			if bound := level * starts * answers; float64(alarms) > bound {
				t.Errorf("%d alarms in %d answers, more than %.0f", alarms, starts*answers, bound)
			}
		})
	}
}

func TestABreakIsSeenSoon(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		before, after float64
		within        int
	}{
		{0, 1, 10}, {0, 0.5, 50}, {0.01, 0.9, 30}, {0.05, 0.5, 80}, {0.1, 0.3, 300}, {0.3, 0.9, 150}, {0.02, 0.05, 2500},
	} {
		for seed := range uint64(20) {
			p := play(seed)
			want(t, "before", p.answers(4000, c.before))
			p.answers(c.within, c.after)
			if len(p.events) == 0 || p.events[0].Event != Doubled {
				t.Errorf("%g, then %g: nothing is said within %d answers (seed %d)", c.before, c.after, c.within, seed)
			} else if e := p.events[0]; e.Now.Value() < 2*e.Usual.Value() {
				t.Errorf("%g, then %g: alarmed at %v after %v", c.before, c.after, e.Now, e.Usual)
			}
		}
	}
}

func TestTwoHundredAnswersAreNeededToCompareWith(t *testing.T) {
	t.Parallel()
	p := play(1)
	p.answers(leastUsual-1, 0)
	want(t, "after 199 good answers, a window of bad ones", p.answers(windows()[0], 1))
	p = play(1)
	p.answers(leastUsual+windows()[0], 0)
	want(t, "after 250 good answers, some bad ones", p.answers(10, 1), Doubled)
}

func TestAnAlarmIsToldOnceAndArmedAgainWhenTheShareReturns(t *testing.T) {
	t.Parallel()
	p := play(7)
	p.answers(5000, 0.05)
	want(t, "a break", p.answers(1000, 0.4), Doubled)
	want(t, "the share returns", p.answers(1000, 0.05), Returned)
	want(t, "it is as ever", p.answers(20_000, 0.05))
	want(t, "the next break", p.answers(1000, 0.4), Doubled)
	if first, second := p.events[0].Usual.Value(), p.events[2].Usual.Value(); second > first+0.02 {
		t.Errorf("the usual share went from %g to %g: what came during the alarm counts as usual", first, second)
	}
}

func TestAShareThatStaysIsTheUsualOne(t *testing.T) {
	t.Parallel()
	p := play(9)
	p.answers(3000, 0.05)
	want(t, "a break that stays", p.answers(10_000, 0.3), Doubled, Settled)
	if took := p.at[1] - p.at[0]; took != settled {
		t.Errorf("it was the usual share after %d answers, want %d", took, settled)
	}
	want(t, "it stays still", p.answers(20_000, 0.3))
	want(t, "it doubles again", p.answers(500, 0.9), Doubled)
	if got := p.events[2].Usual.Value(); got < 0.25 || got > 0.35 {
		t.Errorf("compared with a usual share of %g, want 0.3", got)
	}
}

func TestCountsOfWindowsAreThoseOfTheirAnswers(t *testing.T) {
	t.Parallel()
	p := play(11)
	for n := range 30_000 {
		share := 0.1
		if n/2500%2 == 1 { // alarms and their ends are among them
			share = 0.6
		}
		p.answers(1, share)
		if n%97 != 0 {
			continue
		}
		for i, w := range windows() {
			bad := 0
			for k := range min(w, p.recent.n) {
				if p.recent.newest(k) {
					bad++
				}
			}
			if p.counts[i] != bad {
				t.Fatalf("after %d answers the window of %d counts %d bad ones, it has %d", p.n, w, p.counts[i], bad)
			}
		}
	}
	if len(p.events) < 4 {
		t.Fatalf("only %d events", len(p.events))
	}
}
