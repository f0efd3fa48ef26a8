package limit

import (
	"sync"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// flight counts calls in flight, and how long each number of them was.
type flight struct {
	mu   sync.Mutex
	n    int
	most int
	area time.Duration // calls x time
	last time.Time
}

func (f *flight) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if !f.last.IsZero() {
		f.area += time.Duration(f.n) * now.Sub(f.last)
	}
	f.last = now
	f.n += n
	f.most = max(f.most, f.n)
}

// mean is how many calls were in flight since the last mean.
func (f *flight) mean(since time.Time) float64 {
	f.add(0)
	f.mu.Lock()
	defer f.mu.Unlock()
	area := f.area
	f.area = 0
	return float64(area) / float64(f.last.Sub(since))
}

func (f *flight) now() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func TestConcurrencyIsKeptOverReplicasAndTheDead(t *testing.T) {
	b := setup(t)
	const limit = 20
	bounds := Bounds{Concurrency: limit, BatchShare: 0.5}
	air, each := &flight{}, [3]flight{}
	var replicas [3]*replica
	var ends [3]func()
	for i, name := range []string{"one", "two", "three"} {
		replicas[i] = b.start(name, models(bounds))
		mine := &each[i]
		ends[i] = b.flood(replicas[i], small, 30, func(p *Permit) {
			air.add(1)
			mine.add(1)
			b.after(20 * time.Millisecond)
			mine.add(-1)
			air.add(-1)
			p.Done(Used{Sent: true})
		})
	}
	settled := func() {
		t.Helper()
		brokertest.Eventually(t, 10*time.Second, "all slots are in use", func() bool { return air.now() == limit })
		b.after(500 * time.Millisecond)
		air.mean(time.Now())
	}
	settled()
	began := time.Now()
	for i := range each {
		each[i].mean(began)
	}
	b.after(2 * time.Second)
	if mean := air.mean(began); mean < 0.95*limit {
		t.Errorf("%.1f of %d were in use", mean, limit)
	}
	for i := range each {
		if mean := each[i].mean(began); mean < 5 || mean > 8 {
			t.Errorf("replica %d had %.1f of %d", i, mean, limit)
		}
	}
	replicas[1].kill()
	ends[1]()
	settled()
	began = time.Now()
	b.after(2 * time.Second)
	if mean := air.mean(began); mean < 0.95*limit {
		t.Errorf("%.1f of %d were in use after one died", mean, limit)
	}
	ends[0]()
	ends[2]()
	if air.most > limit {
		t.Errorf("%d were in flight at once, the limit is %d", air.most, limit)
	}
	brokertest.Eventually(t, 5*time.Second, "all claims are given back", func() bool { return len(b.record("model.small").Replicas) == 0 })
}

func TestReplicasTakeTurnsAtASlotThatDoesNotDivide(t *testing.T) {
	b := setup(t)
	bounds := Bounds{Concurrency: 1, BatchShare: 0.5}
	air := &flight{}
	var mu sync.Mutex
	calls := map[string]int{}
	var ends []func()
	for _, name := range []string{"one", "two", "three"} {
		end := b.flood(b.start(name, models(bounds)), small, 2, func(p *Permit) {
			air.add(1)
			b.after(5 * time.Millisecond)
			mu.Lock()
			calls[name]++
			mu.Unlock()
			air.add(-1)
			p.Done(Used{Sent: true})
		})
		ends = append(ends, end)
	}
	brokertest.Eventually(t, 30*time.Second, "each has had its turn", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(calls) == 3
	})
	for _, end := range ends {
		end()
	}
	if air.most > 1 {
		t.Errorf("%d were in flight at once", air.most)
	}
}

func TestAClaimThatIsHeldIsKeptAliveWithoutCalls(t *testing.T) {
	b := setup(t)
	one, two := b.start("one", models(Bounds{Concurrency: 1})), b.start("two", models(Bounds{Concurrency: 1}))
	held := b.take(one, small, 5*time.Second)
	busy := b.isBusy(two, small, 2*short().lease)
	if busy.Limit != "model small: concurrency 1" || busy.Task {
		t.Errorf("busy: %+v", busy)
	}
	held.Done(Used{Sent: true})
	b.take(two, small, time.Second).Done(Used{Sent: true})
}

func TestATaskAtItsMaximumHoldsUpNoOther(t *testing.T) {
	b := setup(t)
	o := models(Bounds{Concurrency: 10})
	o.Tasks = map[string]int{"narrow": 1}
	one := b.start("one", o)
	narrow, other := Ask{Model: "small", Task: "narrow", Lane: job.Batch}, Ask{Model: "small", Task: "other", Lane: job.Batch}
	held := b.take(one, narrow, 5*time.Second)
	next := make(chan *Permit)
	go func() {
		p, _ := one.Take(b.ctx, narrow, -1)
		next <- p
	}()
	brokertest.Eventually(t, time.Second, "the second one waits", func() bool { return one.Waiting("small", job.Batch) == 1 })
	b.take(one, other, 5*time.Second).Done(Used{Sent: true})
	if busy := b.isBusy(one, narrow, 50*time.Millisecond); !busy.Task || busy.Limit != "task narrow: max_in_flight 1" {
		t.Errorf("busy: %+v", busy)
	}
	held.Done(Used{Sent: true})
	(<-next).Done(Used{Sent: true})
}
