package services_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// parked counts the jobs that wait for model small on a lane.
func (r *rig) parked(lane string) int {
	r.t.Helper()
	s, err := r.conn.JS.Stream(r.t.Context(), "LLM_PARKED")
	if err != nil {
		r.t.Fatal(err)
	}
	subject := "llm.parked." + lane + ".small"
	info, err := s.Info(r.t.Context(), jetstream.WithSubjectFilter(subject))
	if err != nil {
		r.t.Fatal(err)
	}
	return int(info.State.Subjects[subject])
}

// parks asks n jobs of a task on a lane and waits until they are parked.
func (r *rig) parks(lane, task string, n int, deadline string) (ids, texts []string) {
	r.t.Helper()
	for i := range n {
		text := fmt.Sprintf("%s on %s, %d", task, lane, i)
		texts = append(texts, text)
		ids = append(ids, r.publish(lane, task, "", withDeadline(text, deadline)))
	}
	brokertest.Eventually(r.t, 10*time.Second, "the jobs are parked", func() bool { return r.parked(lane) == n })
	return ids, texts
}

// down makes every call of small fail and opens its circuit.
func (r *rig) down() circuit {
	r.t.Helper()
	record := r.breaks()
	r.first.SetFaults(fakellm.Fault{Kind: "503"})
	return record
}

func TestAJobThatWaitsIsParkedProbedOnceAPeriodAndSucceedsByItself(t *testing.T) {
	t.Parallel()
	const (
		period  = 1200 * time.Millisecond
		jobs    = 4
		periods = 3
	)
	r := setupPatient(t, halfOpenAfter("1200ms"))
	r.run()
	r.run(broker.Inference)
	r.run(broker.Inference)
	record := r.down()
	before := smallCalls(r)
	ids, texts := r.parks(job.Interactive, "patient", jobs, "1m")
	moreIDs, moreTexts := r.parks(job.Batch, "patient", jobs, "1m")
	ids, texts = append(ids, moreIDs...), append(texts, moreTexts...)
	r.awaits(func(c fakellm.Counts) bool { return c.Outcomes["503"] == before+periods })
	r.first.SetFaults()
	for n, id := range ids {
		result := r.result(id, 1)
		check(t, texts[n], result, succeeded("strict"))
		if !answersTo(result, texts[n]) {
			t.Errorf("%s has another's answer: %s", id, result.Output)
		}
		if _, ok := eventOf(result, "park", fate.ProviderUnavailable); !ok {
			t.Errorf("the history does not say that it was parked: %s", lines(result.History))
		}
	}
	if n := smallCalls(r) - before; n != periods+len(ids) {
		t.Errorf("%d calls, want %d probes that failed and one for each of %d jobs", n, periods, len(ids))
	}
	calls := r.first.Arrivals("small-1")[before:]
	r.oneAPeriod(record.Until, calls[:periods+1], period)
	if took := calls[len(calls)-1].Sub(calls[periods]); took > 3*time.Second {
		t.Errorf("the last job was called %s after the probe that passed", took)
	}
	r.circuits().becomes("model.small", closed)
	r.emptied(10 * time.Second)
}

// oneAPeriod checks that the probes came when they were due: each a period after the one before failed.
func (r *rig) oneAPeriod(due time.Time, probes []time.Time, period time.Duration) {
	r.t.Helper()
	const soon = time.Second
	for n, at := range probes {
		if late := at.Sub(due); late < -5*time.Millisecond || late > soon {
			r.t.Errorf("probe %d came %s after it was due", n+1, late)
		}
		due = at.Add(period)
	}
}

// eventOf finds the hop of inference with a fate and a code.
func eventOf(result *job.Result, fate string, code fate.Code) (job.Event, bool) {
	for _, e := range result.History {
		if e.Stage == broker.Inference && e.Fate == fate && e.Code == code {
			return e, true
		}
	}
	return job.Event{}, false
}

func TestAJobThatWaitsLongerThanItsDeadlineIsAnsweredBeforeIt(t *testing.T) {
	t.Parallel()
	r := setupPatient(t, halfOpenAfter("4s"))
	r.run()
	record := r.down()
	before := smallCalls(r)
	var ids []string
	for _, lane := range []string{job.Interactive, job.Batch} {
		more, _ := r.parks(lane, "patient", 2, "2500ms")
		ids = append(ids, more...)
	}
	for _, id := range ids {
		r.cannedInTime(id)
	}
	if n := smallCalls(r) - before; n != 0 || !time.Now().Before(record.Until) {
		t.Fatalf("%d calls; the last was answered at %s, the outage ends at %s", n, time.Now(), record.Until)
	}
	r.first.SetFaults()
	r.answered("patient", "after the outage")
	r.emptied(15 * time.Second)
	r.keptUncalled(ids)
	if n := smallCalls(r) - before; n != 1 {
		t.Errorf("%d calls, want the one of the job after the outage", n)
	}
}

// cannedInTime checks a job that waited in vain.
func (r *rig) cannedInTime(id string) {
	r.t.Helper()
	result := r.result(id, 1)
	check(r.t, id, result, byCanned)
	if result.Degraded == nil || result.Degraded.Reason != fate.Deadline {
		r.t.Errorf("%s: degraded %+v", id, result.Degraded)
	}
	if !result.FinishedAt.Before(result.Deadline) {
		r.t.Errorf("%s finished at %s, its deadline was %s", id, result.FinishedAt, result.Deadline)
	}
}

// keptUncalled checks that jobs had one result each, and are kept with their input.
func (r *rig) keptUncalled(ids []string) {
	r.t.Helper()
	for _, id := range ids {
		if n := len(r.heard.of(id)); n != 1 {
			r.t.Errorf("%d results of %s were seen", n, id)
		}
		letter, _, err := r.conn.Dead(r.t.Context(), id)
		if err != nil || letter.Code != fate.Deadline || letter.Job == nil || letter.Job.Input == nil {
			r.t.Errorf("dead letter of %s: %+v, %v", id, letter, err)
		}
	}
}

// Nobody looks at the parked jobs when their time comes: they are answered all the same, and what is parked of
// them is found when inference is back.
func TestAParkedJobThatWasAnsweredMeanwhileIsKeptAndNotCalled(t *testing.T) {
	t.Parallel()
	r := setupPatient(t, halfOpenAfter("2s"))
	r.runAllBut(broker.Inference)
	stop := r.run(broker.Inference)
	r.down()
	before := smallCalls(r)
	var ids []string
	for _, lane := range []string{job.Interactive, job.Batch} {
		more, _ := r.parks(lane, "patient", 2, "2500ms")
		ids = append(ids, more...)
	}
	stop()
	for _, id := range ids {
		r.cannedInTime(id)
	}
	if a, b := r.parked(job.Interactive), r.parked(job.Batch); a != 2 || b != 2 {
		t.Errorf("%d and %d jobs are parked", a, b)
	}
	deadline := r.result(ids[len(ids)-1], 1).Deadline
	brokertest.Eventually(t, 5*time.Second, "the deadlines pass", func() bool { return time.Now().After(deadline) })
	r.first.SetFaults()
	r.run(broker.Inference)
	r.answered("patient", "after the outage")
	r.emptied(15 * time.Second)
	r.keptUncalled(ids)
	if n := smallCalls(r) - before; n != 1 {
		t.Errorf("%d calls, want the one of the job after the outage", n)
	}
}
