package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
)

// The subject is one on which nothing comes: what arrives was read from the leader.
func TestACollectorFindsWhatItsSubscriptionDidNotSee(t *testing.T) {
	r := serve(t)
	store := func(t *testing.T, id string, run int) {
		t.Helper()
		if _, err := r.conn.Publish(t.Context(), &nats.Msg{
			Subject: broker.WriteSubject("analyze", id), Data: fmt.Appendf(nil, `{"id":%q,"run":%d,"status":"succeeded"}`, id, run),
			Header: nats.Header{broker.RunHeader: {fmt.Sprint(run)}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	collect := func(t *testing.T, timeout time.Duration) *collector {
		t.Helper()
		c, err := newCollector(t.Context(), r.conn, "nothing.comes.here", timeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.close)
		return c
	}
	next := func(t *testing.T, c *collector) arrival {
		t.Helper()
		select {
		case a := <-c.arrivals:
			return a
		case <-time.After(10 * time.Second):
			t.Fatal("nothing arrives")
			return arrival{}
		}
	}

	t.Run("that was there before", func(t *testing.T) {
		store(t, "before", 1)
		c := collect(t, time.Minute)
		c.expect(awaited{id: "before", run: 1, line: 7})
		c.begin("before", true)
		if a := next(t, c); a.err != nil || a.result.ID != "before" || a.line != 7 {
			t.Errorf("%+v", a)
		}
	})
	t.Run("that came while the connection was away", func(t *testing.T) {
		c := collect(t, time.Minute)
		c.expect(awaited{id: "away", task: "analyze", run: 1})
		c.begin("away", false)
		store(t, "away", 1)
		began := time.Now()
		if err := r.conn.NC.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		if a := next(t, c); a.err != nil || a.result.ID != "away" || time.Since(began) >= firstLook {
			t.Errorf("%+v after %s", a, time.Since(began))
		}
	})
	t.Run("but takes no earlier run, and gives up in time", func(t *testing.T) {
		store(t, "older", 1)
		c := collect(t, 50*time.Millisecond)
		c.expect(awaited{id: "older", task: "analyze", run: 2})
		c.begin("older", true)
		if a := next(t, c); !errors.Is(a.err, errNoResult) || c.waiting() != 0 {
			t.Errorf("%+v, %d waiting", a, c.waiting())
		}
	})
	t.Run("and hears nothing of what it forgot", func(t *testing.T) {
		c := collect(t, time.Minute)
		c.expect(awaited{id: "before", run: 1})
		c.forget("before")
		c.begin("before", true)
		c.found("before", 1, []byte(`{}`))
		if len(c.arrivals) != 0 {
			t.Errorf("%+v", <-c.arrivals)
		}
	})
}
