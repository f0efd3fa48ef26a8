package services_test

import (
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// row is an outcome with what the fault alone does not say.
type row struct {
	outcome
	// door is where the failing models are; nil: at the fake provider, which has the fault.
	door func(t *testing.T, fake string) door
	// deadline is that of the requests; "": the task's.
	deadline string
}

func (o outcome) named(name string) outcome {
	o.name = name
	return o
}

// rows are all faults of a provider.
func rows() []row {
	late := outcome{
		"429 that asks for more than the deadline leaves",
		fakellm.Fault{Kind: "429", RetryAfter: 4500 * time.Millisecond},
		1, 1, counts, byOtherModel, fate.ProviderRateLimited, "",
	}
	all := append(shut(), row{outcome: late, deadline: "4s"})
	for _, o := range outcomes() {
		all = append(all, row{outcome: o})
	}
	return all
}

// failing is a model of a row that has the row's fault. One that hangs costs a timeout each time: it gets
// short ones, which the models that work do not.
func (o outcome) failing(m model) model {
	if o.code == fate.ProviderTimeout {
		m.rest += ", timeouts: {first_token: 300ms, silence: 300ms, call: 600ms}"
	}
	return m
}

// body is a request of the row.
func (w row) body(text string) map[string]any {
	b := map[string]any{"input": map[string]string{"text": text}}
	if w.deadline != "" {
		b["deadline"] = w.deadline
	}
	return b
}

// TestEachFaultEndsAsTheTableSays runs every row on both lanes, with one replica of inference and with three:
// with the fault on the first model only, on all models, and on all models of a task without a canned answer.
// The calls are the provider's own count. Each trial has models and providers of its own, so that no trial's
// failures open the breaker of another.
func TestEachFaultEndsAsTheTableSays(all *testing.T) {
	all.Parallel()
	for _, w := range rows() {
		all.Run(w.name, func(t *testing.T) {
			t.Parallel()
			w.endsAsItSays(t, serverOf(t, all))
		})
	}
}

// serverOf runs a server for t that stops when t ends. Stopping takes a while, for each of the many consumers:
// all the tests wait for that, and not t.
func serverOf(t, all *testing.T) (url string) {
	t.Helper()
	s := brokertest.Server(all)
	stopped := make(chan struct{})
	all.Cleanup(func() { <-stopped })
	t.Cleanup(func() {
		go func() {
			defer close(stopped)
			s.Stop()
		}()
	})
	return s.URL()
}

func (w row) endsAsItSays(t *testing.T, url string) {
	trials := w.trials()
	var at *door
	r := setupWith(t, url, 1, func(first, second string) fstest.MapFS {
		if w.door != nil {
			d := w.door(t, first)
			at = &d
		}
		return filesOf(trials, first, second, at)
	})
	if at == nil {
		f := w.fault
		r.first.SetFaults(f)
		f.Match = onAll
		r.second.SetFaults(f)
	}
	r.run()
	knocks := r.ends(trials[:len(trials)/2], at)
	r.run(broker.Inference)
	r.run(broker.Inference)
	knocks += r.ends(trials[len(trials)/2:], at)
	if at != nil && at.knocks != nil && at.knocks() != knocks {
		t.Errorf("%d calls came, want %d", at.knocks(), knocks)
	}
}

// ends runs trials at once, compares how they end, and returns the calls that failing models were to get.
func (r *rig) ends(trials []trial, at *door) (calls int) {
	r.t.Helper()
	var ids []string
	for _, a := range trials {
		ids = append(ids, r.publish(a.lane, a.task(), "", a.body(a.text())))
	}
	for n, a := range trials {
		r.endsAs(a, r.result(ids[n], 1))
		if at == nil {
			r.calls(a.task(), a.text(), a.calls())
		}
		calls += a.calls()
		if a.on != onFirstOnly {
			calls += min(a.calls(), maxCalls-a.calls()) // the other model's, as far as the job may call
		}
	}
	return calls
}

// Where a trial's fault is.
const (
	onFirstOnly   = "first"
	onAll         = "every"
	onAllUncanned = "bare-every"
)

// trial is a row on a lane, with so many replicas and the fault on some of the task's models.
type trial struct {
	row
	lane, on string
	replicas int
}

// trials are those of a row, those with one replica first. What succeeds has nothing to show on the ladder.
func (w row) trials() []trial {
	places := []string{onFirstOnly}
	if w.alone.status != job.Succeeded {
		places = append(places, onAll, onAllUncanned)
	}
	var all []trial
	for _, replicas := range []int{1, 3} {
		for _, lane := range []string{job.Interactive, job.Batch} {
			for _, on := range places {
				all = append(all, trial{row: w, lane: lane, on: on, replicas: replicas})
			}
		}
	}
	return all
}

func (a trial) task() string  { return fmt.Sprintf("%s-%s-%d", a.lane, a.on, a.replicas) }
func (a trial) small() string { return "small-" + a.task() }
func (a trial) large() string { return "large-" + a.task() }
func (a trial) text() string  { return a.name + " on " + a.task() }

func (a trial) calls() int {
	if a.lane == job.Batch {
		return a.batch
	}
	return a.interactive
}

// filesOf are the tasks of trials; at is where the failing models are, nil: at first and second.
func filesOf(trials []trial, first, second string, at *door) fstest.MapFS {
	fs := fstest.MapFS{}
	var models []model
	for _, a := range trials {
		bad, other := a.failing(small(a.small(), "one-"+a.task(), first)), large(a.large(), "two-"+a.task(), second)
		if at != nil {
			bad.url = at.url
		}
		if a.on != onFirstOnly {
			other = a.failing(other)
			if at != nil {
				other.url = at.url
			}
		}
		models = append(models, bad, other)
		if a.on == onAllUncanned {
			addTask(fs, a.task(), taskOn(a.small(), a.large(), ladderModels))
		} else {
			addCanned(fs, a.task(), taskOn(a.small(), a.large(), ladderWhole))
		}
	}
	fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(defaultLimits, models...))}
	return fs
}

// endsAs compares the result of a trial with its row.
func (r *rig) endsAs(a trial, result *job.Result) {
	r.t.Helper()
	want := a.ending()
	check(r.t, a.task(), result, want)
	switch want.status {
	case job.Degraded:
		if result.Degraded == nil || result.Degraded.Reason != a.code {
			r.t.Errorf("%s: degraded %+v, want because of %s", a.task(), result.Degraded, a.code)
		}
	case job.Failed:
		if result.Error == nil || result.Error.Code != a.code || result.Error.Message == "" || result.Error.DeadLetter == "" {
			r.t.Errorf("%s: error %+v, want code %s", a.task(), result.Error, a.code)
		}
		if result.Output != nil && string(result.Output) != "null" {
			r.t.Errorf("%s: output %s", a.task(), result.Output)
		}
	}
	r.historyTells(a, result)
}

// ending is how the trial ends, by its own models' names.
func (a trial) ending() ending {
	switch a.on {
	case onAll:
		return byCanned
	case onAllUncanned:
		return ending{status: job.Failed}
	}
	want := a.alone
	switch want.model {
	case byOtherModel.model:
		want.model = a.large()
	case "small":
		want.model = a.small()
	}
	return want
}

// calls compares with what the provider of the first model counted for this input.
func (r *rig) calls(what, text string, want int) {
	r.t.Helper()
	if got := r.first.Counts().Nonces[fakellm.Nonce(text)]; got != want {
		r.t.Errorf("%s: the provider counted %d calls, want %d", what, got, want)
	}
}

// historyTells checks that a result alone says which calls were made, of which model, and how they ended.
func (r *rig) historyTells(a trial, result *job.Result) {
	r.t.Helper()
	want := a.called
	if want == "" {
		want = string(a.code)
	}
	calls, failing := 0, 0
	for _, e := range result.History {
		if e.Kind != job.KindCall {
			continue
		}
		calls++
		if e.Model != a.small() {
			continue
		}
		failing++
		if e.Outcome != want {
			r.t.Errorf("%s: history: call %d of small ended as %q, want %q", a.task(), e.N, e.Outcome, want)
		}
	}
	if calls != result.Usage.Calls || failing != a.calls() {
		r.t.Errorf("%s: history has %d calls, %d of the first model, want %d; usage %d", a.task(), calls, failing, a.calls(), result.Usage.Calls)
	}
	if stages := result.History; len(stages) == 0 || stages[0].Stage != "ingest" {
		r.t.Errorf("%s: history does not begin at ingest: %s", a.task(), lines(result.History))
	}
}

// tag makes a name a part of the input that no other's contains.
func tag(name string) string { return "[" + name + "]" }
