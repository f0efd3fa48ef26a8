package services_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// replay orders a new run as any NATS client does.
func (r *rig) replay(t *testing.T, id, body string) {
	t.Helper()
	nc, err := nats.Connect(r.url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Publish("llm.replay."+id, []byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// refused waits for the n-th refusal of a replay.
func (r *rig) refused(t *testing.T, id string, n int) stage.Progress {
	t.Helper()
	brokertest.Eventually(t, 10*time.Second, "the replay of "+id+" is refused", func() bool { return len(r.heard.events(id, "replay_refused")) >= n })
	return r.heard.events(id, "replay_refused")[n-1]
}

// deadKind is a way to a dead letter, on a model of a provider of its own.
type deadKind struct {
	model  string
	name   string
	ladder string
	fault  fakellm.Fault
	first  job.Status
	code   fate.Code
}

func deadKinds() []deadKind {
	return []deadKind{
		{"m-auth", "degraded by another model", ladderWhole, fakellm.Fault{Kind: "401"}, job.Degraded, fate.ProviderAuth},
		{"m-refusal", "degraded after a refusal", ladderWhole, fakellm.Fault{Kind: "refusal"}, job.Degraded, fate.Refused},
		{"m-request", "failed at inference", ladderNone, fakellm.Fault{Kind: "400"}, job.Failed, fate.ProviderRefusedRequest},
		{"m-schema", "failed at the validator", ladderNone, fakellm.Fault{Kind: "off_schema"}, job.Failed, fate.OutputInvalid},
		{"m-length", "failed for its length", ladderNone, fakellm.Fault{Kind: "length"}, job.Failed, fate.OutputTruncated},
	}
}

// deadFiles has a task for each kind, named as its model.
func deadFiles(first, second string) fstest.MapFS {
	fs := fstest.MapFS{}
	models := []model{large("large", "two", second)}
	for _, k := range deadKinds() {
		models = append(models, small(k.model, "one-"+k.model, first))
		addCanned(fs, k.model, taskOn(k.model, "large", k.ladder))
	}
	fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(halfOpenAfter("500ms"), models...))}
	return fs
}

func TestADeadLetterOfEachKindIsReplayedByAPlainPublish(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, deadFiles)
	r.run()
	var faults []fakellm.Fault
	for _, k := range deadKinds() {
		k.fault.Match = tag(k.name)
		faults = append(faults, k.fault)
	}
	r.first.SetFaults(faults...)
	ids := map[string]string{}
	for _, k := range deadKinds() {
		ids[k.name] = r.ask(job.Interactive, k.model, tag(k.name))
	}
	for _, k := range deadKinds() {
		result := r.result(ids[k.name], 1)
		if result.Status != k.first {
			t.Fatalf("%s: ended as %s, %+v", k.name, result.Status, result.Error)
		}
		brokertest.Eventually(t, 5*time.Second, "a dead letter is kept", func() bool {
			letter, _, err := r.conn.Dead(t.Context(), ids[k.name])
			return err == nil && letter.Code == k.code && letter.Degraded == (k.first == job.Degraded)
		})
	}
	r.first.SetFaults()
	// The refused key opened its provider's circuit; the replay is the probe.
	until := r.circuits().becomes("provider.one-m-auth", open).Until
	brokertest.Eventually(t, 5*time.Second, "the provider may be probed", func() bool { return time.Now().After(until) })
	for _, k := range deadKinds() {
		r.replay(t, ids[k.name], "")
	}
	for _, k := range deadKinds() {
		r.isReplayedOnce(k, ids[k.name])
	}
}

// isReplayedOnce checks run 2 of a dead job, and that it is no dead job any more.
func (r *rig) isReplayedOnce(k deadKind, id string) {
	r.t.Helper()
	result := r.result(id, 2)
	check(r.t, k.name, result, ending{status: job.Succeeded, source: job.FromModel, model: k.model, recovery: "strict"})
	if !answersTo(result, tag(k.name)) || result.Run != 2 || result.Supersedes == nil || *result.Supersedes == 0 {
		r.t.Errorf("%s: run %d supersedes %v, output %s", k.name, result.Run, result.Supersedes, result.Output)
	}
	if result.Usage.Calls != 1 || len(result.History) < 6 {
		r.t.Errorf("%s: %d calls in run 2, %d events", k.name, result.Usage.Calls, len(result.History))
	}
	r.replay(r.t, id, "")
	if p := r.refused(r.t, id, 1); p.Code != fate.NotReplayable {
		r.t.Errorf("%s: a second replay: %+v", k.name, p)
	}
	if n := len(r.heard.of(id)); n != 2 {
		r.t.Errorf("%s: %d results were seen, want run 1 and run 2", k.name, n)
	}
}

func TestASucceededJobIsNotReplayed(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	id := r.ask(job.Interactive, "toy", "fine")
	check(t, "first", r.result(id, 1), succeeded("strict"))
	r.replay(t, id, "")
	if p := r.refused(t, id, 1); p.Code != fate.NotReplayable {
		t.Errorf("refused with %+v", p)
	}
	r.replay(t, "nobody", "")
	if p := r.refused(t, "nobody", 1); p.Code != fate.NotFound {
		t.Errorf("unknown id: %+v", p)
	}
	if n := r.first.Counts().Calls; n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestAReplayTakesAnotherModelOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	r.first.SetFaults(fakellm.Fault{Kind: "400"})
	id := r.ask(job.Interactive, "bare", "on the other one")
	if result := r.result(id, 1); result.Status != job.Failed {
		t.Fatalf("ended as %s", result.Status)
	}
	for n, body := range []string{`{"model":"nosuch"}`, `{"modle":"large"}`, `{"task_version":"00000000"}`} {
		r.replay(t, id, body)
		if p := r.refused(t, id, n+1); p.Code != fate.InvalidRequest {
			t.Errorf("%s: %+v", body, p)
		}
	}
	r.replay(t, id, `{"model":"large"}`)
	check(t, "large", r.result(id, 2), ending{status: job.Succeeded, source: job.FromModel, model: "large"})
}

func TestACancelledRequestEndsOnceAndIsNotCalledFor(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.first.SetFaults(fakellm.Fault{Kind: "hang_headers", Match: "slow"})
	r.runAllBut(broker.ContextBuilder)
	queued := r.publish(job.Interactive, "toy", "", withDeadline("queued", "20s"))
	r.cancelled(t, queued)
	r.run(broker.ContextBuilder)
	calling := r.publish(job.Interactive, "toy", "", withDeadline("slow", "20s"))
	brokertest.Eventually(t, 10*time.Second, "the call is under way", func() bool { return r.first.Counts().InFlight == 1 })
	r.cancelled(t, calling)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	if err := r.first.Await(ctx, func(c fakellm.Counts) bool { return c.Disconnects == 1 }); err != nil {
		t.Errorf("the provider saw no disconnect: %v", err)
	}
	r.emptied(15 * time.Second)
	if n := r.first.Counts().Calls; n != 1 {
		t.Errorf("%d calls, want the one that was cut", n)
	}
	done := r.ask(job.Interactive, "toy", "done")
	check(t, "done", r.result(done, 1), succeeded("strict"))
	receipt, err := r.client.Cancel(t.Context(), done)
	if err != nil || receipt.Status != string(job.Succeeded) {
		t.Errorf("cancel after the end: %+v, %v", receipt, err)
	}
	receipt, err = r.client.Cancel(t.Context(), "nobody")
	if err != nil || receipt.Error == nil || receipt.Error.Code != fate.NotFound {
		t.Errorf("cancel of nobody: %+v, %v", receipt, err)
	}
	for _, id := range []string{queued, calling, done} {
		if n := len(r.heard.of(id)); n != 1 {
			t.Errorf("%d results of %s were seen", n, id)
		}
	}
}

func (r *rig) cancelled(t *testing.T, id string) {
	t.Helper()
	var receipt *job.Receipt
	brokertest.Eventually(t, 10*time.Second, "the cancellation is taken up", func() bool {
		var err error
		receipt, err = r.client.Cancel(t.Context(), id)
		return err == nil && receipt.Error == nil
	})
	if receipt.Status != "cancelling" && receipt.Status != string(job.Cancelled) {
		t.Errorf("cancel: %+v", receipt)
	}
	if result := r.result(id, 1); result.Status != job.Cancelled {
		t.Errorf("%s ended as %s", id, result.Status)
	}
}

func TestAReplayUnderWayIsNotOvertakenByAnother(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	r.first.SetFaults(fakellm.Fault{Kind: "400"})
	id := r.ask(job.Interactive, "bare", "slowly")
	if result := r.result(id, 1); result.Status != job.Failed {
		t.Fatalf("ended as %s", result.Status)
	}
	r.first.SetFaults()
	r.first.SetLatency(fakellm.Latency{FirstToken: 700 * time.Millisecond})
	r.replay(t, id, "")
	brokertest.Eventually(t, 5*time.Second, "run 2 is calling", func() bool { return r.first.Counts().InFlight == 1 })
	r.replay(t, id, "")
	if p := r.refused(t, id, 1); p.Code != fate.ReplayInFlight {
		t.Errorf("refused with %+v", p)
	}
	check(t, "run 2", r.result(id, 2), succeeded("strict"))
	r.emptied(10 * time.Second)
	if n := len(r.heard.of(id)); n != 2 {
		t.Errorf("%d results were seen", n)
	}
}

func TestACancelThatCameTooLateDoesNotTouchALaterRun(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.run()
	r.first.SetFaults(fakellm.Fault{Kind: "400"})
	id := r.ask(job.Interactive, "bare", "again")
	if result := r.result(id, 1); result.Status != job.Failed {
		t.Fatalf("ended as %s", result.Status)
	}
	// As a cancellation leaves it that lost against the run's own result.
	if err := r.conn.Cancel(t.Context(), id, 1); err != nil {
		t.Fatal(err)
	}
	r.first.SetFaults()
	r.replay(t, id, "")
	check(t, "run 2", r.result(id, 2), succeeded("strict"))
}

func TestACrashLeavesItsStackInTheDeadLetterAndTheLadderAnswers(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	for i, d := range r.defs {
		if d.Name == broker.Validator {
			r.defs[i].New = func(*stage.Env) (stage.Handler, error) { return panics{}, nil }
		}
	}
	r.run()
	id := r.ask(job.Interactive, "toy", "boom")
	result := r.result(id, 1)
	check(t, "crashed", result, byCanned)
	if result.Degraded.Reason != fate.Crashed {
		t.Errorf("degraded because of %s", result.Degraded.Reason)
	}
	letter, _, err := r.conn.Dead(t.Context(), id)
	if err != nil || !letter.Degraded || !strings.Contains(letter.Stack, "replay_test.go") || letter.Job == nil {
		t.Errorf("letter %+v, %v", letter, err)
	}
}

type panics struct{}

func (panics) Handle(context.Context, *job.Job) error { panic("on purpose") }

func TestARequestThatKillsIngestAgainAndAgainIsAnsweredUnderItsOwnID(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	r.publish(job.Interactive, "toy", "", []byte(`{"id":"mine","input":{"text":"poison"}}`))
	consumer, err := r.conn.JS.Consumer(t.Context(), broker.RequestsStream, broker.Ingest)
	if err != nil {
		t.Fatal(err)
	}
	for range 16 { // as many processes took it and died
		m, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Nak(); err != nil {
			t.Fatal(err)
		}
	}
	r.run()
	result := r.result("mine", 1)
	check(t, "poison", result, byCanned)
	if result.Degraded.Reason != fate.TooManyDeliveries || r.first.Counts().Calls != 0 {
		t.Errorf("degraded %+v, %d calls", result.Degraded, r.first.Counts().Calls)
	}
	r.replay(t, "mine", "")
	check(t, "replayed", r.result("mine", 2), succeeded("strict"))
}
