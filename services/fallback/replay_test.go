package fallback

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/bundle"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// bench is a fallback on a real server, without a runner: orders are handed to it one by one.
type bench struct {
	t       *testing.T
	conn    *broker.Conn
	handler stage.Handler
}

func setup(t *testing.T) *bench {
	t.Helper()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, stage.Topology([]stage.Definition{Definition()}, broker.DefaultSizing()))
	h, err := newFallback(&stage.Env{Conn: conn, Log: zerolog.Nop(), Tasks: &task.Set{
		Tasks: map[string]*task.Task{
			"toy":  {Name: "toy", Model: "small", Version: "00000000", Canned: []task.Canned{{Output: []byte(`1`)}}},
			"talk": {Name: "talk", Model: "small", Version: "00000000", Context: task.Context{Session: task.SessionOptional}},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, conn: conn, handler: h}
}

// dead keeps a dead letter of a run.
func (b *bench) dead(id string, run int, changes ...func(*job.Job)) uint64 {
	b.t.Helper()
	now := time.Now().UTC()
	j := &job.Job{
		V: 1, ID: id, Task: "toy", Lane: job.Interactive, Run: run, AcknowledgedAt: now, Deadline: now.Add(time.Minute), Input: json.RawMessage(`{"n":1}`),
	}
	for _, change := range changes {
		change(j)
	}
	body, err := json.Marshal(job.Letter{V: 1, Stage: broker.Inference, Code: fate.ProviderTimeout, Job: j})
	if err != nil {
		b.t.Fatal(err)
	}
	ack, err := b.conn.Publish(b.t.Context(), &nats.Msg{Subject: broker.DeadSubject(broker.Inference, j.Task, id), Data: body})
	if err != nil {
		b.t.Fatal(err)
	}
	return ack.Sequence
}

// order hands a replay order of a sequence to the stage.
func (b *bench) order(id string, sequence uint64) (*job.Job, error) {
	b.t.Helper()
	return b.orderWith(id, sequence, "")
}

func TestAnOrderThatIsDeliveredAgainGoesOnUntilItsRunIsHandedOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	letter := b.dead("a", 1)
	for range 2 { // the second time as after a crash between marker and hand-over
		j, err := b.order("a", 7)
		if err != nil || j.Run != 2 || j.To != broker.ContextBuilder || j.ForgetDead != letter || string(j.Input) != `{"n":1}` {
			t.Fatalf("%+v, %v", j, err)
		}
	}
	if _, err := b.order("a", 8); !errors.Is(err, &fate.Error{Fate: fate.Elsewhere}) {
		t.Errorf("another order while run 2 is under way: %v", err)
	}
}

func TestAnOrderThatIsDeliveredAgainSparesTheDeadLetterOfItsOwnRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.dead("a", 1)
	if _, err := b.order("a", 7); err != nil {
		t.Fatal(err)
	}
	if err := b.conn.Delete(t.Context(), broker.DeadStream, first); err != nil { // as the runner does
		t.Fatal(err)
	}
	if j, err := b.order("a", 7); !errors.Is(err, &fate.Error{Fate: fate.Elsewhere}) || j.ForgetDead != 0 {
		t.Errorf("again, run 2 under way: %v", err)
	}
	b.dead("a", 2)
	if j, err := b.order("a", 7); !errors.Is(err, &fate.Error{Fate: fate.Elsewhere}) || j.ForgetDead != 0 {
		t.Errorf("again, run 2 dead: forgets %d, %v", j.ForgetDead, err)
	}
	if j, err := b.order("a", 9); err != nil || j.Run != 3 {
		t.Errorf("a new order: run %d, %v", j.Run, err)
	}
}

func TestALetterThatCannotBeReadIsRefusedNotRetried(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.conn.Publish(t.Context(), &nats.Msg{Subject: broker.DeadSubject(broker.Inference, "toy", "a"), Data: []byte(`{"v":[]}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.order("a", 1); !errors.Is(err, &fate.Error{Fate: fate.Elsewhere}) {
		t.Errorf("%v", err)
	}
}

// A version may have other canned answers, and finds other cached ones.
func TestARunUnderAnotherVersionTakesThatVersionsStandIns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.dead("a", 1)
	old := &job.Marker{V: 1, ID: "a", Task: "toy", TaskVersion: "ffffffff", Run: 1, CacheKey: "old", Canned: 7, RequestSeq: 41}
	if _, err := b.conn.Admit(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	j, err := b.order("a", 7)
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := b.conn.Marker(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	want := (&task.Task{Name: "toy"}).CacheKey("", []byte(`{"n":1}`), "")
	if m.Run != 2 || m.Canned != 1 || m.CacheKey != want || m.TaskVersion != "00000000" {
		t.Errorf("marker %+v, want canned 1 and key %s", m, want)
	}
	if j.CacheKey != want || j.TaskVersion != "00000000" || j.RequestSeq != 41 {
		t.Errorf("job %+v", j)
	}
}

func TestARunOfASessionKeepsItsPlaceAndHasNoKeyYet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.dead("a", 1, func(j *job.Job) { j.Task, j.Session, j.RequestSeq, j.CacheKey = "talk", "s", 41, "old" })
	j, err := b.order("a", 7) // its marker has expired
	if err != nil || j.Run != 2 || j.Session != "s" || j.RequestSeq != 41 || j.CacheKey != "" {
		t.Errorf("job %+v, %v", j, err)
	}
	m, _, err := b.conn.Marker(t.Context(), "a")
	if err != nil || m.RequestStream != "LLM_REQUESTS" || m.RequestSeq != 41 || m.CacheKey != "" {
		t.Errorf("marker %+v, %v", m, err)
	}
}

// spoken is the task toy on a model of its own, with a canned answer that says the same.
func spoken(t *testing.T, model string) *task.Set {
	t.Helper()
	set, err := task.Load(fstest.MapFS{
		"models.yaml": {Data: []byte("providers:\n  one: {kind: openai, base_url: \"http://127.0.0.1:1/v1\", api_key: none}\nmodels:\n  " + model +
			": {provider: one, id: x, context_window: 16000, prices: {input: 1, output: 2}}\n")},
		"tasks/toy/task.yaml":   {Data: []byte("model: " + model + "\noutput: {format: text}\nladder: [{rung: canned}]\n")},
		"tasks/toy/prompt.tmpl": {Data: []byte(`{{define "user"}}{{.Input.n}}{{end}}`)},
		"tasks/toy/canned.yaml": {Data: []byte("- output: " + model + "\n")},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// evolve pushes both sets, one after the other, and lets the stage have the second one, and fetch.
func (b *bench) evolve(first, second *task.Set) {
	b.t.Helper()
	store := bundle.NewStore(b.conn)
	for _, set := range []*task.Set{first, second} {
		if _, live, err := store.Push(b.t.Context(), bundle.Push{Bundle: bundle.Of(set.Tasks["toy"]), By: "test", How: bundle.HowPush}); err != nil || !live {
			b.t.Fatalf("live %v, %v", live, err)
		}
	}
	f := b.handler.(*fallback)
	f.tasks.SetLive(second, nil)
	f.tasks.SetFetch(func(ctx context.Context, name, version string) (*task.Task, error) {
		got, err := store.Get(ctx, name, version)
		if err != nil {
			return nil, err
		}
		return got.Load(second)
	})
}

func TestAReplayTakesTheLiveVersionOrTheOneThatItNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := spoken(t, "former"), spoken(t, "latter")
	b.evolve(first, second)
	v1, v2 := first.Tasks["toy"].Version, second.Tasks["toy"].Version
	for n, row := range []struct{ order, version, model string }{
		{"", v2, "latter"},
		{`{"task_version":"` + v2 + `"}`, v2, "latter"},
		{`{"task_version":"` + v1 + `"}`, v1, "former"},
		{`{"task_version":"` + v1 + `","model":"former"}`, v1, "former"}, // that this process's own models.yaml does not have
		{`{"task_version":"` + v1 + `","model":"latter"}`, v1, "latter"},
	} {
		id := string(rune('a' + n))
		b.dead(id, 1, func(j *job.Job) { j.TaskVersion = "ffffffff" })
		for range 2 { // the second time as after a crash between marker and hand-over
			j, err := b.orderWith(id, 7, row.order)
			if err != nil || j.TaskVersion != row.version || j.Model != row.model {
				t.Fatalf("%s: version %s on %s, %v", row.order, j.TaskVersion, j.Model, err)
			}
			want, _ := map[string]*task.Set{v1: first, v2: second}[row.version].Tasks["toy"].StandIns("", "", map[string]any{"n": json.Number("1")})
			if j.CacheKey != want || want == "" {
				t.Errorf("%s: key %s, want %s", row.order, j.CacheKey, want)
			}
		}
		stored, err := b.conn.Last(t.Context(), "LLM_ADMITTED", "llm.admitted."+id)
		if err != nil || stored.Header.Get("Spillway-Task-Version") != row.version || stored.Header.Get("Spillway-Task") != "toy" {
			t.Errorf("%s: marker of %v, %v", row.order, stored.Header, err)
		}
	}
}

func TestAnOrderThatWasTakenGoesOnUnderItsVersionThoughTheTaskChangesMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := spoken(t, "former"), spoken(t, "latter")
	b.evolve(second, first) // first is live
	b.dead("a", 1)
	if _, err := b.order("a", 7); err != nil {
		t.Fatal(err)
	}
	b.handler.(*fallback).tasks.SetLive(second, nil)
	j, err := b.order("a", 7)
	if err != nil || j.TaskVersion != first.Tasks["toy"].Version || j.Model != "former" {
		t.Errorf("version %s on %s, %v", j.TaskVersion, j.Model, err)
	}
}

func TestAReplayUnderAVersionThatIsNotStoredIsRefusedNamingThoseThatAre(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := spoken(t, "former"), spoken(t, "latter")
	b.evolve(first, second)
	told := b.listen("a")
	b.dead("a", 1)
	// Stored, but not known any more: it is about to be collected.
	forgotten := spoken(t, "forgotten").Tasks["toy"]
	if err := bundle.NewStore(b.conn).Put(t.Context(), bundle.Of(forgotten)); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"00000000", forgotten.Version} {
		if _, err := b.orderWith("a", 7, `{"task_version":"`+version+`"}`); !errors.Is(err, &fate.Error{Fate: fate.Elsewhere}) {
			t.Errorf("%s: %v", version, err)
		}
		var p stage.Progress
		m, err := told.NextMsg(5 * time.Second)
		if err == nil {
			err = json.Unmarshal(m.Data, &p)
		}
		names := second.Tasks["toy"].Version + ", " + first.Tasks["toy"].Version
		if err != nil || p.Code != fate.InvalidRequest || !strings.Contains(p.Message, version) || !strings.HasSuffix(p.Message, names) {
			t.Errorf("%s: told %+v, %v; stored are %s", version, p, err, names)
		}
	}
}

// listen hears what is said of an id.
func (b *bench) listen(id string) *nats.Subscription {
	b.t.Helper()
	sub, err := b.conn.NC.SubscribeSync("llm.progress.*." + id)
	if err != nil {
		b.t.Fatal(err)
	}
	return sub
}

// orderWith is order with a body.
func (b *bench) orderWith(id string, sequence uint64, body string) (*job.Job, error) {
	b.t.Helper()
	j, err := decodeReplay([]byte(body), job.Arrival{Subject: broker.ReplaySubject(id), Sequence: sequence, At: time.Now(), Deliveries: 1})
	if err != nil {
		b.t.Fatal(err)
	}
	return j, b.handler.Handle(b.t.Context(), j)
}
