package fallback

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// unfinished is as many runs as one process must be able to watch.
const unfinished = 1_000_000

func fullIndex(b *testing.B) *index {
	b.Helper()
	x := newIndex(newMetrics(nil))
	now := time.Now()
	dice := rand.New(rand.NewPCG(1, 2))
	for i := range unfinished {
		x.add(idOf(i), 1, now.Add(time.Hour+time.Duration(dice.Int64N(int64(23*time.Hour)))))
	}
	return x
}

func idOf(i int) string { return fmt.Sprintf("01BENCHBENCHBENCH%09d", i) }

func BenchmarkIndexNearestDeadlineOfAMillion(b *testing.B) {
	x := fullIndex(b)
	now := time.Now()
	for b.Loop() {
		if runs, next := x.due(now, answersAtOnce); len(runs) != 0 || next != time.Minute {
			b.Fatal(runs, next)
		}
	}
}

func BenchmarkIndexTakeNearestOfAMillion(b *testing.B) {
	x := fullIndex(b)
	later := time.Now().Add(25 * time.Hour)
	for b.Loop() {
		runs, _ := x.due(later, 1)
		b.StopTimer()
		x.add(runs[0].id, 1, time.Unix(0, runs[0].answerBy+int64(time.Hour)))
		b.StartTimer()
	}
}

func BenchmarkIndexResultOfOneOfAMillion(b *testing.B) {
	x := fullIndex(b)
	answerBy := time.Now().Add(12 * time.Hour)
	i := 0
	for b.Loop() {
		id := idOf(i % unfinished)
		x.done(id, 1)
		x.early = map[string]told{}
		x.add(id, 1, answerBy)
		i++
	}
}

// BenchmarkIndexMemory tells what one of a million unfinished runs takes.
func BenchmarkIndexMemory(b *testing.B) {
	for b.Loop() {
		before := live()
		x := fullIndex(b)
		b.ReportMetric(float64(live()-before)/unfinished, "B/run")
		runtime.KeepAlive(x)
	}
}

func live() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
