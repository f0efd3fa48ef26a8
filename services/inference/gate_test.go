package inference

import (
	"context"
	"testing"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/limit"
	"spillway/pkg/stage"
)

var ofSmall = breaker.Circuit{Kind: breaker.KindModel, Name: "small"}

// gate is that of the interactive jobs that wait for model small.
func (b *bundle) gate(t *testing.T) stage.Gate {
	t.Helper()
	want := broker.ParkedSubject(job.Interactive, "small")
	for _, in := range b.Inboxes() {
		if in.Subject == want {
			return in.Gate(nil)
		}
	}
	t.Fatalf("no inbox of %s", want)
	return nil
}

// opens opens the breaker of small by hand, and waits until the handler knows.
func (b *bundle) opens(t *testing.T, d time.Duration) {
	t.Helper()
	if err := breaker.OpenByHand(t.Context(), b.conn, ofSmall, d, "maintenance", "an operator"); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 5*time.Second, "the handler knows that it is open", func() bool {
		look := b.breakers.Look("small")
		return look.Open != nil || look.ProbeDue
	})
}

// due waits until a probe may begin.
func (b *bundle) due(t *testing.T) {
	t.Helper()
	b.opens(t, 20*time.Millisecond)
	brokertest.Eventually(t, 5*time.Second, "a probe is due", func() bool { return b.breakers.Look("small").ProbeDue })
}

type grant struct{ n, out, want int }

func grants(t *testing.T, when string, g stage.Gate, all ...grant) {
	t.Helper()
	for _, a := range all {
		if got := g.Open(a.n, a.out); got != a.want {
			t.Errorf("%s: of %d asked for beside %d that are out, %d are granted, want %d", when, a.n, a.out, got, a.want)
		}
	}
}

func TestTheGateOfParkedJobsGrantsWhatTheBreakerAndTheLimitsHaveRoomFor(t *testing.T) {
	t.Parallel()
	b := shared(t, "http://127.0.0.1:9/v1", limit.Bounds{RequestsPerMinute: 60, BatchShare: 0.5})
	g := b.gate(t)
	room := b.limits.Room("small", job.Interactive)
	if room < 2 || room > 300 {
		t.Fatalf("room for %d", room)
	}
	grants(t, "closed", g, grant{1000, 0, room}, grant{1, 0, 1}, grant{1000, room - 2, 2}, grant{1000, room, 0}, grant{1000, room + 9, 0})
	b.opens(t, time.Hour)
	grants(t, "open", g, grant{1000, 0, sweep}, grant{3, 0, 3}, grant{1000, sweep - 2, 2}, grant{1000, sweep, 0}, grant{1000, sweep + 9, 0})
	b.due(t)
	grants(t, "a probe is due", g, grant{1000, 0, 1}, grant{1, 1, 1})
	pass, err := b.breakers.Enter(t.Context(), "small")
	if err != nil || !pass.Probe() {
		t.Fatalf("no probe: %v", err)
	}
	grants(t, "half open", g, grant{1000, 0, 0}, grant{1, 0, 0})
	pass.Done(breaker.Verdict{Result: breaker.Worked})
	if err := breaker.CloseByHand(t.Context(), b.conn, ofSmall, "an operator"); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 5*time.Second, "it is closed", func() bool { return b.breakers.Look("small").Ready })
	grants(t, "closed again", g, grant{1000, 0, room})
}

func TestParkedJobsThatAreBeingCalledLeaveTheGateOpenForOthers(t *testing.T) {
	t.Parallel()
	p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindHang}}})
	b := shared(t, p.URL(), limit.Bounds{})
	b.model.Timeouts.FirstToken, b.model.Timeouts.Call = 30*time.Second, 30*time.Second
	g := b.gate(t)
	const calling = 3
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, calling+1)
	for range calling {
		go func() { ended <- b.Handle(ctx, parkedJob()) }()
	}
	go func() { ended <- b.Handle(ctx, newJob(job.Interactive)) }() // one of another inbox is not counted
	if err := p.Await(t.Context(), func(c fakellm.Counts) bool { return c.InFlight == calling+1 }); err != nil {
		t.Fatal(err)
	}
	b.opens(t, time.Hour)
	grants(t, "during the calls", g, grant{1000, calling, sweep}, grant{1000, calling + sweep, 0}, grant{1000, calling + sweep - 1, 1})
	cancel()
	for range calling + 1 {
		<-ended
	}
	grants(t, "after the calls", g, grant{1000, calling, sweep - calling})
}
