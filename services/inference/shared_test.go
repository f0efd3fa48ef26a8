package inference

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/limit"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// shared is a handler that keeps breakers and limits with others, on a real server.
func shared(t *testing.T, url string, limits limit.Bounds) *bundle {
	t.Helper()
	b := setup(t, url, func(env *stage.Env) {
		env.Conn = brokertest.Connect(t, brokertest.Server(t).URL())
		brokertest.Ensure(t, env.Conn, broker.NewTopology(nil, nil, broker.DefaultSizing()))
		m := env.Tasks.Models["small"]
		m.Limits = limits
		m.Breaker = task.Breaker{ConsecutiveFailures: 5, FailureShare: 0.5, MinCalls: 5, Window: time.Minute, HalfOpenAfter: time.Minute, Probes: 1}
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return b
}

// parkedJob is one that waits for its model already.
func parkedJob() *job.Job {
	j := newJob(job.Interactive)
	j.Arrival.Stream, j.Arrival.Subject = broker.ParkedStream, broker.ParkedSubject(job.Interactive, "small")
	return j
}

func TestAJobOverTheLimitIsParkedAndCalledFromThere(t *testing.T) {
	t.Parallel()
	p := fake(t, fakellm.Options{Latency: fakellm.Latency{FirstToken: 100 * time.Millisecond}})
	b := shared(t, p.URL(), limit.Bounds{Concurrency: 1, BatchShare: 0.5})
	b.model.Timeouts.FirstToken = 5 * time.Second
	p.SetFaults(fakellm.Fault{Kind: fakellm.KindHang})
	held, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- b.Handle(held, newJob(job.Interactive)) }()
	if err := p.Await(t.Context(), func(c fakellm.Counts) bool { return c.InFlight == 1 }); err != nil {
		t.Fatal(err)
	}
	p.SetFaults()

	var f *fate.Error
	if err := b.Handle(t.Context(), newJob(job.Interactive)); !errors.As(err, &f) || f.Fate != fate.Park || !f.AsItCame {
		t.Fatalf("over the limit: %v, want parked", err)
	}
	second := make(chan error, 1)
	go func() { second <- b.Handle(t.Context(), parkedJob()) }()
	brokertest.Eventually(t, 5*time.Second, "the parked job waits its turn", func() bool { return b.Handler.limits.Waiting("small", job.Interactive) == 1 })
	if n := p.Counts().Calls; n != 1 {
		t.Errorf("%d calls at a limit of one", n)
	}
	cancel()
	if err := <-first; err == nil {
		t.Error("the given up call succeeded")
	}
	if err := <-second; err != nil {
		t.Errorf("the parked job: %v", err)
	}
}

func TestAProcessThatLeavesDoesNotStayForJobsThatOnlyWait(t *testing.T) {
	t.Parallel()
	p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindHang}}})
	b := shared(t, p.URL(), limit.Bounds{Concurrency: 1, BatchShare: 0.5})
	b.model.Timeouts.FirstToken = 30 * time.Second
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- b.Handle(ctx, newJob(job.Interactive)) }()
	if err := p.Await(t.Context(), func(c fakellm.Counts) bool { return c.InFlight == 1 }); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- b.Handle(t.Context(), parkedJob()) }()
	brokertest.Eventually(t, 5*time.Second, "the parked job waits", func() bool { return b.Handler.limits.Waiting("small", job.Interactive) == 1 })

	b.Leave()
	var f *fate.Error
	if err := <-waits; !errors.As(err, &f) || f.Fate != fate.Park || !f.AsItCame {
		t.Errorf("the job that only waited: %v, want handed back", err)
	}
	select {
	case err := <-first:
		t.Errorf("the call under way ended with the waiting: %v", err)
	default:
	}
	cancel()
	<-first
}

// explosive panics in the middle of a call.
type explosive struct{}

func (explosive) RoundTrip(*http.Request) (*http.Response, error) { panic("boom") }

func TestAPanicLeavesNeitherPlaceNorProbeBehind(t *testing.T) {
	t.Parallel()
	b := shared(t, "http://explosive/v1", limit.Bounds{Concurrency: 1, BatchShare: 0.5})
	b.providers["main"].transport.RegisterProtocol("http", explosive{})
	for i := range 3 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the handler did not panic")
				}
			}()
			if err := b.Handle(t.Context(), newJob(job.Interactive)); err != nil {
				t.Errorf("call %d does not get its place: %v", i, err)
			}
		}()
	}
	if look := b.Handler.breakers.Look("small"); look != (breaker.Look{Ready: true}) {
		t.Errorf("the breaker after panics of our own: %+v", look)
	}
}
