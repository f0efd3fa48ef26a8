package fakellm_test

import (
	"fmt"
	"maps"
	"net/http"
	"testing"

	"spillway/pkg/fakellm"
)

func (b *bundle) statusOf(t *testing.T, input, model string) int {
	t.Helper()
	return b.chat(t, ask(input, object{"model": model})).status
}

func TestAScriptPlaysInOrderAndThenTheFaultsHoldAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "529"}}})
	b.Script("m", fakellm.Fault{Kind: "429"}, fakellm.Fault{Kind: "ok"}, fakellm.Fault{Kind: "503"})
	for i, want := range []int{429, 200, 503, 529} {
		equal(t, fmt.Sprint("call ", i+1), b.statusOf(t, "x", "m"), want)
	}
	b.Script("m", fakellm.Fault{Kind: "ok"})
	b.Script("m")
	equal(t, "an emptied script", b.statusOf(t, "x", "m"), 529)
}

func TestAScriptForAllModelsIsPlayedByThoseWithoutOneOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	b.Script("", fakellm.Fault{Kind: "500"})
	b.Script("m", fakellm.Fault{Kind: "503"})
	equal(t, "own script", b.statusOf(t, "x", "m"), 503)
	equal(t, "script for all", b.statusOf(t, "x", "other"), 500)
	equal(t, "used up", b.statusOf(t, "x", "other"), 200)
}

func TestAFaultStrikesOnlyTheCallsThatItNames(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{
		{Kind: "429", Model: "small"}, {Kind: "401", Key: "sk-old"}, {Kind: "503", Match: "poison"}, {Kind: "500", First: 2, Match: "twice"},
	}})
	equal(t, "model", b.statusOf(t, "x", "small"), 429)
	equal(t, "another model", b.statusOf(t, "x", "large"), 200)
	equal(t, "match", b.statusOf(t, "some poison here", "large"), 503)
	for i, want := range []int{500, 500, 200} {
		equal(t, fmt.Sprint("call ", i+1, " of an input"), b.statusOf(t, "twice", "large"), want)
	}
	for header, value := range map[string]string{"Authorization": "Bearer sk-old", "Api-Key": "sk-old"} {
		r := b.request(t, b.ctx, http.MethodPost, "/v1/chat/completions", ask("x", nil))
		r.Header.Set(header, value)
		equal(t, header, b.do(t, r).status, 401)
	}
	b.SetFaults()
	equal(t, "no fault any more", b.statusOf(t, "x", "small"), 200)
}

func TestARateStrikesItsShareAndTheSameCallsForTheSameSeed(t *testing.T) {
	t.Parallel()
	struck := func(seed uint64) map[string]int {
		b := setup(t, fakellm.Options{Seed: seed, Faults: []fakellm.Fault{{Kind: "500", Rate: 0.3}}})
		for i := range 1000 {
			b.statusOf(t, fmt.Sprint("input ", i%500), "m")
		}
		all := map[string]int{}
		for _, r := range b.Requests("") {
			if r.Kind == "500" {
				all[r.Nonce]++
			}
		}
		if n := b.Counts().Outcomes["500"]; n < 230 || n > 370 {
			t.Errorf("%d of 1000 calls were struck at a rate of 0.3", n)
		}
		return all
	}
	one, again, other := struck(1), struck(1), struck(2)
	if !maps.Equal(one, again) {
		t.Error("the same seed strikes other calls")
	}
	if maps.Equal(one, other) {
		t.Error("another seed strikes the same calls")
	}
}

func TestResetRestoresTheStateAfterTheStart(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "503", Match: "x"}}})
	b.SetFaults(fakellm.Fault{Kind: "400"})
	b.Script("m", fakellm.Fault{Kind: "ok"}, fakellm.Fault{Kind: "429"})
	b.SetAnswer("m", "literal")
	equal(t, "before", b.content(t, ask("y", nil)), "literal")
	b.Reset()
	equal(t, "calls", b.Counts().Calls, 0)
	equal(t, "requests", len(b.Requests("")), 0)
	contains(t, "no script, no literal", b.content(t, ask("y", nil)), "simulated")
	equal(t, "the fault of the start", b.statusOf(t, "x", "m"), 503)
	equal(t, "requests", len(b.Requests("")), 2)
}
