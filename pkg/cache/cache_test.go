package cache_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/cache"
	"spillway/pkg/expr"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/services"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func setup(t testing.TB) *broker.Conn {
	t.Helper()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, stage.Topology(services.Pipeline(), broker.DefaultSizing()))
	return conn
}

func toy() *task.Task {
	return &task.Task{
		Name: "toy", Model: "small", Version: "1", Correction: task.Correction{LastOn: "last"},
		Cache: task.Cache{Serve: task.ServeFallback, Keep: 3 * time.Hour},
	}
}

// answered is a job whose model answered an hour ago.
func answered(key string) *job.Job {
	return &job.Job{
		ID: "j", Task: "toy", TaskVersion: "1", Tenant: "acme", Run: 1, CacheKey: key,
		Outcome: &job.Outcome{Status: job.Succeeded, Source: job.FromModel, Model: "small", AnsweredBy: "s-1", Output: json.RawMessage(`{"a":1}`)},
		History: []job.Event{{Kind: job.KindCall, At: time.Now().Add(-time.Hour), TookMS: 1000}, {Kind: job.KindHop, At: time.Now()}},
	}
}

// kept reports whether the answer of j is found under its key.
func kept(t *testing.T, conn *broker.Conn, of *task.Task, j *job.Job) bool {
	t.Helper()
	if err := cache.Keep(t.Context(), conn, of, j); err != nil {
		t.Fatal(err)
	}
	select {
	case <-conn.JS.PublishAsyncComplete():
	case <-time.After(10 * time.Second):
		t.Fatal("the publisher does not come to rest")
	}
	_, err := conn.Last(t.Context(), broker.CacheStream, broker.CacheSubject(j.CacheKey))
	return err == nil
}

func TestOnlyTheTasksOwnWholeAnswersAreKept(t *testing.T) {
	t.Parallel()
	conn := setup(t)
	if !kept(t, conn, toy(), answered("k")) {
		t.Fatal("a good answer is not kept")
	}
	for name, spoil := range map[string]func(*task.Task, *job.Job){
		"degraded":                      func(_ *task.Task, j *job.Job) { j.Outcome.Status = job.Degraded },
		"failed":                        func(_ *task.Task, j *job.Job) { j.Outcome.Status = job.Failed },
		"cancelled":                     func(_ *task.Task, j *job.Job) { j.Outcome.Status = job.Cancelled },
		"from the cache":                func(_ *task.Task, j *job.Job) { j.Outcome.Source = job.FromCache },
		"canned":                        func(_ *task.Task, j *job.Job) { j.Outcome.Source = job.FromCanned },
		"of another model":              func(_ *task.Task, j *job.Job) { j.Outcome.Model = "large" },
		"of the corrector, uncorrected": func(_ *task.Task, j *job.Job) { j.Outcome.Model = "last" },
		"of two versions":               func(_ *task.Task, j *job.Job) { j.Mixed = true },
		"bypassing":                     func(_ *task.Task, j *job.Job) { j.CacheBypass = true },
		"of a task that serves none":    func(t *task.Task, _ *job.Job) { t.Cache.Serve = task.ServeNever },
		"of a task that keeps none":     func(t *task.Task, _ *job.Job) { t.Cache.Keep = 0 },
	} {
		of, j := toy(), answered("k-"+name[:3])
		spoil(of, j)
		if kept(t, conn, of, j) {
			t.Errorf("%s: kept", name)
		}
	}
	corrected := answered("c")
	corrected.Outcome.Model, corrected.Outcome.Recovery = "last", job.RecoveryCorrected
	if !kept(t, conn, toy(), corrected) {
		t.Error("an answer that the task's corrector mended is not kept")
	}
}

func TestAnAnswerIsServedToThoseItIsForAndSaysWhenTheModelMadeIt(t *testing.T) {
	t.Parallel()
	conn, of := setup(t), toy()
	if !kept(t, conn, of, answered("k")) {
		t.Fatal("not kept")
	}
	o, err := cache.Look(t.Context(), conn, of, answered("k"), 2*time.Hour)
	if err != nil || string(o.Output) != `{"a":1}` || o.Source != job.FromCache || o.Model != "small" || o.AnsweredBy != "s-1" || o.Status != "" {
		t.Fatalf("%+v, %v", o, err)
	}
	if age := time.Duration(*o.AgeMS) * time.Millisecond; age < 59*time.Minute || age > 61*time.Minute {
		t.Errorf("it is %s old: the model made it an hour ago, less a second", age)
	}
	for name, row := range map[string]struct {
		change func(*job.Job)
		maxAge time.Duration
		barred bool
		why    string
	}{
		"too old":   {func(*job.Job) {}, 30 * time.Minute, false, "the cached answer is 59m59s old, 30m0s is the most"},
		"nothing":   {func(j *job.Job) { j.CacheKey = "other" }, time.Hour, false, "nothing cached for this input"},
		"bypassing": {func(j *job.Job) { j.CacheBypass = true }, time.Hour, true, "the request bypasses the cache"},
		"no key":    {func(j *job.Job) { j.CacheKey = "" }, time.Hour, true, "the task's answers are not cached"},
	} {
		j := answered("k")
		row.change(j)
		_, err := cache.Look(t.Context(), conn, of, j, row.maxAge)
		miss, ok := errors.AsType[*cache.Miss](err)
		if !ok || miss.Barred != row.barred || miss.Why != row.why {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whoever writes what, a key is not enough: what is served says whose it is.
func TestAnEntryOfAnotherTaskOrTenantIsNotServedWhateverItsKey(t *testing.T) {
	t.Parallel()
	conn := setup(t)
	for name, body := range map[string]string{
		"tenant": `{"v":1,"task":"toy","tenant":"other","output":1,"at":"2026-01-01T00:00:00Z"}`,
		"task":   `{"v":1,"task":"else","tenant":"acme","output":1,"at":"2026-01-01T00:00:00Z"}`,
		"broken": `{"v":`,
		"absent": `{"v":1,"task":"toy","tenant":"acme","at":"2026-01-01T00:00:00Z"}`,
	} {
		if _, err := conn.Publish(t.Context(), &nats.Msg{Subject: broker.CacheSubject(name), Data: []byte(body)}); err != nil {
			t.Fatal(err)
		}
		patient := toy()
		patient.Cache.Keep = ages
		o, err := cache.Look(t.Context(), conn, patient, answered(name), ages)
		if _, isMiss := errors.AsType[*cache.Miss](err); err == nil || isMiss {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	everyone := toy()
	everyone.Cache.Scope, everyone.Cache.Keep = task.ScopeEveryone, ages
	if _, err := cache.Look(t.Context(), conn, everyone, answered("tenant"), ages); err != nil {
		t.Errorf("for everyone: %v", err)
	}
}

// ages is longer than anything is old.
const ages = 1e6 * time.Hour

func put(t *testing.T, conn *broker.Conn, key, body string) {
	t.Helper()
	if _, err := conn.Publish(t.Context(), &nats.Msg{Subject: broker.CacheSubject(key), Data: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

func TestAnEntryThatNoValidatorWouldPassIsNotServed(t *testing.T) {
	t.Parallel()
	conn, of := setup(t), toy()
	var err error
	if of.OutputSchema, err = schema.Compile([]byte(`{"type":"object","required":["a"]}`)); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	for name, body := range map[string]string{
		"off-schema":      `{"v":1,"task":"toy","tenant":"acme","output":{"b":1},"at":"` + now + `"}`,
		"null":            `{"v":1,"task":"toy","tenant":"acme","output":null,"at":"` + now + `"}`,
		"another-version": `{"v":2,"task":"toy","tenant":"acme","output":{"a":1},"at":"` + now + `"}`,
	} {
		put(t, conn, name, body)
		if o, err := cache.Look(t.Context(), conn, of, answered(name), ages); err == nil {
			t.Errorf("%s: %s", name, o.Output)
		}
	}
	put(t, conn, "good", `{"v":1,"task":"toy","tenant":"acme","output":{"a":1},"at":"`+now+`"}`)
	if _, err := cache.Look(t.Context(), conn, of, answered("good"), ages); err != nil {
		t.Error(err)
	}
}

// By cache.key two inputs may share an answer, of which the rules look at more.
func TestAnEntryThatBreaksARuleForThisInputIsNotServed(t *testing.T) {
	t.Parallel()
	conn, of := setup(t), toy()
	says, err := expr.Compile(`output.a <= input.most`)
	if err != nil {
		t.Fatal(err)
	}
	of.Output.Rules = []task.Rule{{Name: "most", Expr: says, Say: "a is at most the input's most"}}
	if !kept(t, conn, of, answered("k")) {
		t.Fatal("not kept")
	}
	for input, isServed := range map[string]bool{`{"most":1}`: true, `{"most":0}`: false, `{}`: false, "": true} {
		j := answered("k")
		j.Input = json.RawMessage(input)
		_, err := cache.Look(t.Context(), conn, of, j, 2*time.Hour)
		if _, isMiss := errors.AsType[*cache.Miss](err); isServed != (err == nil) || isMiss == isServed {
			t.Errorf("%s: %v", input, err)
		}
	}
}

// The machine that called the model may live in another time.
func TestAnEntryFromTheFutureIsAsOldAsTheBrokerSays(t *testing.T) {
	t.Parallel()
	conn, of := setup(t), toy()
	put(t, conn, "k", `{"v":1,"task":"toy","tenant":"acme","output":{"a":1},"at":"2099-01-01T00:00:00Z"}`)
	brokertest.Eventually(t, 5*time.Second, "it is older than allowed", func() bool {
		_, err := cache.Look(t.Context(), conn, of, answered("k"), 100*time.Millisecond)
		_, isMiss := errors.AsType[*cache.Miss](err)
		return isMiss
	})
}

func TestAnOlderAnswerDoesNotTakeThePlaceOfANewerOne(t *testing.T) {
	t.Parallel()
	conn, of := setup(t), toy()
	newer := answered("k")
	newer.History, newer.Outcome.Output = nil, json.RawMessage(`{"a":"new"}`)
	if !kept(t, conn, of, newer) || !kept(t, conn, of, answered("k")) {
		t.Fatal("not kept")
	}
	o, err := cache.Look(t.Context(), conn, of, answered("k"), time.Hour)
	if err != nil || string(o.Output) != `{"a":"new"}` {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestAnAnswerIsKeptFromWhenTheModelMadeIt(t *testing.T) {
	t.Parallel()
	conn, of := setup(t), toy()
	of.Cache.Keep = 30 * time.Minute // it was made an hour ago
	if kept(t, conn, of, answered("k")) {
		t.Error("an answer is kept that has expired")
	}
	of.Cache.Keep = 90 * time.Minute
	if !kept(t, conn, of, answered("k")) {
		t.Fatal("not kept")
	}
	stored, err := conn.Last(t.Context(), broker.CacheStream, broker.CacheSubject("k"))
	if err != nil {
		t.Fatal(err)
	}
	if ttl, _ := broker.TTLOf(stored.Header); ttl < 29*time.Minute || ttl > 31*time.Minute {
		t.Errorf("it expires after %s", ttl)
	}
}

// BenchmarkLook is what a cached answer costs in place of a call: one read from the leader of the stream.
func BenchmarkLook(b *testing.B) {
	conn, of := setup(b), toy()
	j := answered("k")
	j.Outcome.Output = json.RawMessage(`"` + string(make1500()) + `"`)
	if err := cache.Keep(b.Context(), conn, of, j); err != nil {
		b.Fatal(err)
	}
	<-conn.JS.PublishAsyncComplete()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cache.Look(b.Context(), conn, of, j, 2*time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}

// make1500 is a text of 1.5 KB.
func make1500() []byte {
	text := make([]byte, 1500)
	for i := range text {
		text[i] = 'x'
	}
	return text
}
