package fallback

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// add puts a run whose time is told as markers tell it.
func (x *index) add(id string, run int, answerBy time.Time) {
	x.put(entry{id: id, run: int32(run), answerBy: nanoseconds(answerBy)})
}

func TestTheIndexGivesOutWhatIsDueInOrderAndNothingThatHasAResult(t *testing.T) {
	t.Parallel()
	x := newIndex(newMetrics(nil))
	now := time.Now()
	dice := rand.New(rand.NewPCG(1, 2))
	var want []int
	for _, i := range dice.Perm(1000) {
		x.add(fmt.Sprint(i), 1, now.Add(time.Duration(i)*time.Millisecond))
	}
	for i := range 1000 {
		if i%3 == 0 {
			x.done(fmt.Sprint(i), 1)
		} else if i <= 500 {
			want = append(want, i)
		}
	}
	runs, next := x.due(now.Add(500*time.Millisecond), 10_000)
	var got []int
	for _, e := range runs {
		var i int
		_, _ = fmt.Sscan(e.id, &i)
		got = append(got, i)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d are due, want %d, in order", len(got), len(want))
	}
	if next != 2*time.Millisecond { // 501 has a result
		t.Errorf("next look after %s", next)
	}
}

func TestAResultThatComesBeforeItsMarkerLeavesNothingInTheIndex(t *testing.T) {
	t.Parallel()
	x := newIndex(newMetrics(nil))
	x.done("a", 1)
	x.add("a", 1, time.Now().Add(-time.Second))
	if runs, _ := x.due(time.Now(), 1); len(runs) != 0 {
		t.Errorf("due %+v", runs)
	}
	x.add("a", 2, time.Now().Add(-time.Second))
	if runs, _ := x.due(time.Now(), 1); len(runs) != 1 || runs[0].run != 2 {
		t.Errorf("a later run: due %+v", runs)
	}
}

func TestALaterRunTakesThePlaceOfAnEarlierOne(t *testing.T) {
	t.Parallel()
	x := newIndex(newMetrics(nil))
	now := time.Now()
	x.add("a", 1, now.Add(time.Second))
	x.add("a", 2, now.Add(time.Hour))
	x.done("a", 1) // late news of the first
	if runs, next := x.due(now.Add(2*time.Second), 10); len(runs) != 0 || next != time.Minute {
		t.Errorf("due %+v, next %s", runs, next)
	}
}

func TestATimeBeyondWhatNanosecondsTellStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, far := range []time.Time{time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		x := newIndex(newMetrics(nil))
		now := time.Now()
		x.add("far", 1, far)
		x.add("due", 1, now.Add(-time.Minute))
		runs, next := x.due(now, 10)
		if len(runs) != 1 || runs[0].id != "due" || next != time.Minute {
			t.Errorf("beside a run of %s: due %+v, next %s", far, runs, next)
		}
	}
	x := newIndex(newMetrics(nil))
	x.add("long ago", 1, time.Time{})
	if runs, _ := x.due(time.Now(), 10); len(runs) != 1 {
		t.Error("a time long ago is not due")
	}
}
