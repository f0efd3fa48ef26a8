package services_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// The calls of these tests all take as long, so that a limit of n in flight is n / callTime a second.
const (
	callTime = 200 * time.Millisecond
	mostBusy = 20
	// startsWithin is the time that replicas get to tell each other what they want.
	startsWithin = 3 * time.Second
	// leastBusy is the part of a limit that is in use while a crowd waits for it: 97 % and more where the machine
	// is free; a busy one is late with the next call of each place, and that is no fault of the limit.
	aCrowd    = 50
	leastBusy = 0.7
	// leastBusyOfFew is the same where each replica has one place or two, which stand idle while it is slow. In
	// step with each other, as they once were, replicas use about half.
	leastBusyOfFew = 0.7
)

// busy is a pipeline of three replicas whose model bears so many calls at once.
func busy(t *testing.T, tasks map[string]string) *pressed {
	t.Helper()
	p := press(t, fmt.Sprintf("%s, limits: {concurrency: %d, batch_share: 0.5}", slowly, mostBusy), tasks)
	p.first.SetLatency(fakellm.Latency{FirstToken: callTime})
	p.runAllBut(broker.Inference)
	return p
}

// start runs the replicas once all that was sent waits for them.
func (p *pressed) start() {
	p.t.Helper()
	n := len(p.all())
	brokertest.Eventually(p.t, time.Minute, "all wait for inference", func() bool { return p.stored(broker.StageStream(broker.Inference)) == n })
	p.run(broker.Inference, broker.Inference, broker.Inference)
}

// arrivals are the provider's, by the lane or task that texts begin with.
func (p *pressed) arrivals(prefixes ...string) [][]time.Time {
	p.t.Helper()
	at := make([][]time.Time, len(prefixes))
	calls := p.calls()
	for _, s := range p.all() {
		for i, prefix := range prefixes {
			for _, c := range calls[fakellm.Nonce(s.text)] {
				if len(s.text) >= len(prefix) && s.text[:len(prefix)] == prefix {
					at[i] = append(at[i], c.At)
				}
			}
		}
	}
	for _, own := range at {
		slices.SortFunc(own, time.Time.Compare)
	}
	return at
}

// succeeds wants one live answer and one call for each job.
func (p *pressed) succeeds() {
	p.t.Helper()
	p.allLive()
	if n := p.first.Counts().Calls; n != len(p.all()) {
		p.t.Errorf("%d calls for %d jobs", n, len(p.all()))
	}
}

// busyShare is the part of a limit of n in flight that calls used, from startsWithin after the first of them
// until a crowd was left: how many of them arrived, times how long they took. That is callTime here, and more on
// a machine that has no time for them.
func (p *pressed) busyShare(all []time.Time, n int) float64 {
	p.t.Helper()
	from, to := all[0].Add(startsWithin), all[len(all)-aCrowd]
	took, calls := time.Duration(0), 0
	for _, s := range p.all() {
		for _, r := range p.heard.of(s.id) {
			for _, e := range r.History {
				if e.Kind == job.KindCall && e.At.After(from) && e.At.Before(to) {
					took, calls = took+time.Duration(e.TookMS)*time.Millisecond, calls+1
				}
			}
		}
	}
	if calls == 0 {
		p.t.Fatal("no calls while a crowd waited")
	}
	each := took / time.Duration(calls)
	arrived := float64(len(within(all, from, to)))
	p.t.Logf("%.1f %% of the places of calls of %s, each took %s", 100*arrived*callTime.Seconds()/to.Sub(from).Seconds()/float64(n), callTime, each)
	return arrived * each.Seconds() / to.Sub(from).Seconds() / float64(n)
}

func TestCallsInFlightOverAllReplicasReachTheirLimitAndStayWithinIt(t *testing.T) {
	t.Parallel()
	const jobs = 900
	p := busy(t, map[string]string{"bare": limitedYAML})
	p.first.SetLimits(fakellm.Limit{Concurrency: mostBusy})
	for n := range jobs {
		p.send(job.Interactive, "bare", fmt.Sprintf("question %d", n))
	}
	p.start()
	p.succeeds()
	c := p.first.Counts()
	if c.MaxInFlight > mostBusy || c.Outcomes[fakellm.OutcomeLimited] != 0 {
		t.Errorf("%d calls in flight, %d were refused", c.MaxInFlight, c.Outcomes[fakellm.OutcomeLimited])
	}
	all := p.first.Arrivals("")
	share := p.busyShare(all, mostBusy)
	if share < leastBusy {
		t.Errorf("%.1f %% of the places were in use", share*100)
	}
	t.Logf("at most %d in flight, %.1f %% of the places in use, all in %s", c.MaxInFlight, share*100, all[jobs-1].Sub(all[0]).Round(time.Millisecond))
}

func TestATaskAtItsMaximumInFlightHoldsUpNoOtherTaskOfItsModel(t *testing.T) {
	t.Parallel()
	const own, jobs, pace = 5, 250, 40
	p := busy(t, map[string]string{"narrow": limitedYAML + fmt.Sprintf("max_in_flight: %d\n", own), "wide": limitedYAML})
	for n := range jobs {
		p.send(job.Interactive, "narrow", fmt.Sprintf("narrow %d", n))
	}
	p.start()
	brokertest.Eventually(t, time.Minute, "narrow is at its maximum", func() bool { return p.first.Counts().InFlight >= own })
	stop := p.load(pace, func(n int) { p.send(job.Interactive, "wide", fmt.Sprintf("wide %d", n)) })
	brokertest.Eventually(t, time.Minute, "narrow is nearly through", func() bool { return p.heard.distinct()-(len(p.all())-jobs) > jobs-2*own })
	stop()
	p.succeeds()
	at := p.arrivals("narrow", "wide")
	if n := mostIn(at[0], callTime); n > own {
		t.Errorf("%d calls of the task began within %s, want %d", n, callTime, own)
	}
	share := p.busyShare(at[0], own)
	if share < leastBusyOfFew {
		t.Errorf("%.1f %% of the task's places were in use", share*100)
	}
	waited := p.waits("wide")
	if slowest := waited[len(waited)*95/100]; slowest > time.Second {
		t.Errorf("one in twenty jobs of the other task waited %s for its call", slowest)
	}
	t.Logf("narrow: %.1f %% of its places in use; wide: %d jobs, half of them called within %s, the last after %s", share*100,
		len(waited), waited[len(waited)/2], waited[len(waited)-1])
}

// waits are the times from a request's acknowledgement to its first call, in ascending order.
func (p *pressed) waits(task string) []time.Duration {
	calls := p.calls()
	var waited []time.Duration
	for _, s := range p.all() {
		if own := calls[fakellm.Nonce(s.text)]; len(own) > 0 && s.text[:len(task)] == task {
			waited = append(waited, own[0].At.Sub(s.at))
		}
	}
	slices.Sort(waited)
	return waited
}

func TestBothLanesGetTheirShareOfAModelThatIsFull(t *testing.T) {
	t.Parallel()
	const jobs = 450
	p := busy(t, map[string]string{"bare": limitedYAML})
	for n := range jobs {
		p.send(job.Interactive, "bare", fmt.Sprintf("interactive %d", n))
		p.send(job.Batch, "bare", fmt.Sprintf("batch %d", n))
	}
	p.start()
	p.succeeds()
	at := p.arrivals("interactive", "batch")
	from, to := at[0][0].Add(startsWithin), at[0][jobs-mostBusy]
	if batch := at[1][jobs-mostBusy]; batch.Before(to) {
		to = batch
	}
	interactive, batch := len(within(at[0], from, to)), len(within(at[1], from, to))
	if all := interactive + batch; interactive*100 < all*45 || batch*100 < all*40 {
		t.Errorf("%d interactive and %d batch calls while both waited", interactive, batch)
	}
	if n := p.first.Counts().MaxInFlight; n > mostBusy {
		t.Errorf("%d calls in flight", n)
	}
	t.Logf("%d interactive and %d batch calls in %s", interactive, batch, to.Sub(from).Round(time.Millisecond))
}
