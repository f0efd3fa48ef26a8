package limit

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/broker/brokertest"
)

func TestNoWindowSeesMoreThanTheLimitThoughReplicasComeAndDie(t *testing.T) {
	b := setup(t)
	const limit = 800
	window := short().window
	bounds := Bounds{RequestsPerMinute: limit, BatchShare: 0.5}
	one, two := b.start("one", models(bounds)), b.start("two", models(bounds))
	seen := &provider{}
	call := func(p *Permit) {
		seen.arrive(1)
		p.Done(Used{Sent: true})
	}
	began := time.Now()
	endOne, endTwo := b.flood(one, small, 20, call), b.flood(two, small, 20, call)
	b.after(window)
	two.kill()
	endTwo()
	b.after(window / 2)
	three := b.start("three", models(bounds))
	endThree := b.flood(three, small, 20, call)
	now := b.after(3 * window / 2)
	endOne()
	endThree()

	if most := seen.most(window); most > limit {
		t.Errorf("a window saw %d calls, the limit is %d\n%s", most, limit, b.dump("model.small"))
	}
	used := float64(seen.between(began.Add(100*time.Millisecond), now)) / (limit * float64(now.Sub(began)-100*time.Millisecond) / float64(window))
	if used < 0.95 {
		t.Errorf("%.1f %% of the limit were used\n%s", used*100, b.dump("model.small"))
	}
	t.Logf("most in a window %d of %d, used %.1f %%", seen.most(window), limit, used*100)
}

func TestALowLimitIsUsedAndKept(t *testing.T) {
	b := setup(t)
	window := short().window
	bounds := Bounds{RequestsPerMinute: 3, BatchShare: 0.5}
	one, two := b.start("one", models(bounds)), b.start("two", models(bounds))
	seen, mine, other := &provider{}, &provider{}, &provider{}
	endOne := b.flood(one, small, 3, func(p *Permit) {
		seen.arrive(1)
		mine.arrive(1)
		p.Done(Used{Sent: true})
	})
	endTwo := b.flood(two, small, 3, func(p *Permit) {
		seen.arrive(1)
		other.arrive(1)
		p.Done(Used{Sent: true})
	})
	b.after(3 * window)
	endOne()
	endTwo()
	if most, all := seen.most(window), seen.most(time.Hour); most > 3 || all < 8 {
		t.Errorf("%d calls in a window, %d in three", most, all)
	}
	if m, o := mine.most(time.Hour), other.most(time.Hour); m < 3 || o < 3 {
		t.Errorf("one replica made %d calls, the other %d", m, o)
	}
}

func TestReplicasWhoseClocksDifferKeepTheLimitTogether(t *testing.T) {
	b := setup(t)
	const limit = 800
	window := short().window
	seen, mine := &provider{}, &provider{}
	began := time.Now()
	var ends []func()
	for name, skew := range map[string]time.Duration{"early": -time.Hour, "right": 0, "late": 90 * time.Second} {
		l := b.start(name, models(Bounds{RequestsPerMinute: limit, BatchShare: 0.5}), func(_ *rhythm, _ *Options, read *func() time.Time) {
			*read = func() time.Time { return time.Now().Add(skew) }
		})
		ends = append(ends, b.flood(l, small, 10, func(p *Permit) {
			seen.arrive(1)
			if name == "late" {
				mine.arrive(1)
			}
			p.Done(Used{Sent: true})
		}))
	}
	now := b.after(2 * window)
	for _, end := range ends {
		end()
	}
	used := float64(seen.between(began.Add(100*time.Millisecond), now)) / (limit * float64(now.Sub(began)-100*time.Millisecond) / float64(window))
	if most := seen.most(window); most > limit || used < 0.95 {
		t.Errorf("a window saw %d calls, the limit is %d; %.1f %% were used", most, limit, used*100)
	}
	part := float64(mine.most(time.Hour)) / float64(seen.most(time.Hour))
	if part < 0.25 || part > 0.42 {
		t.Errorf("one of three replicas made %.2f of the calls", part)
	}
	t.Logf("most in a window %d of %d, used %.1f %%, one of three made %.2f", seen.most(window), limit, used*100, part)
}

func TestWhatIsNotUsedIsGivenBack(t *testing.T) {
	b := setup(t)
	one := b.start("one", models(Bounds{RequestsPerMinute: 4000}))
	for range 20 {
		b.take(one, small, 5*time.Second).Done(Used{})
	}
	brokertest.Eventually(t, 5*time.Second, "the log is empty and the claim gone", func() bool {
		r := b.record("model.small")
		return r.Requests != nil && r.Requests.used() == 0 && len(r.Replicas) == 0
	})
	for range 20 {
		b.take(one, small, 5*time.Second).Done(Used{Sent: true})
	}
	brokertest.Eventually(t, time.Second, "the log has what was sent", func() bool {
		r := b.record("model.small")
		return r.Requests.used() == 20 && len(r.Replicas) == 0
	})
}

func TestTheEndGivesEverythingBack(t *testing.T) {
	b := setup(t)
	one := b.start("one", models(Bounds{RequestsPerMinute: 40_000, Concurrency: 10}))
	for range 20 {
		b.take(one, small, 5*time.Second).Done(Used{Sent: true})
	}
	one.stop()
	if r := b.record("model.small"); r.Requests.used() != 20 || len(r.Replicas) != 0 {
		t.Errorf("it left %s", b.dump("model.small"))
	}
}

// A busy replica talks to NATS about once a block's time, however many calls it makes.
func TestExchangesDoNotGrowWithTheCalls(t *testing.T) {
	b := setup(t)
	metrics := prometheus.NewRegistry()
	o := models(Bounds{RequestsPerMinute: 40_000})
	o.Metrics = metrics
	one := b.start("one", o)
	calls := &provider{}
	began := time.Now()
	end := b.flood(one, small, 2, func(p *Permit) {
		calls.arrive(1)
		p.Done(Used{Sent: true})
		b.after(time.Millisecond)
	})
	b.after(2 * time.Second)
	end()
	n := value(t, metrics, "spillway_limit_exchanges_total", exchangeOK)
	periods := float64(time.Since(began)) / float64(short().period)
	if n > periods*1.3+10 || n < 3 {
		t.Errorf("%.0f exchanges in %.0f periods for %d calls", n, periods, calls.most(time.Hour))
	}
	t.Logf("%.0f exchanges in %.0f periods for %d calls", n, periods, calls.most(time.Hour))
}
