package breaker

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

func TestAnOperatorOpensClosesAndResetsACircuit(t *testing.T) {
	t.Parallel()
	s := setup(t)
	all := s.three()
	ctx := t.Context()
	if err := OpenByHand(ctx, s.conn, whole, halfOpenAfter, "maintenance", "operator ann"); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		r.sees(whole, Open)
		if open := r.refused("large"); open.Why != "maintenance" {
			t.Errorf("refused with %v", open)
		}
	}
	listed, err := List(ctx, s.conn)
	if err != nil || len(listed) != 1 || listed[0].Circuit != whole || !listed[0].Record.ByHand || listed[0].Record.By != "operator ann" || listed[0].Revision == 0 {
		t.Errorf("listed %+v, %v", listed, err)
	}
	// It is probed like any other.
	s.clock.forward(halfOpenAfter)
	p := all[1].enter("small")
	if !p.Probe() {
		t.Error("no probe")
	}
	p.Done(Verdict{Result: Failed})
	all[2].sees(whole, Open)
	if r := s.stored(whole); r.ByHand {
		t.Errorf("the probe did that: %+v", r)
	}

	for range 2 { // the second time there is nothing to do
		if err := CloseByHand(ctx, s.conn, whole, "operator bob"); err != nil {
			t.Fatal(err)
		}
		if r := s.stored(whole); r.State != Closed || !r.ByHand || r.By != "operator bob" || r.Epoch != 4 {
			t.Errorf("stored %+v", r)
		}
	}
	for range 2 {
		if err := Reset(ctx, s.conn, whole); err != nil {
			t.Fatal(err)
		}
	}
	if listed, err := List(ctx, s.conn); err != nil || len(listed) != 0 {
		t.Errorf("listed %+v, %v", listed, err)
	}
	for _, r := range all {
		r.sees(whole, Closed)
		r.call("small", Verdict{Result: Worked})
	}
}

func TestAnOperatorsWordStandsAgainstAProbeUnderWay(t *testing.T) {
	t.Parallel()
	s := setup(t)
	r := s.replica("a")
	r.breaks()
	s.storedAs(small, Open)
	s.clock.forward(halfOpenAfter)
	p := r.enter("small")
	if err := OpenByHand(t.Context(), s.conn, small, time.Hour, "", "operator ann"); err != nil {
		t.Fatal(err)
	}
	p.Done(Verdict{Result: Worked})
	if got := s.stored(small); got.State != Open || !got.ByHand {
		t.Errorf("stored %+v", got)
	}
	r.sees(small, Open)
	r.refused("small")
}

func TestAnyNameMayBeOpenedByHandButNoPattern(t *testing.T) {
	t.Parallel()
	s := setup(t)
	r := s.replica("a")
	other := Circuit{Kind: KindModel, Name: "of-tomorrow"}
	if err := OpenByHand(t.Context(), s.conn, other, time.Minute, "", "operator ann"); err != nil {
		t.Fatal(err)
	}
	if err := OpenByHand(t.Context(), s.conn, small, time.Minute, "", "operator ann"); err != nil {
		t.Fatal(err)
	}
	r.sees(small, Open)
	r.call("of-tomorrow", Verdict{Result: Worked}) // it is none of this replica's
	listed, err := List(t.Context(), s.conn)
	if err != nil || len(listed) != 2 || listed[0].Circuit != other || listed[1].Circuit != small {
		t.Errorf("listed %+v, %v", listed, err)
	}
	for _, c := range []Circuit{{}, {Kind: "task", Name: "x"}, {Kind: KindModel, Name: "*"}, {Kind: KindModel, Name: "a.b"}, {Kind: KindProvider, Name: ">"}} {
		if OpenByHand(t.Context(), s.conn, c, time.Minute, "", "") == nil || CloseByHand(t.Context(), s.conn, c, "") == nil || Reset(t.Context(), s.conn, c) == nil {
			t.Errorf("%+v was changed", c)
		}
	}
	if OpenByHand(t.Context(), s.conn, small, 0, "", "") == nil {
		t.Error("open for no time at all")
	}
}

func TestAKeyNamesItsCircuit(t *testing.T) {
	t.Parallel()
	for _, c := range []Circuit{small, whole} {
		if got, err := ParseKey(c.Key()); err != nil || got != c {
			t.Errorf("%s is %+v, %v", c.Key(), got, err)
		}
	}
	for _, key := range []string{"", "model", "model.", "task.x", "model.a.b"} {
		if c, err := ParseKey(key); err == nil {
			t.Errorf("%q is %+v", key, c)
		}
	}
}

func TestEachChangeIsToldOnceByWhoMadeIt(t *testing.T) {
	t.Parallel()
	s := setup(t)
	listener := brokertest.Connect(t, s.url)
	heard := make(chan *nats.Msg, 100)
	if _, err := listener.NC.ChanSubscribe(broker.AllBreakers, heard); err != nil {
		t.Fatal(err)
	}
	if err := listener.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	all := s.three()
	next := func(subject string, state State) {
		t.Helper()
		select {
		case m := <-heard:
			var e struct {
				Kind, Name string
				Record
			}
			if err := json.Unmarshal(m.Data, &e); err != nil || m.Subject != subject || e.State != state || (Circuit{e.Kind, e.Name}).subject() != subject || e.At.IsZero() {
				t.Fatalf("heard %s on %s (%v), want %s on %s", m.Data, m.Subject, err, state, subject)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("heard nothing on %s", subject)
		}
	}
	all[0].breaks()
	next("llm.event.breaker.small", Open)
	seeEpoch(t, all, small, 1)
	for _, r := range all {
		if got := r.value("spillway_breaker_state", map[string]string{"kind": "model", "name": "small"}); got != 2 {
			t.Errorf("open, the gauge shows %v", got)
		}
	}
	s.clock.forward(halfOpenAfter)
	p := all[1].enter("small")
	next("llm.event.breaker.small", HalfOpen)
	all[2].sees(small, HalfOpen)
	if got := all[2].value("spillway_breaker_state", map[string]string{"kind": "model", "name": "small"}); got != 1 {
		t.Errorf("half open, the gauge shows %v", got)
	}
	p.Done(Verdict{Result: Worked})
	next("llm.event.breaker.small", Closed)
	all[2].sees(small, Closed)
	if got := all[2].value("spillway_breaker_state", map[string]string{"kind": "model", "name": "small"}); got != 0 {
		t.Errorf("closed, the gauge shows %v", got)
	}
	for message, want := range map[string][3]int{"a breaker opened": {1, 0, 0}, "a breaker is half open": {0, 1, 0}, "a breaker closed": {0, 1, 0}} {
		for i, r := range all {
			if got := r.logs.count(message); got != want[i] {
				t.Errorf("replica %d logged %d times %q, want %d", i, got, message, want[i])
			}
		}
	}
	for state, want := range map[State][3]float64{Open: {1, 0, 0}, HalfOpen: {0, 1, 0}, Closed: {0, 1, 0}} {
		for i, r := range all {
			if got := r.value("spillway_breaker_changes_total", map[string]string{"kind": "model", "name": "small", "to": string(state)}); got != want[i] {
				t.Errorf("replica %d counted %v changes to %s, want %v", i, got, state, want[i])
			}
		}
	}
	if err := OpenByHand(t.Context(), s.conn, whole, time.Minute, "", "operator ann"); err != nil {
		t.Fatal(err)
	}
	next("llm.event.breaker.provider.here", Open)
	if err := CloseByHand(t.Context(), s.conn, whole, "operator ann"); err != nil {
		t.Fatal(err)
	}
	next("llm.event.breaker.provider.here", Closed)
	if err := Reset(t.Context(), s.conn, whole); err != nil {
		t.Fatal(err)
	}
	next("llm.event.breaker.provider.here", Closed)
	if len(heard) != 0 {
		t.Errorf("heard more: %s", (<-heard).Data)
	}
}
