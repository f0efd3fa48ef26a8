package limit

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

func TestALowerLimitThatAProviderNamesHoldsOnAllReplicasForAWhile(t *testing.T) {
	b := setup(t)
	const configured, named = 2000, 400
	window := short().window
	bounds := Bounds{RequestsPerMinute: configured, BatchShare: 0.5}
	metrics := prometheus.NewRegistry() // the two share it
	brief := func(r *rhythm, o *Options, _ *func() time.Time) {
		r.lowered = 6 * time.Second
		o.Metrics = metrics
	}
	one, two := b.start("one", models(bounds), brief), b.start("two", models(bounds), brief)
	p := b.take(one, small, 5*time.Second)
	p.Done(Used{Sent: true, Said: Said{RequestsLimit: named, RequestsLeft: named - 1}})
	brokertest.Eventually(t, time.Second, "the record has it", func() bool {
		r := b.record("model.small")
		return r.Requests != nil && r.Requests.Low == named
	})
	b.take(two, small, 5*time.Second).Done(Used{Sent: true})
	seen := &provider{}
	call := func(p *Permit) {
		seen.arrive(1)
		p.Done(Used{Sent: true})
	}
	end := b.flood(two, small, 20, call)
	b.after(window)
	if most := seen.most(window); most > named || most < named*8/10 {
		t.Errorf("a window saw %d calls, the provider's limit is %d", most, named)
	}
	if low := value(t, metrics, "spillway_limit_lowered", "requests_per_minute"); low != named {
		t.Errorf("the metric says %v", low)
	}
	brokertest.Eventually(t, 10*time.Second, "the configured limit holds again", func() bool { return seen.most(time.Second) > named/2 })
	end()
	brokertest.Eventually(t, 5*time.Second, "the metric is gone", func() bool {
		return value(t, metrics, "spillway_limit_lowered", "requests_per_minute") == 0
	})
}

func TestWhatOthersUseOfTheQuotaIsLeftToThem(t *testing.T) {
	b := setup(t)
	one := b.start("one", models(Bounds{RequestsPerMinute: 100, TokensPerMinute: 10_000}))
	p := b.take(one, Ask{Model: "small", Tokens: 10}, 5*time.Second)
	p.Done(Used{Sent: true, Said: Said{RequestsLimit: 100, RequestsLeft: 40, TokensLimit: 10_000, TokensLeft: 9990}})
	brokertest.Eventually(t, 2*time.Second, "the log has 60 in use", func() bool {
		r := b.record("model.small")
		return r.Requests.used() == 60 && r.Tokens.used() == 10
	})
}

func TestNonsenseThatAProviderSaysIsIgnored(t *testing.T) {
	b := setup(t)
	one := b.start("one", models(Bounds{RequestsPerMinute: 4000, TokensPerMinute: 400_000}))
	for _, s := range []Said{
		{RequestsLimit: -5, RequestsLeft: 0},
		{RequestsLeft: 0, TokensLeft: -1},
		{TokensLimit: 1 << 60, TokensLeft: 1},
		{RequestsLimit: 5000, RequestsLeft: 6000},
		{RequestsLimit: 5000, RequestsLeft: -1},
		{Wait: -time.Hour},
		{TokensLimit: 500_000, TokensLeft: 500_000},
	} {
		b.take(one, Ask{Model: "small", Tokens: 10}, time.Second).Done(Used{Sent: true, Tokens: 10, Said: s})
	}
	brokertest.Eventually(t, 2*time.Second, "all is told", func() bool { return len(b.record("model.small").Replicas) == 0 })
	r := b.record("model.small")
	if r.Requests.Low != 0 || r.Tokens.Low != 0 || r.Hold != 0 || r.Requests.used() != 7 || r.Tokens.used() != 70 {
		t.Errorf("the record is %s", b.dump("model.small"))
	}
}

func TestAProvidersPauseHoldsOnAllReplicas(t *testing.T) {
	b := setup(t)
	o := Options{Models: map[string]Bounds{"small": {Concurrency: 5, BatchShare: 0.5}}}
	one, two := b.start("one", o), b.start("two", o)
	b.take(two, small, 5*time.Second).Done(Used{Sent: true})
	p := b.take(one, small, 5*time.Second)
	p.Done(Used{Sent: true, Said: Said{Wait: 1500 * time.Millisecond}})
	began := time.Now()
	if busy := b.isBusy(one, small, 500*time.Millisecond); busy.Limit != "model small: the provider asked to wait" || busy.Wait < time.Second {
		t.Errorf("busy: %+v", busy)
	}
	brokertest.Eventually(t, time.Second, "the record has it", func() bool { return b.record("model.small").Hold != 0 })
	b.after(100 * time.Millisecond)
	for _, l := range []*replica{two, one} {
		b.take(l, small, 5*time.Second).Done(Used{Sent: true})
		if held := time.Since(began); held < 1400*time.Millisecond || held > 3*time.Second {
			t.Errorf("%s was held for %s", l.Limiter.replica, held)
		}
	}
}

func TestAPauseIsNoLongerThanItsBound(t *testing.T) {
	b := setup(t)
	one := b.start("one", Options{Providers: map[string]Bounds{"far": {Concurrency: 5}}}, func(r *rhythm, _ *Options, _ *func() time.Time) {
		r.held = 200 * time.Millisecond
	})
	a := Ask{Model: "small", Provider: "far", Lane: job.Batch}
	b.take(one, a, 5*time.Second).Done(Used{Sent: true, Said: Said{Wait: 24 * time.Hour}})
	b.take(one, a, 2*time.Second).Done(Used{Sent: true})
}
