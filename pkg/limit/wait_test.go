package limit

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

func TestWhoCameFirstGoesFirst(t *testing.T) {
	b := setup(t)
	one := b.start("one", models(Bounds{Concurrency: 1}))
	held := b.take(one, small, 5*time.Second)
	var mu sync.Mutex
	var order []int
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			p, err := one.Take(b.ctx, small, -1)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			p.Done(Used{Sent: true})
		})
		brokertest.Eventually(t, time.Second, "it waits", func() bool { return one.Waiting("small", job.Interactive) == i+1 })
	}
	held.Done(Used{Sent: true})
	all.Wait()
	for i, n := range order {
		if i != n {
			t.Fatalf("the order was %v", order)
		}
	}
}

func TestACancelledWaitLeaksNothing(t *testing.T) {
	b := setup(t)
	o := models(Bounds{Concurrency: 3, RequestsPerMinute: 4000, TokensPerMinute: 400_000})
	o.Providers = map[string]Bounds{"far": {Concurrency: 2}}
	o.Tasks = map[string]int{"sum": 2}
	one := b.start("one", o)
	ask := Ask{Model: "small", Provider: "far", Task: "sum", Lane: job.Interactive, Tokens: 100}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for n := range 50 {
				ctx, cancel := context.WithTimeout(b.ctx, time.Duration((i*7+n*3)%10)*time.Millisecond)
				p, err := one.Take(ctx, ask, -1)
				switch {
				case err == nil:
					p.Done(Used{Sent: n%2 == 0, Tokens: 50})
				case !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("take: %v", err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if n := one.Waiting("small", job.Interactive); n != 0 {
		t.Errorf("%d still wait", n)
	}
	one.isIdle(t)
	for _, key := range []string{"model.small", "provider.far", "task.sum"} {
		brokertest.Eventually(t, 5*time.Second, key+" has no claims", func() bool { return len(b.record(key).Replicas) == 0 })
	}
	b.take(one, ask, 5*time.Second).Done(Used{Sent: true})
}

// isIdle wants nothing in use and nobody queued.
func (l *replica) isIdle(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entities {
		if e.slots != nil && (e.slots.inUse != 0 || e.slots.batch != 0) {
			t.Errorf("%s has %d in use, %d of batch", e.key, e.slots.inUse, e.slots.batch)
		}
		if e.queued != [lanes]int{} {
			t.Errorf("%s has %v queued", e.key, e.queued)
		}
	}
	if l.waiting != 0 || len(l.active[0])+len(l.active[1]) != 0 {
		t.Errorf("%d wait, in %v", l.waiting, l.active)
	}
}

func TestABusyLimitIsSaidAtOnceWhenItIsKnown(t *testing.T) {
	b := setup(t)
	one := b.start("one", models(Bounds{RequestsPerMinute: 3}))
	b.take(one, small, 5*time.Second).Done(Used{Sent: true})
	b.isBusy(one, small, 100*time.Millisecond) // it asks, and knows then
	began := time.Now()
	busy := b.isBusy(one, small, 500*time.Millisecond)
	if time.Since(began) > 300*time.Millisecond {
		t.Errorf("said after %s", time.Since(began))
	}
	if busy.Limit != "model small: requests_per_minute 3" || busy.Wait < 500*time.Millisecond || busy.Wait > 3*time.Second || busy.Task {
		t.Errorf("busy: %+v", busy)
	}
	if want := "no permit for about"; busy.Error()[:len(want)] != want {
		t.Errorf("busy: %v", busy)
	}
}

func TestATakeWaitsForRun(t *testing.T) {
	b := setup(t)
	conn := brokertest.Connect(t, b.url)
	l, err := newLimiter(Options{Conn: conn, Replica: "one", Models: map[string]Bounds{"small": {Concurrency: 1}}}, short(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Take(b.ctx, small, 10*time.Millisecond); err == nil {
		t.Fatal("a permit without an exchange")
	}
	taken := make(chan error, 1)
	go func() {
		p, err := l.Take(b.ctx, small, -1)
		if err == nil {
			p.Done(Used{Sent: true})
		}
		taken <- err
	}()
	ctx, cancel := context.WithCancel(b.ctx)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	if err := <-taken; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if r := b.record("model.small"); len(r.Replicas) != 0 {
		t.Errorf("it left %v behind", r.Replicas)
	}
}

func TestWithoutPatienceAPermitIsThereOrNot(t *testing.T) {
	b := setup(t)
	one := b.start("one", models(Bounds{Concurrency: 1}))
	brokertest.Eventually(t, 5*time.Second, "who asks again finds what the first time fetched", func() bool {
		p, err := one.Take(b.ctx, small, 0)
		if err != nil {
			return false
		}
		p.Done(Used{})
		return true
	})
}

func TestRoomIsASecondsWorthLessThoseWhoWait(t *testing.T) {
	b := setup(t)
	o := models(Bounds{Concurrency: 1})
	o.Models["fast"] = Bounds{RequestsPerMinute: 1_000_000}
	o.Providers = map[string]Bounds{"far": {RequestsPerMinute: 200}}
	one := b.start("one", o)
	if n := one.Room("small", job.Interactive); n != 16 {
		t.Errorf("room %d, want 16", n)
	}
	if n := one.Room("fast", job.Interactive); n != 256 {
		t.Errorf("room %d, want 256", n)
	}
	if n := one.Room("free", job.Interactive); n < 1_000_000 {
		t.Errorf("room %d without a limit", n)
	}
	b.take(one, Ask{Model: "free", Provider: "far", Lane: job.Interactive}, 5*time.Second).Done(Used{Sent: true})
	if n := one.Room("free", job.Interactive); n < 16 || n > 60 {
		t.Errorf("room %d for 200 in 5 s", n)
	}
	held := b.take(one, small, 5*time.Second)
	end := b.flood(one, small, 5, func(p *Permit) { p.Done(Used{}) })
	brokertest.Eventually(t, time.Second, "the others wait", func() bool { return one.Room("small", job.Interactive) == 11 })
	if one.Waiting("small", job.Interactive) != 5 || one.Waiting("small", job.Batch) != 0 {
		t.Error("another number waits")
	}
	if !one.IsLimited(small) || one.IsLimited(Ask{Model: "free"}) {
		t.Error("what is limited is not, or the reverse")
	}
	held.Done(Used{Sent: true})
	end()
}
