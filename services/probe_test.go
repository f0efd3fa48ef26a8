package services_test

import (
	"fmt"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

func TestProbesCostAJobThatWaitsNoneOfItsAttempts(t *testing.T) {
	t.Parallel()
	const probes = 3 // a job of this lane has two attempts
	r := setupPatient(t, halfOpenAfter("700ms"))
	r.run()
	r.down()
	before := smallCalls(r)
	ids, texts := r.parks(job.Interactive, "patient", 1, "1m")
	r.awaits(func(c fakellm.Counts) bool { return c.Outcomes["503"] == before+probes })
	r.first.SetFaults()
	result := r.result(ids[0], 1)
	check(t, "after three probes", result, succeeded("strict"))
	if result.Usage.Calls != probes+1 {
		t.Errorf("%d calls in its account", result.Usage.Calls)
	}
	r.calls("after three probes", texts[0], probes+1)
}

func TestAJobProbesNoMoreOftenThanItMayCall(t *testing.T) {
	t.Parallel()
	r := setupPatient(t, halfOpenAfter("700ms"))
	r.run()
	r.down()
	ids, texts := r.parks(job.Interactive, "sparing", 1, "1m")
	result := r.result(ids[0], 1)
	check(t, "its calls are spent", result, byCanned)
	if result.Degraded.Reason != fate.ProviderUnavailable && result.Degraded.Reason != fate.CallsSpent {
		t.Errorf("degraded because of %s", result.Degraded.Reason)
	}
	r.calls("its calls are spent", texts[0], 3)
	r.emptied(10 * time.Second)
}

func TestJobsAreAnsweredThoughTheProcessOfTheProbeDied(t *testing.T) {
	t.Parallel()
	// The lease of a probe is the call timeout and 5 s.
	const jobs = 4
	r := setupPatient(t, "timeouts: {connect: 1s, first_token: 2s, silence: 2s, call: 2s}\n  breaker: {half_open_after: 1s}")
	r.runAllBut(broker.Inference)
	dying := newProcesses(r).mustStart(broker.Inference)
	r.down()
	before := smallCalls(r)
	r.first.SetFaults(fakellm.Fault{Kind: "hang_headers"})
	ids, texts := r.parks(job.Interactive, "patient", jobs, "1m")
	r.awaits(func(c fakellm.Counts) bool { return c.InFlight == 1 })
	dying.end(t, syscall.SIGKILL)
	r.first.SetFaults()
	record := r.circuits().of("model.small")
	if record.State != halfOpen || !record.Lease.After(time.Now()) {
		t.Fatalf("the probe died, and the record is %+v", record)
	}
	r.run(broker.Inference)
	for n, id := range ids {
		check(t, texts[n], r.result(id, 1), succeeded("strict"))
	}
	if n := smallCalls(r) - before; n != 1+jobs {
		t.Errorf("%d calls, want the probe that died and one for each job", n)
	}
	calls := r.first.Arrivals("small-1")[before:]
	if after := calls[1].Sub(record.Lease); after < -5*time.Millisecond || after > 2*time.Second {
		t.Errorf("the next probe came %s after the lease of the first", after)
	}
	if took := calls[len(calls)-1].Sub(calls[1]); took > 3*time.Second {
		t.Errorf("the last job was called %s after the probe that passed", took)
	}
}

// What the provider says of the request and not of itself closes the circuit, and is as final for the job as it
// is for any other.
func TestAProbeThatIsRefusedForItsOwnInputIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, refusal := range []struct {
		kind string
		code fate.Code
	}{
		{"400", fate.ProviderRefusedRequest},
		{"context_length", fate.ContextTooLong},
		{"400_content_filter", fate.Refused},
	} {
		t.Run(refusal.kind, func(t *testing.T) {
			t.Parallel()
			r := setupPatient(t, halfOpenAfter("700ms"))
			r.run()
			r.breaks()
			r.first.SetFaults(fakellm.Fault{Kind: refusal.kind})
			ids, texts := r.parks(job.Interactive, "patient", 1, "1m")
			result := r.result(ids[0], 1)
			check(t, refusal.kind, result, byCanned)
			if result.Degraded == nil || result.Degraded.Reason != refusal.code {
				t.Errorf("degraded %+v", result.Degraded)
			}
			r.calls(refusal.kind, texts[0], 1)
			r.circuits().becomes("model.small", closed)
		})
	}
}

func TestAJobWhoseOwnCallOpensTheBreakerWaitsWithTheOthers(t *testing.T) {
	t.Parallel()
	r := setupPatient(t, halfOpenAfter("700ms"))
	r.first.SetFaults(fakellm.Fault{Kind: "503"})
	r.run()
	for n := range 2 {
		r.result(r.ask(job.Interactive, "bare", fmt.Sprintf("two calls, %d", n)), 1)
	}
	ids, texts := r.parks(job.Interactive, "patient", 1, "1m")
	r.circuits().becomes("model.small", open)
	r.calls("parked", texts[0], 1)
	r.first.SetFaults()
	result := r.result(ids[0], 1)
	check(t, "after the outage", result, succeeded("strict"))
	r.calls("after the outage", texts[0], 2)
}

// The circuit of a provider is probed for all of its models at once.
func TestTheJobsOfAllModelsOfAProviderWaitForOneProbe(t *testing.T) {
	t.Parallel()
	const (
		period  = 700 * time.Millisecond
		periods = 2
	)
	r := setupWith(t, brokertest.Server(t).URL(), 1, func(first, second string) fstest.MapFS {
		fs := patient("")(first, second)
		fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(halfOpenAfter("700ms"),
			small("small", "one", first), small("sibling", "one", first), large("large", "two", second)))}
		addCanned(fs, "patient-sibling", taskOn("sibling", "", waits+ladderCanned))
		return fs
	})
	r.first.SetFaults(fakellm.Fault{Kind: "401"})
	r.run()
	r.run(broker.Inference)
	check(t, "the one that finds out", r.result(r.ask(job.Interactive, "toy", "first"), 1), byOtherModel)
	record := r.circuits().becomes("provider.one", open)
	ids, texts := r.parks(job.Interactive, "patient", 2, "1m")
	for n := range 2 {
		texts = append(texts, fmt.Sprintf("for the sibling, %d", n))
		ids = append(ids, r.ask(job.Batch, "patient-sibling", texts[len(texts)-1]))
	}
	r.awaits(func(c fakellm.Counts) bool { return c.Outcomes["401"] == 1+periods })
	r.first.SetFaults()
	for n, id := range ids {
		check(t, texts[n], r.result(id, 1), ending{status: job.Succeeded, source: job.FromModel})
	}
	calls := r.first.Arrivals("small-1")[1:]
	if len(calls) != periods+len(ids) {
		t.Fatalf("%d calls, want %d probes that failed and one for each of %d jobs", len(calls), periods, len(ids))
	}
	r.oneAPeriod(record.Until, calls[:periods+1], period)
	if took := calls[len(calls)-1].Sub(calls[periods]); took > 3*time.Second {
		t.Errorf("the last job was called %s after the probe that passed", took)
	}
}
