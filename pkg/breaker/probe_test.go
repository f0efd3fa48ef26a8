package breaker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
)

func TestOneOfAllReplicasCallsProbesOncePeriodAfterPeriod(t *testing.T) {
	t.Parallel()
	for name, three := range map[string]bool{"R1": false, "R3": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if three {
				s := setupCluster(t)
				probeFor(s, []*replica{s.replicaAt("a", s.nodes[0]), s.replicaAt("b", s.nodes[1]), s.replicaAt("c", s.nodes[2])}, 4)
				return
			}
			s := setup(t)
			probeFor(s, s.three(), 10)
		})
	}
}

func probeFor(s *bundle, all []*replica, periods int) {
	t := s.t
	t.Helper()
	all[0].breaks()
	for period := range periods {
		epoch := s.storedAs(small, Open).Epoch
		seeEpoch(t, all, small, epoch)
		s.clock.forward(halfOpenAfter - 1)
		for _, r := range all {
			if open := r.refused("small"); open.State != Open {
				t.Fatalf("before its time: %v", open)
			}
		}
		s.clock.forward(1)
		probes := s.crowd(all)
		if len(probes) != 1 || !probes[0].Probe() {
			t.Fatalf("%d calls passed in period %d", len(probes), period)
		}
		for _, r := range all {
			r.sees(small, HalfOpen)
		}
		// As many ways to end a probe, none of which lets a second one begin in the same period.
		probes[0].Done(Verdict{Result: []Result{Failed, NoVerdict}[period%2]})
		if more := s.crowd(all); len(more) != 0 {
			t.Fatalf("%d calls passed after the probe of period %d", len(more), period)
		}
	}
}

// crowd is 50 calls of each replica at once; it returns those that passed.
func (s *bundle) crowd(all []*replica) []*Pass {
	var mu sync.Mutex
	var passed []*Pass
	var calls sync.WaitGroup
	for _, r := range all {
		for range 50 {
			calls.Go(func() {
				p, err := r.Enter(s.t.Context(), "small")
				if _, open := errors.AsType[*OpenError](err); err != nil && !open {
					s.t.Errorf("neither passed nor refused: %v", err)
				}
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					passed = append(passed, p)
				}
			})
		}
	}
	calls.Wait()
	return passed
}

func TestProbesAreAPeriodApartByTheWallClock(t *testing.T) {
	t.Parallel()
	s := setup(t)
	all := s.three()
	for _, r := range all {
		r.stop()
		r.now = time.Now
		r.run()
		r.synced()
	}
	all[0].breaks()
	seeEpoch(t, all, small, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 8*halfOpenAfter)
	defer cancel()
	var mu sync.Mutex
	var starts []time.Time
	var callers sync.WaitGroup
	for i, r := range all {
		for range 10 {
			callers.Go(func() {
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for {
					if p, err := r.Enter(ctx, "small"); err == nil {
						mu.Lock()
						starts = append(starts, p.started)
						mu.Unlock()
						p.Done(Verdict{Result: []Result{Failed, NoVerdict, Failed}[i]})
					}
					select {
					case <-tick.C:
					case <-ctx.Done():
						return
					}
				}
			})
		}
	}
	callers.Wait()
	if len(starts) < 3 {
		t.Errorf("only %d probes in eight periods", len(starts))
	}
	for i := 1; i < len(starts); i++ {
		if d := starts[i].Sub(starts[i-1]); d < halfOpenAfter {
			t.Errorf("probe %d came %s after the one before", i, d)
		}
	}
}

func TestAProbeThatWorksClosesTheCircuitForAll(t *testing.T) {
	t.Parallel()
	s := setup(t)
	all := s.three()
	all[0].breaks()
	for _, r := range all {
		r.sees(small, Open)
	}
	s.clock.forward(halfOpenAfter)
	if look := all[1].Look("small"); !look.ProbeDue || look.Ready || look.Open != nil {
		t.Errorf("looks %+v", look)
	}
	p := all[1].enter("small")
	if !p.Probe() {
		t.Error("no probe")
	}
	all[2].sees(small, HalfOpen)
	open := all[2].refused("small")
	if want := s.clock.now().Add(s.model.lease()); open.State != HalfOpen || !open.Until.Equal(want) {
		t.Errorf("while the probe is under way: %v until %s, want %s", open, open.Until, want)
	}
	p.Done(Verdict{Result: Worked})
	if got := s.stored(small); got.State != Closed || got.Epoch != 3 || !got.Since.IsZero() {
		t.Errorf("stored before Done returned: %+v", got)
	}
	for _, r := range all {
		r.sees(small, Closed)
		r.call("small", Verdict{Result: Failed})
		if !r.Look("small").Ready {
			t.Error("the failures from before are not forgotten")
		}
	}
}

func TestAProbeThatFailsOpensTheCircuitAgain(t *testing.T) {
	t.Parallel()
	s := setup(t)
	r := s.replica("a")
	r.breaks()
	first := s.storedAs(small, Open)
	s.clock.forward(halfOpenAfter)
	p := r.enter("small")
	s.clock.forward(halfOpenAfter / 2)
	p.Done(Verdict{Result: Failed, Why: "still down"})
	got := s.stored(small)
	if got.State != Open || got.Epoch != 3 || got.Why != "still down" || !got.Since.Equal(first.Since) || !got.Until.Equal(s.clock.now().Add(halfOpenAfter)) {
		t.Errorf("stored %+v", got)
	}
	r.refused("small")
}

func TestAProbeWithoutAVerdictDelaysTheNextByNoMoreThanAPeriod(t *testing.T) {
	t.Parallel()
	s := setup(t)
	r := s.replica("a")
	r.breaks()
	first := s.storedAs(small, Open)
	s.clock.forward(halfOpenAfter)
	p, started := r.enter("small"), s.clock.now()
	s.clock.forward(halfOpenAfter / 2)
	p.Done(Verdict{Result: NoVerdict})
	got := s.stored(small)
	if got.State != Open || !got.Until.Equal(started.Add(halfOpenAfter)) || got.Why != first.Why || !got.Since.Equal(first.Since) {
		t.Errorf("stored %+v", got)
	}
	s.clock.forward(halfOpenAfter/2 - 1)
	r.refused("small")
	s.clock.forward(1)
	if !r.enter("small").Probe() {
		t.Error("no probe")
	}
}

func TestAsManyProbesAsAskedForMustPassOneAfterTheOther(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.model.Settings.Probes = 3
	all := s.three()
	all[0].breaks()
	seeEpoch(t, all, small, 1)
	s.clock.forward(halfOpenAfter)
	for passed := range 2 {
		probes := s.crowd(all)
		if len(probes) != 1 {
			t.Fatalf("%d probes at once after %d passed", len(probes), passed)
		}
		probes[0].Done(Verdict{Result: Worked})
		if got := s.stored(small); got.State != HalfOpen || got.Passed != passed+1 || got.Prober != "" {
			t.Fatalf("stored %+v", got)
		}
		seeEpoch(t, all, small, s.stored(small).Epoch)
	}
	all[0].call("small", Verdict{Result: Failed})
	if got := s.stored(small); got.State != Open || got.Passed != 0 {
		t.Fatalf("after a failure, stored %+v", got)
	}
	seeEpoch(t, all, small, s.stored(small).Epoch)
	s.clock.forward(halfOpenAfter)
	for i := range 3 {
		seeEpoch(t, all, small, s.stored(small).Epoch)
		all[i].call("small", Verdict{Result: Worked})
	}
	if got := s.stored(small); got.State != Closed {
		t.Errorf("stored %+v", got)
	}
}

func TestAProberThatDiedIsReplacedAfterItsLeaseAndNotBefore(t *testing.T) {
	t.Parallel()
	s := setup(t)
	a, b := s.replica("a"), s.replica("b")
	a.breaks()
	b.sees(small, Open)
	s.clock.forward(halfOpenAfter)
	lost := a.enter("small")
	b.sees(small, HalfOpen)
	a.stop()
	s.clock.forward(s.model.lease() - 1)
	if open := b.refused("small"); open.State != HalfOpen {
		t.Errorf("refused with %v", open)
	}
	s.clock.forward(1)
	p := b.enter("small")
	if !p.Probe() {
		t.Fatal("no probe")
	}
	taken := s.stored(small)

	// What the first one says after all changes nothing.
	lost.Done(Verdict{Result: Worked})
	if got := s.stored(small); got != taken {
		t.Errorf("stored %+v, was %+v", got, taken)
	}
	p.Done(Verdict{Result: Failed})
	lost.Done(Verdict{Result: Worked})
	if got := s.stored(small); got.State != Open {
		t.Errorf("stored %+v", got)
	}
}

func TestALateVerdictOfALostLeaseClosesNothingEvenIfItsReplicaSawNoneOfIt(t *testing.T) {
	t.Parallel()
	s := setup(t)
	link := brokertest.Proxy(t, s.url)
	a, b := s.replicaAt("a", link.URL()), s.replica("b")
	a.breaks()
	b.sees(small, Open)
	s.clock.forward(halfOpenAfter)
	lost := a.enter("small")
	b.sees(small, HalfOpen)
	link.Cut()
	a.loses()
	s.clock.forward(s.model.lease())
	b.call("small", Verdict{Result: Failed})
	want := s.stored(small)
	lost.Done(Verdict{Result: Worked})
	link.Heal()
	a.synced()
	brokertest.Eventually(t, 5*time.Second, "the late verdict is dropped", func() bool { return a.known(small).owed == nil })
	if got := s.stored(small); got != want {
		t.Errorf("stored %+v, was %+v", got, want)
	}
	a.refused("small")
}

// A write whose acknowledgement never came may have been stored, or may yet be.
func TestAProbeThatMayHaveBegunIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, begun := range map[string]bool{"it had begun": true, "it had not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			a, b := s.replica("a"), s.replica("b")
			a.breaks()
			s.storedAs(small, Open)
			a.sees(small, Open)
			b.sees(small, Open)
			s.clock.forward(halfOpenAfter)
			c := a.circuits[small.Key()]
			before := c.view.Load()
			p := &Pass{b: a.Breakers, m: a.models["small"], token: "a/lost", started: s.clock.now()}
			half := before.probed(p.started, p.started.Add(time.Hour), p.token, "a")
			if begun {
				if won, err := a.write(t.Context(), c, before, half, p.started); err != nil || !won {
					t.Fatal(won, err)
				}
			}
			a.release(t.Context(), c, p, before.revision)
			if got := s.stored(small); got.State != Open || got.Until.After(s.clock.now()) {
				t.Errorf("stored %+v", got)
			}
			if won, err := a.write(t.Context(), c, before, half, p.started); err != nil || won {
				t.Errorf("the late write won: %v, %v", won, err)
			}
			seeEpoch(t, []*replica{b}, small, s.stored(small).Epoch)
			if !b.enter("small").Probe() {
				t.Error("the next probe does not begin")
			}
		})
	}
}
