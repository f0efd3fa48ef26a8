package limit

import (
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

func TestSeveralLimitsAreTakenTogetherOrNotAtAll(t *testing.T) {
	b := setup(t)
	o := Options{
		Models:    map[string]Bounds{"small": {Concurrency: 5, BatchShare: 0.5}, "large": {Concurrency: 5, RequestsPerMinute: 4000, BatchShare: 0.5}},
		Providers: map[string]Bounds{"far": {Concurrency: 6, RequestsPerMinute: 8000, TokensPerMinute: 800_000, BatchShare: 0.5}},
		Tasks:     map[string]int{"sum": 4},
	}
	one, two := b.start("one", o), b.start("two", o)
	bounds := map[string]int{"small": 5, "large": 5, "far": 6, "sum": 4}
	air := map[string]*flight{}
	for name := range bounds {
		air[name] = &flight{}
	}
	seen := &provider{}
	var ends []func()
	for _, l := range []*replica{one, two} {
		for _, a := range []Ask{
			{Model: "small", Provider: "far", Task: "sum", Lane: job.Interactive, Tokens: 100},
			{Model: "large", Provider: "far", Task: "sum", Lane: job.Batch, Tokens: 300},
			{Model: "large", Provider: "far", Task: "other", Lane: job.Interactive, Tokens: 50},
		} {
			ends = append(ends, b.flood(l, a, 6, func(p *Permit) {
				if a.Task == "sum" {
					air["sum"].add(1)
				}
				air[a.Model].add(1)
				air["far"].add(1)
				seen.arrive(a.Tokens)
				b.after(5 * time.Millisecond)
				if a.Task == "sum" {
					air["sum"].add(-1)
				}
				air[a.Model].add(-1)
				air["far"].add(-1)
				p.Done(Used{Sent: true, Tokens: a.Tokens})
			}))
		}
	}
	b.after(6 * time.Second)
	for _, end := range ends {
		end()
	}
	for name, limit := range bounds {
		if most := air[name].most; most > limit || most < limit-1 {
			t.Errorf("%s had %d in flight at most, its limit is %d", name, most, limit)
		}
	}
	if most := seen.most(short().window); most > 800_000 {
		t.Errorf("a window saw %d tokens", most)
	}
	one.isIdle(t)
	two.isIdle(t)
	for _, key := range []string{"model.small", "model.large", "provider.far", "task.sum"} {
		brokertest.Eventually(t, 5*time.Second, key+" has no claims", func() bool { return len(b.record(key).Replicas) == 0 })
	}
}
