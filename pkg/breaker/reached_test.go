package breaker

import "testing"

func TestAProviderThatAnswersItsProbeWithAModelsErrorIsClosed(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		verdict         Verdict
		provider, model State
	}{
		"it does not have the model":       {Verdict{Result: Failed, Reached: true, Opens: OpensModel}, Closed, Open},
		"the model failed":                 {Verdict{Result: Failed, Reached: true}, Closed, Closed},
		"it refuses the account as before": {Verdict{Result: Failed, Reached: true, Opens: OpensProvider}, Open, Closed},
		"it did not answer":                {Verdict{Result: Failed}, Open, Closed},
		"nothing is known":                 {Verdict{Reached: true}, Open, Closed},
		"it answered":                      {Verdict{Result: Worked, Reached: true}, Closed, Closed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			a, b := s.replica("a"), s.replica("b")
			a.call("small", Verdict{Result: Failed, Opens: OpensProvider, Why: "the key is refused"})
			a.settled(whole)
			s.clock.forward(halfOpenAfter)
			p := a.enter("small")
			if !p.Probe() {
				t.Fatal("the call is no probe")
			}
			p.Done(row.verdict)
			s.storedAs(whole, row.provider)
			b.sees(whole, row.provider)
			a.settled(small)
			s.storedAs(small, row.model)
		})
	}
}
