package inference

import (
	"testing"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/broker"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/limit"
)

// sharedKeys is shared with two keys.
func sharedKeys(t *testing.T, url string) *bundle {
	t.Helper()
	b := shared(t, url, limit.Bounds{})
	b.providers["main"].keys = &keys{all: []string{"key-one", "key-two"}}
	return b
}

func TestARefusedKeyCostsTheJobNoTryAndOpensNothingWhileAnotherIsLeft(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{fakellm.KindUnauthorized, fakellm.KindQuota, fakellm.KindRateLimited} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := fake(t, fakellm.Options{Faults: []fakellm.Fault{
				{Kind: kind, Key: "key-one"}, {Kind: fakellm.KindServerError, Key: "key-two"},
			}})
			b := sharedKeys(t, p.URL())
			_, err := b.toTheEnd(t, newJob(job.Interactive))
			wantFate(t, err, fate.Divert, fate.ProviderUnavailable)
			keys := p.Counts().Keys
			if keys["key-one"].Calls != 1 || keys["key-two"].Calls != b.task.Retry.InteractiveAttempts {
				t.Errorf("calls by key %+v, want one and all %d tries", keys, b.task.Retry.InteractiveAttempts)
			}
			b.isClosed(t)
		})
	}
}

func TestARefusedKeyIsNoRetryThatTheBudgetOrAWaitIsAskedFor(t *testing.T) {
	t.Parallel()
	p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindRateLimited, Key: "key-one", RetryAfter: time.Hour}}})
	b := sharedKeys(t, p.URL())
	waits, err := b.toTheEnd(t, newJob(job.Interactive))
	if err != nil || len(waits) != 1 || waits[0] != 0 {
		t.Errorf("it ended with %v after the waits %v, want answered at once by the other key", err, waits)
	}
	b.isClosed(t)
}

// isClosed checks that calls pass, and that no breaker was ever opened.
func (b *bundle) isClosed(t *testing.T) {
	t.Helper()
	if look := b.breakers.Look("small"); look != (breaker.Look{Ready: true}) {
		t.Errorf("the breakers: %+v", look)
	}
	for _, c := range []breaker.Circuit{{Kind: breaker.KindModel, Name: "small"}, {Kind: breaker.KindProvider, Name: "main"}} {
		stored, err := b.conn.Record(t.Context(), broker.BreakersBucket, c.Key())
		if err != nil || stored.Data != nil {
			t.Errorf("the record of %s: %s, %v", c, stored.Data, err)
		}
	}
}

// What is called once more with another key is bounded by the keys: afterwards the refusal is the provider's.
func TestWhenTheLastKeyIsRefusedTheProvidersBreakerOpens(t *testing.T) {
	t.Parallel()
	p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindUnauthorized}}})
	b := sharedKeys(t, p.URL())
	_, err := b.toTheEnd(t, newJob(job.Interactive))
	wantFate(t, err, fate.Divert, fate.ProviderAuth)
	if n := p.Counts().Calls; n != 2 {
		t.Errorf("%d calls, want one a key", n)
	}
	if open := b.breakers.Look("small").Open; open == nil || open.Circuit.Kind != breaker.KindProvider {
		t.Errorf("the breaker that is open: %v", open)
	}
}

func TestAKeyThatHasRestedTakesTurnsAgain(t *testing.T) {
	t.Parallel()
	k := &keys{all: []string{"a", "b"}}
	now := time.Unix(1_800_000_000, 0)
	k.refused("a", now)
	for range 4 {
		if got := k.take(now.Add(keyRest - time.Second)); got != "b" {
			t.Errorf("took %q during the rest of a", got)
		}
	}
	taken := map[string]int{}
	for range 4 {
		taken[k.take(now.Add(keyRest+time.Second))]++
	}
	if taken["a"] != 2 || taken["b"] != 2 {
		t.Errorf("after the rest of a the keys were taken %v", taken)
	}
}
