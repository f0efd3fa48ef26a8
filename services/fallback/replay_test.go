package fallback

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
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
	j, err := decodeReplay(nil, job.Arrival{Subject: broker.ReplaySubject(id), Sequence: sequence, At: time.Now(), Deliveries: 1})
	if err != nil {
		b.t.Fatal(err)
	}
	return j, b.handler.Handle(b.t.Context(), j)
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
