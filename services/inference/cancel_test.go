package inference

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// stored plays the broker: the run of the stored result, and the ids that were cancelled.
type stored struct {
	run   int
	err   error
	reads int

	mu        sync.Mutex
	cancelled map[string]bool
	waiting   map[string]func()
}

func (s *stored) ResultRun(context.Context, string, string) (int, error) {
	s.reads++
	return s.run, s.err
}

func (s *stored) Cancelled(id string, _ int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancelled[id]
}

func (s *stored) OnCancel(id string, _ int, f func()) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiting, id)
	}
}

func (s *stored) cancel(id string) {
	s.mu.Lock()
	s.cancelled[id] = true
	f := s.waiting[id]
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

func newStored() *stored {
	return &stored{cancelled: map[string]bool{}, waiting: map[string]func(){}}
}

// hanging is a provider that takes calls and never answers, and tells when its client leaves.
type hanging struct {
	url           string
	arrived, left chan struct{}
}

func newHanging(t *testing.T) *hanging {
	h := &hanging{arrived: make(chan struct{}, 10), left: make(chan struct{}, 10)}
	h.url = serve(t, func(w http.ResponseWriter, r *http.Request) {
		stream(delta("hel"))(w, r)
		h.arrived <- struct{}{}
		<-r.Context().Done()
		h.left <- struct{}{}
	})
	return h
}

func await(t *testing.T, signal <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(10 * time.Second):
		t.Fatal("in vain waited for: " + what)
	}
}

func patient(b *bundle) {
	b.model.Timeouts.FirstToken, b.model.Timeouts.Silence, b.model.Timeouts.Call = time.Hour, time.Hour, time.Hour
}

func TestACancelledJobIsNotCalledFor(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	b := setup(t, serve(t, r.ServeHTTP))
	s := newStored()
	s.cancel("job-1")
	b.cancels = s
	wantFate(t, b.Handle(t.Context(), newJob(job.Batch)), fate.Elsewhere, "")
	if len(r.bodies) != 0 {
		t.Error("the provider was called")
	}
}

func TestCancellingDuringACallDisconnectsFromTheProvider(t *testing.T) {
	t.Parallel()
	provider := newHanging(t)
	b := setup(t, provider.url)
	patient(b)
	s := newStored()
	b.cancels = s
	j := newJob(job.Batch)
	ended := make(chan error, 1)
	go func() { ended <- b.Handle(context.Background(), j) }()
	await(t, provider.arrived, "the call")
	s.cancel("job-1")
	await(t, provider.left, "the disconnect")
	wantFate(t, <-ended, fate.Elsewhere, "")
	if len(s.waiting) != 0 {
		t.Error("the handler still waits for the cancellation of a job that ended")
	}
	if len(j.History) != 0 || j.Calls != 0 {
		t.Error("a copy that is dropped needs no record")
	}
}

func TestACancellationBetweenTheLookAndTheCallIsNotMissed(t *testing.T) {
	t.Parallel()
	provider := newHanging(t)
	b := setup(t, provider.url)
	patient(b)
	s := newStored()
	b.cancels = &lateCancels{stored: s}
	wantFate(t, b.Handle(t.Context(), newJob(job.Batch)), fate.Elsewhere, "")
}

// lateCancels cancels on the first look, after having said no, and never calls back.
type lateCancels struct{ *stored }

func (l *lateCancels) Cancelled(id string, _ int) bool {
	was := l.stored.Cancelled(id, 1)
	l.stored.cancel(id)
	return was
}

func TestAProcessThatStopsHandsTheJobBackAsItCame(t *testing.T) {
	t.Parallel()
	provider := newHanging(t)
	b := setup(t, provider.url)
	patient(b)
	draining := errors.New("the process drains")
	ctx, cancel := context.WithCancelCause(context.Background())
	j := newJob(job.Batch)
	ended := make(chan error, 1)
	go func() { ended <- b.Handle(ctx, j) }()
	await(t, provider.arrived, "the call")
	cancel(draining)
	await(t, provider.left, "the disconnect")
	err := <-ended
	if _, hasFate := errors.AsType[*fate.Error](err); hasFate || !errors.Is(err, draining) {
		t.Errorf("error %v, want one without a fate that wraps the cause", err)
	}
	if len(j.History) != 0 || j.Calls != 0 || j.Attempts != 0 || j.Answer != nil {
		t.Errorf("the job says that a call failed: %+v", j)
	}
}

func TestARedeliveredJobThatHasItsResultIsNotCalledForAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                    string
		deliveries, jobRun, run int
		reads, calls            int
	}{
		{"a first delivery is not looked up", 1, 1, 1, 0, 1},
		{"a redelivery without a result", 2, 1, 0, 1, 1},
		{"a redelivery of the run that has its result", 2, 1, 1, 1, 0},
		{"a redelivery of an older run", 2, 1, 2, 1, 0},
		{"a redelivery of a replay", 2, 2, 1, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{}
			b := setup(t, serve(t, r.ServeHTTP))
			s := newStored()
			s.run = tt.run
			b.results = s
			j := newJob(job.Batch)
			j.Run, j.Arrival.Deliveries = tt.jobRun, tt.deliveries
			err := b.Handle(t.Context(), j)
			if tt.calls == 0 {
				wantFate(t, err, fate.Elsewhere, "")
			} else if err != nil {
				t.Error(err)
			}
			if s.reads != tt.reads || len(r.bodies) != tt.calls {
				t.Errorf("%d reads and %d calls, want %d and %d", s.reads, len(r.bodies), tt.reads, tt.calls)
			}
			repeated := float64(0)
			if tt.deliveries > 1 && tt.calls > 0 {
				repeated = 1
			}
			if got := b.value(t, "spillway_calls_repeated_total"); got != repeated {
				t.Errorf("%v repeated calls are counted, want %v", got, repeated)
			}
		})
	}
}

func TestARedeliveredJobWhoseResultCanNotBeReadIsNotCalledFor(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	b := setup(t, serve(t, r.ServeHTTP))
	s := newStored()
	s.err = errors.New("no leader")
	b.results = s
	j := newJob(job.Batch)
	j.Arrival.Deliveries = 2
	err := b.Handle(t.Context(), j)
	if !errors.Is(err, s.err) || len(r.bodies) != 0 {
		t.Errorf("error %v, %d calls", err, len(r.bodies))
	}
	if f := fate.Of(err); f.Fate != fate.Retry || f.Code != fate.Internal {
		t.Errorf("fate %v", f)
	}
}

// value returns the sum of a metric over its labels that contain all of want ("name=value").
func (b *bundle) value(t *testing.T, name string, want ...string) float64 {
	t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			all := strings.Join(labels, ",")
			matches := true
			for _, w := range want {
				matches = matches && strings.Contains(all, w)
			}
			if matches {
				sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}
