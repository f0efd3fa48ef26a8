package services_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// The moments of an outage under load. The rate is per second and trial: three run side by side.
const (
	outageRate   = 50
	outageFrom   = 5 * time.Second
	outageTo     = 45 * time.Second
	loadEnds     = 55 * time.Second
	outagePeriod = 3 * time.Second
	hangTimeout  = 2 * time.Second
	// settledAfter is how long after the first failure the strict rule begins: one call a half-open period.
	settledAfter = 20 * time.Second
	// measuring is what arrivals at the provider are off by, being later than the calls' starts.
	measuring = 100 * time.Millisecond
)

const outageYAML = `model: small
parameters: {max_output_tokens: 300}
deadline: {default: 60s, max: 10m, reserve: 2s}
on_outage: {batch: wait}
retry: {attempts: 5, max_calls: 6, first_delay: 1s, factor: 1.5, max_delay: 5s, jitter: 0.1, retry_after_max: 5s, interactive: {attempts: 2, first_delay: 50ms}}
` + ladderWhole

// One replica is started during the outage, one is cut off from NATS for a part of it.
func TestAProviderThatFailsUnderLoadIsProbedOnceAPeriodByAllReplicasTogether(t *testing.T) {
	t.Parallel()
	trials := []*outage{
		{kind: "503", fault: fakellm.Fault{Kind: "503"}, before: 60},
		{kind: "429", fault: fakellm.Fault{Kind: "429", RetryAfter: time.Second}, before: 60},
		// Calls are under way until the first of them is given up.
		{kind: "hang", fault: fakellm.Fault{Kind: "hang"}, takes: hangTimeout, before: 60 + outageRate*int(hangTimeout/time.Second)},
	}
	var steps []step
	for _, o := range trials {
		o.setup(t)
		steps = append(steps, o.steps()...)
	}
	play(t, steps...)
	for _, o := range trials {
		t.Run(o.kind, o.check)
	}
}

// outage is one way of the first model to fail.
type outage struct {
	*pressed
	kind  string
	fault fakellm.Fault
	// takes is how long a failing call lasts; before how many there may be before the strict rule begins.
	takes  time.Duration
	before int

	link         *brokertest.Link
	stopLoad     func()
	failed, back time.Time
}

func (o *outage) setup(t *testing.T) {
	t.Helper()
	small := fmt.Sprintf(", breaker: {half_open_after: %s}, timeouts: {first_token: %s, call: 10s}", outagePeriod, hangTimeout)
	o.pressed = press(t, small, map[string]string{"toy": outageYAML})
	o.link = brokertest.Proxy(t, o.url)
	o.first.SetLatency(fakellm.Latency{FirstToken: 50 * time.Millisecond})
	o.second.SetLatency(fakellm.Latency{FirstToken: 50 * time.Millisecond})
	o.run()
	o.run(broker.Inference)
	o.through(o.link).run(broker.Inference)
}

func (o *outage) steps() []step {
	return []step{
		{0, func() { o.stopLoad = o.load(outageRate, o.request) }},
		{outageFrom, func() {
			o.failed = time.Now()
			o.first.SetFaults(o.fault)
		}},
		{outageFrom + 8*time.Second, func() { o.run(broker.Inference) }},
		{outageFrom + 10*time.Second, o.link.Cut},
		{outageFrom + 30*time.Second, o.link.Heal},
		{outageTo, func() {
			o.back = time.Now()
			o.first.SetFaults()
		}},
		{loadEnds, func() { o.stopLoad() }},
	}
}

// request publishes the n-th request: a tenth waits for its model, a fifth was asked before.
func (o *outage) request(n int) {
	switch n % 10 {
	case 0:
		o.send(job.Batch, "toy", fmt.Sprintf("patient %d", n))
	case 3, 6:
		o.send(job.Interactive, "toy", fmt.Sprintf("known %d", n%50))
	default:
		o.send(job.Interactive, "toy", fmt.Sprintf("question %d", n))
	}
}

func (o *outage) check(t *testing.T) {
	own := *o
	own.pressed = o.on(t)
	results := own.settled(time.Minute)
	own.checkArrivals()
	own.checkEndings(results)
	own.checkRecovery(results)
}

// checkArrivals holds the provider's arrivals against the rule.
func (o *outage) checkArrivals() {
	arrivals := o.first.Arrivals("")
	early := within(arrivals, o.failed, o.back)
	if len(early) == 0 {
		o.t.Fatal("no call failed")
	}
	strict := early[0].Add(o.takes + settledAfter)
	probes := within(early, strict, o.back)
	if n := len(early) - len(probes); n > o.before {
		o.t.Errorf("%d calls in the first %s of the outage, want at most %d", n, settledAfter, o.before)
	}
	period, rest := time.Duration(0), o.back.Sub(strict)
	for i := 1; i < len(probes); i++ {
		gap := probes[i].Sub(probes[i-1])
		if gap < outagePeriod-measuring {
			o.t.Errorf("two probes are %s apart, want %s", gap, outagePeriod)
		}
		period = max(period, gap)
	}
	// Nobody who waits is forgotten either: load is there all the time.
	if least := int(rest/(outagePeriod+o.takes+time.Second)) - 1; len(probes) < least {
		o.t.Errorf("%d probes in %s, want %d", len(probes), rest, least)
	}
	o.t.Logf("%s: %d calls before, %d probes in %s after, at most %d in %s, at most %s apart", o.kind, len(early)-len(probes), len(probes),
		rest.Round(time.Millisecond), mostIn(probes, outagePeriod-measuring), outagePeriod, period.Round(time.Millisecond))
}

// checkEndings holds each request's ending against when and how it was asked.
func (o *outage) checkEndings(results map[string]job.Result) {
	endings, f := map[string]int{}, findings{}
	for _, s := range o.all() {
		r, ok := results[s.id]
		if !ok {
			continue
		}
		during := s.at.After(o.failed) && s.at.Before(o.back)
		name := fmt.Sprintf("%s, in the outage %v: %s", s.lane, during, by(r))
		endings[name]++
		if s.lane == job.Batch && !isLive(r) {
			f.add("waits for its model and had no live answer", "%q: %s, %+v", s.text, by(r), r.Degraded)
		}
		if s.lane == job.Batch && during && r.FinishedAt.Before(o.back) && isLive(r) && s.at.After(o.failed.Add(time.Second)) {
			f.add("answered by a model that was out", "%q", s.text)
		}
		if r.Status != job.Succeeded && r.Status != job.Degraded {
			o.t.Errorf("%q ended as %s: %+v", s.text, r.Status, r.Error)
		}
		if r.Source == job.FromModel && !answersTo(&r, s.text) {
			f.add("another's answer", "%q", s.text)
		}
	}
	f.report(o.t)
	for _, name := range slices.Sorted(maps.Keys(endings)) {
		o.t.Logf("%5d %s", endings[name], name)
	}
}

// checkRecovery wants a live answer within a half-open period, and the call that it takes. A probe that began
// when the provider still hung must have failed before.
func (o *outage) checkRecovery(results map[string]job.Result) {
	var first time.Time
	for _, r := range results {
		if isLive(r) && r.FinishedAt.After(o.back) && (first.IsZero() || r.FinishedAt.Before(first)) {
			first = r.FinishedAt
		}
	}
	took := first.Sub(o.back)
	if most := outagePeriod + o.takes + time.Second; first.IsZero() || took > most {
		o.t.Errorf("the first live answer came %s after the provider was back, want %s at most", took, most)
	}
	o.t.Logf("the first live answer came %s after the provider was back", took.Round(time.Millisecond))
}
