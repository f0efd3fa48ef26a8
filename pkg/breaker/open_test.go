package breaker

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestFiveFailuresInARowOpenTheCircuitForAllReplicasWithinASecond(t *testing.T) {
	t.Parallel()
	s := setup(t)
	all := s.three()
	for range 4 {
		all[0].call("small", Verdict{Result: Failed})
	}
	all[0].call("small", Verdict{Result: Worked})
	for range 4 {
		all[0].call("small", Verdict{Result: Failed, Why: "HTTP 500"})
	}
	all[0].call("small", Verdict{Result: NoVerdict})
	if !all[0].Look("small").Ready {
		t.Fatal("four in a row opened it")
	}
	all[0].call("small", Verdict{Result: Failed, Why: "HTTP 503"})
	if open := all[0].refused("small"); open.State != Open || open.Circuit != small || !strings.Contains(open.Error(), "5 failures in a row, the last: HTTP 503") {
		t.Errorf("the replica that saw them refuses with %v", open)
	}
	for _, r := range all {
		r.sees(small, Open)
		open := r.refused("small")
		if want := s.clock.now().Add(halfOpenAfter); !open.Until.Equal(want) || open.Since.IsZero() {
			t.Errorf("open until %s, want %s; since %s", open.Until, want, open.Since)
		}
		if look := r.Look("small"); look.Ready || look.ProbeDue || look.Open == nil || !look.Until.Equal(open.Until) {
			t.Errorf("looks %+v", look)
		}
		if !r.Look("large").Ready {
			t.Error("another model of the provider is refused, too")
		}
		r.call("large", Verdict{Result: Worked})
	}
	seeEpoch(t, all, small, 1)
	if r := s.stored(small); r.V != 1 || r.By != "a" || r.ByHand || !r.Until.Equal(r.At.Add(halfOpenAfter)) || !r.Since.Equal(r.At) {
		t.Errorf("stored %+v", r)
	}
}

func TestAShareOfFailuresOpensTheCircuit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		share float64
		calls string // f: failed, w: worked
		opens bool
	}{
		"3 of 5, the half and more":            {0.5, "fwfwf", true},
		"2 of 5":                               {0.5, "fwwwf", false},
		"exactly half, 3 of 6":                 {0.5, "wfwwff", true},
		"too few calls":                        {0.5, "fwff", false},
		"a success is the fifth call":          {0.5, "fwffw", true},
		"a third, 2 of 6":                      {0.333, "wwwfwf", true},
		"less than a third, 2 of 7":            {0.333, "wwwwwff", false},
		"one per cent more than 2 of 5":        {0.41, "wwwff", false},
		"all, but one worked":                  {1, "ffffw", false},
		"three quarters, 6 of 8, never before": {0.75, "wwffffff", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.model.Settings.ConsecutiveFailures, s.model.Settings.FailureShare, s.model.Settings.MinCalls = 100, c.share, 5
			r := s.replica("a")
			for i, call := range c.calls {
				if !r.Look("small").Ready {
					t.Fatalf("open after %s", c.calls[:i])
				}
				r.call("small", Verdict{Result: map[rune]Result{'f': Failed, 'w': Worked}[call]})
			}
			if open := !r.Look("small").Ready; open != c.opens {
				t.Errorf("open %v, want %v", open, c.opens)
			}
			if c.opens {
				if r := s.storedAs(small, Open); !strings.Contains(r.Why, "calls failed within 1m0s") {
					t.Errorf("why: %s", r.Why)
				}
			}
		})
	}
}

func TestAVerdictOpensWhatItNamesAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		verdict      Verdict
		model, whole State
	}{
		"the key or the bill":          {Verdict{Result: Failed, Opens: OpensProvider, Why: "HTTP 401"}, Closed, Open},
		"no such model":                {Verdict{Result: Failed, Opens: OpensModel, Why: "HTTP 404"}, Open, Closed},
		"an ordinary failure":          {Verdict{Result: Failed, Why: "HTTP 500"}, Closed, Closed},
		"no verdict, whatever it says": {Verdict{Result: NoVerdict, Opens: OpensProvider}, Closed, Closed},
		"it worked":                    {Verdict{Result: Worked, Opens: OpensModel}, Closed, Closed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			a, b := s.replica("a"), s.replica("b")
			a.call("small", c.verdict)
			for _, r := range []*replica{a, b} {
				r.sees(small, c.model)
				r.sees(whole, c.whole)
				if got, want := r.Look("small").Ready, c.model == Closed && c.whole == Closed; got != want {
					t.Errorf("small is ready: %v", got)
				}
				if got, want := r.Look("large").Ready, c.whole == Closed; got != want {
					t.Errorf("large is ready: %v", got)
				}
			}
			if c.whole == Open {
				if open := b.refused("large"); open.Circuit != whole || open.Why != "HTTP 401" {
					t.Errorf("large is refused with %v", open)
				}
			}
		})
	}
}

func TestThousandFailuresOfAProviderDoNotOpenItUnlessOneSaysSo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.model.Settings.ConsecutiveFailures, s.model.Settings.FailureShare = 100_000, 0
	r := s.replica("a")
	for range 1000 {
		r.call("small", Verdict{Result: Failed})
	}
	if !r.Look("small").Ready || !r.Look("large").Ready {
		t.Error("refused")
	}
}

func TestAVerdictFromBeforeAChangeHasNoVote(t *testing.T) {
	t.Parallel()
	s := setup(t)
	r := s.replica("a")
	var early []*Pass
	for range 8 {
		early = append(early, r.enter("small"))
	}
	r.breaks()
	s.storedAs(small, Open)
	if err := CloseByHand(t.Context(), s.conn, small, "operator ann"); err != nil {
		t.Fatal(err)
	}
	r.sees(small, Closed)
	for _, p := range early[:6] {
		p.Done(Verdict{Result: Failed})
	}
	early[6].Done(Verdict{Result: Failed, Opens: OpensModel})
	if !r.Look("small").Ready {
		t.Fatal("calls from before the change opened it")
	}
	// The provider's circuit did not change: there, the same call is heard.
	early[7].Done(Verdict{Result: Failed, Opens: OpensProvider})
	r.sees(whole, Open)
	if got := s.stored(small); got.Epoch != 2 || got.State != Closed {
		t.Errorf("stored %+v", got)
	}
}

func TestFailuresFromBeforeAChangeAreForgotten(t *testing.T) {
	t.Parallel()
	s := setup(t)
	all := s.three()
	for range 4 {
		all[1].call("small", Verdict{Result: Failed})
	}
	all[0].breaks()
	all[1].sees(small, Open)
	if err := Reset(t.Context(), s.conn, small); err != nil {
		t.Fatal(err)
	}
	all[1].sees(small, Closed)
	for range 4 {
		all[1].call("small", Verdict{Result: Failed})
	}
	if !all[1].Look("small").Ready {
		t.Error("failures from before count")
	}
}

func TestAVerdictCountsOnce(t *testing.T) {
	t.Parallel()
	r := setup(t).replica("a")
	p := r.enter("small")
	for range 10 {
		p.Done(Verdict{Result: Failed})
	}
	if !r.Look("small").Ready {
		t.Error("one call opened it")
	}
}

func TestAModelThatNobodyKnowsPasses(t *testing.T) {
	t.Parallel()
	r := setup(t).replica("a")
	p := r.enter("unheard-of")
	if p.Probe() || !r.Look("unheard-of").Ready {
		t.Error("not ready, or a probe")
	}
	p.Done(Verdict{Result: Failed, Opens: OpensProvider})
	var none *Pass
	none.Done(Verdict{})
	if none.Probe() {
		t.Error("no pass is no probe")
	}
}

func TestModelsThatCannotBeAreRefusedAllAtOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	never := s.model
	never.Name, never.Settings.HalfOpenAfter = "never", 0
	wild := s.model
	wild.Name = "*"
	_, err := New(Options{Conn: s.conn, Models: []Model{s.model, s.model, never, wild}})
	for _, want := range []string{"no name", "given twice", "never be probed", `"*" is no name`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestTwoOfAProcessShareTheirMetrics(t *testing.T) {
	t.Parallel()
	s := setup(t)
	registry := prometheus.NewRegistry()
	for range 2 {
		if _, err := New(Options{Conn: s.conn, Replica: "a", Models: []Model{s.model}, Metrics: registry}); err != nil {
			t.Fatal(err)
		}
	}
}
