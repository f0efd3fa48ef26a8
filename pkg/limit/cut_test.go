package limit

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

// behind connects a replica through a link that can be cut.
func behind(b *bundle, link *brokertest.Link) func(*rhythm, *Options, *func() time.Time) {
	return func(_ *rhythm, o *Options, _ *func() time.Time) {
		o.Conn.Close()
		o.Conn = brokertest.Connect(b.t, link.URL())
	}
}

func TestACutReplicaGrantsNothingBlindlyAndGoesOnAfterwards(t *testing.T) {
	b := setup(t)
	const limit = 800
	window := short().window
	bounds := Bounds{RequestsPerMinute: limit, BatchShare: 0.5}
	link := brokertest.Proxy(t, b.url)
	cut, other := b.start("cut", models(bounds), behind(b, link)), b.start("other", models(bounds))
	seen, mine := &provider{}, &provider{}
	endCut := b.flood(cut, small, 10, func(p *Permit) {
		seen.arrive(1)
		mine.arrive(1)
		p.Done(Used{Sent: true})
	})
	endOther := b.flood(other, small, 10, func(p *Permit) {
		seen.arrive(1)
		p.Done(Used{Sent: true})
	})
	b.after(window / 2)
	link.Cut()
	from := b.after(2 * short().block)
	to := b.after(window / 2)
	if n := mine.between(from, to); n != 0 {
		t.Errorf("%d calls were permitted while NATS was away", n)
	}
	if n := seen.between(from, to); n < limit*8/20 {
		t.Errorf("the other replica made %d calls, the limit of that time is %d", n, limit/2)
	}
	busy := b.isBusy(cut, small, 50*time.Millisecond)
	if busy.Limit != "model small: requests_per_minute 800" {
		t.Errorf("busy: %+v", busy)
	}
	link.Heal()
	brokertest.Eventually(t, 10*time.Second, "it goes on", func() bool { return mine.between(to, time.Now()) > 50 })
	b.after(window / 2)
	endCut()
	endOther()
	if most := seen.most(window); most > limit {
		t.Errorf("a window saw %d calls, the limit is %d", most, limit)
	}
}

func TestABlockIsNotUsedAfterItsTime(t *testing.T) {
	b := setup(t)
	link := brokertest.Proxy(t, b.url)
	one := b.start("one", models(Bounds{RequestsPerMinute: 40_000}), behind(b, link), func(r *rhythm, _ *Options, _ *func() time.Time) {
		r.block, r.period = time.Second, 900*time.Millisecond
	})
	b.take(one, small, 5*time.Second).Done(Used{Sent: true})
	link.Cut()
	b.take(one, small, 0).Done(Used{Sent: true}) // the block has more
	b.after(1100 * time.Millisecond)
	b.isBusy(one, small, 100*time.Millisecond)
}

// A write whose acknowledgement was lost was stored, or not, or is stored by the time that it is tried again.
func TestAWriteOfUnknownFateIsFoundInTheRecord(t *testing.T) {
	for name, isStored := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			conn := brokertest.Connect(t, b.url)
			l, err := newLimiter(Options{Conn: conn, Replica: "one", Models: map[string]Bounds{"small": {RequestsPerMinute: 40_000, Concurrency: 5}}}, perMinute(), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			e := l.models["small"]
			exchange := func() {
				t.Helper()
				if err := e.exchangeOnce(b.ctx); err != nil {
					t.Fatal(err)
				}
			}
			exchange() // reads the clock
			if _, err := l.takeOrQueue(&Permit{l: l, ask: small, needs: l.needs(&small)}, -1); err != nil {
				t.Fatal(err)
			}
			exchange() // brings the permit, and more
			granted := e.requests.left(l.now()) + 1

			stored, err := conn.Record(b.ctx, broker.LimitsBucket, e.key)
			if err != nil {
				t.Fatal(err)
			}
			rec := e.decode(stored)
			e.exchanger.beat++
			a := &attempt{beat: e.exchanger.beat, revision: stored.Revision, at: l.now()}
			e.requests.asked = 1000
			e.prepare(rec, a)
			e.exchanger.tried = append(e.exchanger.tried, a)
			if isStored {
				granted += a.grants[requests].n
				data, _ := json.Marshal(rec)
				if _, err := conn.Swap(b.ctx, broker.LimitsBucket, e.key, data, stored.Revision); err != nil {
					t.Fatal(err)
				}
			}
			e.closing = true // it asks for no more
			exchange()
			if left := e.requests.left(l.now()); left != granted-1 || a.grants[requests].n == 0 {
				t.Errorf("%d are left of %d", left, granted)
			}
			if used := b.record(e.key).Requests.used(); used != granted {
				t.Errorf("the log has %d, granted were %d", used, granted)
			}
		})
	}
}

// The link is cut again and again.
func TestWritesOfUnknownFateAreNeitherLostNorCountedTwice(t *testing.T) {
	b := setup(t)
	const limit = 4000
	link := brokertest.Proxy(t, b.url)
	one := b.start("one", models(Bounds{RequestsPerMinute: limit, Concurrency: 50}), behind(b, link), func(r *rhythm, _ *Options, _ *func() time.Time) {
		r.answer, r.retry = 100*time.Millisecond, 5*time.Millisecond
		r.window = 30 * time.Second
	})
	seen := &provider{}
	end := b.flood(one, small, 20, func(p *Permit) {
		seen.arrive(1)
		b.after(3 * time.Millisecond)
		p.Done(Used{Sent: true})
	})
	for range 10 {
		b.after(150 * time.Millisecond)
		link.Cut()
		link.Heal()
	}
	brokertest.Eventually(t, 10*time.Second, "it goes on", func() bool { return seen.between(time.Now().Add(-100*time.Millisecond), time.Now()) > 5 })
	end()
	one.isIdle(t)
	brokertest.Eventually(t, 10*time.Second, "the log has exactly what arrived, and no claim is left", func() bool {
		r := b.record("model.small")
		return r.Requests.used() == seen.most(time.Hour) && len(r.Replicas) == 0
	})
}

func TestAClaimThatMayBeTakenForDeadGivesOutNothing(t *testing.T) {
	b := setup(t)
	link := brokertest.Proxy(t, b.url)
	bounds := Bounds{Concurrency: 4}
	cut, other := b.start("cut", models(bounds), behind(b, link)), b.start("other", models(bounds))
	air := &flight{}
	call := func(p *Permit) {
		air.add(1)
		b.after(5 * time.Millisecond)
		air.add(-1)
		p.Done(Used{Sent: true})
	}
	endCut := b.flood(cut, small, 10, call)
	brokertest.Eventually(t, 5*time.Second, "it has all", func() bool { return air.now() == 4 })
	endOther := b.flood(other, small, 10, call)
	b.after(200 * time.Millisecond)
	link.Cut()
	b.after(2 * short().lease)
	link.Heal()
	b.after(time.Second)
	endCut()
	endOther()
	if air.most > 4 {
		t.Errorf("%d were in flight, the limit is 4", air.most)
	}
}

func TestALostOrUnreadableRecordStartsAnewFromWhatIsKnown(t *testing.T) {
	for name, spoil := range map[string]func(context.Context, *broker.Conn, broker.Record) error{
		"removed": func(ctx context.Context, c *broker.Conn, r broker.Record) error {
			return c.Remove(ctx, broker.LimitsBucket, r.Key, r.Revision)
		},
		"unreadable": func(ctx context.Context, c *broker.Conn, r broker.Record) error {
			_, err := c.Swap(ctx, broker.LimitsBucket, r.Key, []byte(`{"requests":`), r.Revision)
			return err
		},
		"unsound": func(ctx context.Context, c *broker.Conn, r broker.Record) error {
			_, err := c.Swap(ctx, broker.LimitsBucket, r.Key, []byte(`{"replicas":{"x":null}}`), r.Revision)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			var mu sync.Mutex
			var log bytes.Buffer
			one := b.start("one", models(Bounds{RequestsPerMinute: 800}), func(_ *rhythm, o *Options, _ *func() time.Time) {
				o.Log = zerolog.New(zerolog.SyncWriter(&locked{&mu, &log}))
			})
			for range 5 {
				b.take(one, small, time.Second).Done(Used{Sent: true})
			}
			conn := brokertest.Connect(t, b.url)
			brokertest.Eventually(t, 2*time.Second, "it has told them", func() bool { return b.record("model.small").Requests.used() == 5 })
			brokertest.Eventually(t, 2*time.Second, "nobody writes", func() bool { return len(b.record("model.small").Replicas) == 0 })
			r, err := conn.Record(b.ctx, broker.LimitsBucket, "model.small")
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(b.ctx, conn, r); err != nil {
				t.Fatal(err)
			}
			b.take(one, small, time.Second).Done(Used{Sent: true})
			brokertest.Eventually(t, 2*time.Second, "the log is there again", func() bool {
				stored, err := conn.Record(b.ctx, broker.LimitsBucket, "model.small")
				r, bad := decode(stored.Data)
				return err == nil && bad == nil && stored.Data != nil && r.Requests.used() == 6
			})
			mu.Lock()
			defer mu.Unlock()
			if n := strings.Count(log.String(), "is lost, it starts anew"); n != 1 {
				t.Errorf("it was logged %d times: %s", n, log.String())
			}
		})
	}
}

type locked struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}
