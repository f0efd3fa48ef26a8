package services_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// waits makes a task wait for its model on either lane.
const waits = "on_outage: {interactive: wait, batch: wait}\n"

// ladderCanned has no other model.
const ladderCanned = "ladder:\n  - {rung: canned}\n"

// patient are the tasks of the rig, and those that wait for model small: patient, with a canned answer only,
// sparing, which makes three calls at most, and climber, which begins at model large and has small on its
// ladder.
func patient(limits string) func(first, second string) fstest.MapFS {
	return func(first, second string) fstest.MapFS {
		fs := folder(first, second)
		fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(limits, small("small", "one", first), large("large", "two", second)))}
		addCanned(fs, "patient", taskYAML+waits+ladderCanned)
		addCanned(fs, "sparing", strings.Replace(taskYAML, "max_calls: 6", "max_calls: 3", 1)+waits+ladderCanned)
		addCanned(fs, "climber", taskOn("large", "small", waits+ladderWhole))
		return fs
	}
}

func setupPatient(t *testing.T, limits string) *rig {
	t.Helper()
	return setupWith(t, brokertest.Server(t).URL(), 1, patient(limits))
}

// smallCalls is the count of the provider of model small.
func smallCalls(r *rig) int { return r.first.Counts().Models["small-1"].Calls }

func TestAnOpenBreakerSendsJobsToTheLadderWithoutACall(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	live := r.answered("toy", "warm")
	record := r.breaks()
	before := smallCalls(r)
	for _, lane := range []string{job.Interactive, job.Batch} {
		cached := r.result(r.ask(lane, "toy", "warm"), 1)
		check(t, "cached", cached, ending{status: job.Degraded, source: job.FromCache})
		if string(cached.Output) != string(live.Output) {
			t.Errorf("cached %s, live %s", cached.Output, live.Output)
		}
		r.saysOutage(cached, "small", record)
		other := r.result(r.ask(lane, "toy", "cold on "+lane), 1)
		check(t, "another model", other, byOtherModel)
		r.saysOutage(other, "small", record)
	}
	r.second.SetFaults(fakellm.Fault{Kind: "429", RetryAfter: time.Hour})
	for n := range 5 {
		check(t, "large fails", r.result(r.ask(job.Interactive, "toy", fmt.Sprintf("large is down, %d", n)), 1), byCanned)
	}
	r.circuits().becomes("model.large", open)
	largeBefore := r.second.Counts().Calls
	for _, lane := range []string{job.Interactive, job.Batch} {
		canned := r.result(r.ask(lane, "toy", "both down on "+lane), 1)
		check(t, "canned", canned, byCanned)
		r.saysOutage(canned, "small", record)
		failed := r.result(r.ask(lane, "models", "both down on "+lane), 1)
		check(t, "no canned answer", failed, ending{status: job.Failed})
		if failed.Error == nil || failed.Error.Code != fate.ProviderUnavailable || failed.Error.DeadLetter == "" {
			t.Errorf("no canned answer: error %+v", failed.Error)
		}
		r.saysOutage(failed, "small", record)
	}
	if small, large := smallCalls(r)-before, r.second.Counts().Calls-largeBefore; small != 0 || large != 0 {
		t.Errorf("%d calls of small and %d of large while their circuits were open", small, large)
	}
}

// saysOutage checks that a result gives the outage as its reason, and that its history tells why and until when.
func (r *rig) saysOutage(result *job.Result, model string, record circuit) {
	r.t.Helper()
	if result.Degraded != nil && result.Degraded.Reason != fate.ProviderUnavailable {
		r.t.Errorf("degraded because of %s", result.Degraded.Reason)
	}
	for _, e := range result.History {
		if e.Kind == job.KindCall && e.Model == model {
			r.t.Errorf("the history has a call of %s", model)
		}
		if e.Stage != broker.Inference || e.Code != fate.ProviderUnavailable || !strings.Contains(e.Detail, "model "+model) {
			continue
		}
		if !strings.Contains(e.Detail, record.Why) {
			r.t.Errorf("the history says %q, and not that %s", e.Detail, record.Why)
		}
		if until := record.Until.UTC().Format("15:04:05"); !strings.Contains(e.Detail, until) {
			r.t.Errorf("the history says %q, and not that it is until %s", e.Detail, until)
		}
		return
	}
	r.t.Errorf("the history does not say that the circuit of %s is open: %s", model, lines(result.History))
}

func TestAJobOnTheLadderDoesNotWait(t *testing.T) {
	t.Parallel()
	r := setupPatient(t, defaultLimits)
	r.run()
	r.breaks()
	before := smallCalls(r)
	r.second.SetFaults(fakellm.Fault{Kind: "400"})
	for _, lane := range []string{job.Interactive, job.Batch} {
		result := r.result(r.ask(lane, "climber", "up the ladder"), 1)
		check(t, lane, result, byCanned)
		if took := result.FinishedAt.Sub(result.AcknowledgedAt); took > 5*time.Second {
			t.Errorf("%s: it took %s", lane, took)
		}
	}
	if n := smallCalls(r) - before; n != 0 {
		t.Errorf("%d calls of a model whose circuit is open", n)
	}
}

func TestCallsInFlightEndAsEverWhenTheBreakerOpens(t *testing.T) {
	t.Parallel()
	const jobs = 3
	r := setupPatient(t, "timeouts: {connect: 1s, first_token: 10s, silence: 10s, call: 10s}")
	r.first.SetLatency(fakellm.Latency{FirstToken: 1500 * time.Millisecond})
	r.run()
	var ids []string
	for n := range jobs {
		ids = append(ids, r.ask(job.Interactive, "toy", fmt.Sprintf("slow, %d", n)))
	}
	r.awaits(func(c fakellm.Counts) bool { return c.InFlight == jobs })
	record := r.breaks()
	if n := r.first.Counts().InFlight; n != jobs {
		t.Fatalf("%d calls are in flight when the breaker opens, want %d", n, jobs)
	}
	for n, id := range ids {
		result := r.result(id, 1)
		check(t, id, result, succeeded("strict"))
		r.calls(id, fmt.Sprintf("slow, %d", n), 1)
	}
	if n := r.first.Counts().Disconnects; n != 0 {
		t.Errorf("%d calls were left", n)
	}
	if after := r.circuits().of("model.small"); after != record {
		t.Errorf("calls from before it opened made %+v of %+v", after, record)
	}
}

// awaits waits until the counts of the first provider are as they should.
func (r *rig) awaits(holds func(fakellm.Counts) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	if err := r.first.Await(ctx, holds); err != nil {
		r.t.Fatalf("the provider was not called as expected: %v; %+v", err, r.first.Counts().Tally)
	}
}

func TestAJobThatFindsTheBreakerOpenAfterItsRetryWaitLeavesWithoutACall(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	const text = "asked to wait"
	r.first.SetFaults(fakellm.Fault{Kind: "429", RetryAfter: 1500 * time.Millisecond, Form: fakellm.FormMillis, Match: text})
	r.run()
	id := r.ask(job.Interactive, "toy", text)
	r.awaits(func(c fakellm.Counts) bool { return c.Outcomes["429"] == 1 })
	asked := time.Now()
	record := r.breaks()
	if took := time.Since(asked); took > time.Second {
		t.Fatalf("the breaker opened after %s, which is too late for this test", took)
	}
	result := r.result(id, 1)
	check(t, "after the wait", result, byOtherModel)
	r.calls("after the wait", text, 1)
	if result.Degraded.Reason != fate.ProviderUnavailable || !strings.Contains(lines(result.History), record.Why) {
		t.Errorf("degraded %+v, history %s", result.Degraded, lines(result.History))
	}
	if waited := result.FinishedAt.Sub(asked); waited < time.Second {
		t.Errorf("it left %s after its call, before its wait was over", waited)
	}
}
