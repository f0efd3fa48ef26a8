package breaker

import (
	"testing"
	"time"
)

func TestAProbeMayHoldBothCircuits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		verdict      Verdict
		model, whole State
	}{
		"it works":        {Verdict{Result: Worked}, Closed, Closed},
		"it fails":        {Verdict{Result: Failed}, Open, Open},
		"the bill again":  {Verdict{Result: Failed, Opens: OpensProvider}, Open, Open},
		"no verdict":      {Verdict{Result: NoVerdict}, Open, Open},
		"the model again": {Verdict{Result: Failed, Opens: OpensModel}, Open, Open},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			r := s.replica("a")
			late := r.enter("small")
			r.call("small", Verdict{Result: Failed, Opens: OpensModel})
			late.Done(Verdict{Result: Failed, Opens: OpensProvider})
			s.storedAs(small, Open)
			s.storedAs(whole, Open)
			r.settled(small)
			r.settled(whole)
			s.clock.forward(halfOpenAfter)
			p := r.enter("small")
			if !p.probes[provider] || !p.probes[model] {
				t.Fatal("not a probe of both")
			}
			if open := r.refused("large"); open.Circuit != whole || open.State != HalfOpen {
				t.Errorf("another model meanwhile: %v", open)
			}
			p.Done(c.verdict)
			// On a busy machine the record may be written a moment later.
			s.storedAs(small, c.model)
			s.storedAs(whole, c.whole)
		})
	}
}

func TestNoProbeOfAProviderBeginsThroughAModelThatIsOpen(t *testing.T) {
	t.Parallel()
	s := setup(t)
	r := s.replica("a")
	late := r.enter("small")
	late.Done(Verdict{Result: Failed, Opens: OpensProvider})
	r.settled(whole)
	if err := OpenByHand(t.Context(), s.conn, small, time.Hour, "", "operator ann"); err != nil {
		t.Fatal(err)
	}
	r.sees(small, Open)
	s.clock.forward(halfOpenAfter)
	if open := r.refused("small"); open.Circuit != small {
		t.Errorf("refused with %v", open)
	}
	if got := s.stored(whole); got.State != Open {
		t.Errorf("the provider's circuit: %+v", got)
	}
	r.call("large", Verdict{Result: Worked})
	if got := s.stored(whole); got.State != Closed {
		t.Errorf("the provider's circuit: %+v", got)
	}
}

func TestAProbeThatFindsTheProviderBrokenOpensItAndGoesBackToOpen(t *testing.T) {
	t.Parallel()
	s := setup(t)
	a, b := s.replica("a"), s.replica("b")
	a.breaks()
	s.storedAs(small, Open)
	s.clock.forward(halfOpenAfter)
	a.call("small", Verdict{Result: Failed, Opens: OpensProvider, Why: "HTTP 403"})
	if got := s.stored(small); got.State != Open {
		t.Errorf("the model's circuit: %+v", got)
	}
	s.storedAs(whole, Open)
	b.sees(whole, Open)
	if open := b.refused("large"); open.Circuit != whole {
		t.Errorf("large: %v", open)
	}
}

func TestTheProbeOfAProviderIsGivenBackIfItsModelIsTakenByAnother(t *testing.T) {
	t.Parallel()
	s := setup(t)
	a, b := s.replica("a"), s.replica("b")
	early := a.enter("small")
	a.breaks()
	early.Done(Verdict{Result: Failed, Opens: OpensProvider})
	a.settled(whole)
	s.clock.forward(halfOpenAfter)
	p := &Pass{b: a.Breakers, m: a.models["small"], probes: [places]bool{true, true}, started: s.clock.now()}
	views := [places]*view{provider: a.known(whole), model: a.known(small)}
	if err := OpenByHand(t.Context(), s.conn, small, time.Hour, "", "operator ann"); err != nil {
		t.Fatal(err)
	}
	if won, err := a.take(t.Context(), p, views); err != nil || won {
		t.Fatalf("won: %v, %v", won, err)
	}
	if got := s.stored(whole); got.State != Open || got.Until.After(s.clock.now()) {
		t.Errorf("the provider's circuit: %+v", got)
	}
	seeEpoch(t, []*replica{b}, whole, s.stored(whole).Epoch)
	b.call("large", Verdict{Result: Worked})
	if got := s.stored(whole); got.State != Closed {
		t.Errorf("the provider's circuit: %+v", got)
	}
}
