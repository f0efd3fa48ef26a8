package ingest

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

// admitting is ingest on a broker of its own, without what pulls for it.
type admitting struct {
	*ingest
	t    *testing.T
	conn *broker.Conn
}

func newAdmitting(t *testing.T) *admitting {
	t.Helper()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, broker.NewTopology(nil, nil, broker.Sizing{}))
	toy := &task.Task{Name: "toy", Version: "00000001", Model: "small", Lane: job.Interactive}
	toy.Deadline.Default, toy.Deadline.Max = time.Minute, time.Hour
	h, err := newIngest(&stage.Env{Conn: conn, Tasks: &task.Set{Tasks: map[string]*task.Task{"toy": toy}}, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return &admitting{ingest: h.(*ingest), t: t, conn: conn}
}

const toyRequest = `{"input":{"text":"x"},"metadata":{"a": [1]},"session":"s"}`

// stored publishes a request and returns it as it is delivered first, after so long.
func (a *admitting) stored(id string, age time.Duration, header nats.Header) *job.Job {
	a.t.Helper()
	ack, err := a.conn.JS.PublishMsg(a.t.Context(), &nats.Msg{Subject: "llm.request.toy", Data: []byte(toyRequest), Header: header})
	if err != nil {
		a.t.Fatal(err)
	}
	h := map[string]string{"Nats-Msg-Id": id}
	for name := range header {
		h[name] = header.Get(name)
	}
	j, err := decode([]byte(toyRequest), job.Arrival{
		Subject: "llm.request.toy", Header: h, Stream: ack.Stream, Sequence: ack.Sequence, At: time.Now().Add(-age), Deliveries: 1,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return j
}

// mark stores the marker of a request, to be answered by then.
func (a *admitting) mark(id string, j *job.Job, answerBy time.Duration) {
	a.t.Helper()
	now := time.Now().UTC()
	a.put("llm.admitted."+id, nil, &job.Marker{
		V: 1, ID: id, Task: "toy", TaskVersion: "00000001", Lane: "interactive", Run: 1, RequestStream: j.Arrival.Stream, RequestSeq: j.Arrival.Sequence,
		BodyHash: "of the desk", AcknowledgedAt: now, AnswerBy: now.Add(answerBy), Deadline: now.Add(time.Minute), CacheKey: "of the desk",
	})
}

func (a *admitting) put(subject string, h nats.Header, v any) {
	a.t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := a.conn.JS.PublishMsg(a.t.Context(), &nats.Msg{Subject: subject, Header: h, Data: body}); err != nil {
		a.t.Fatal(err)
	}
}

// isDone reports whether an error says that somebody else has done it.
func isDone(err error) bool {
	var e *fate.Error
	return errors.As(err, &e) && e.Fate == fate.Elsewhere
}

// Fallback answers what is late by its marker. Who is called afterwards would be paid for nothing.
func TestARequestThatIsLateIsHandedOnOnlyIfNobodyAnsweredIt(t *testing.T) {
	t.Parallel()
	a := newAdmitting(t)
	for name, row := range map[string]struct {
		answerBy time.Duration
		answered bool
		diverted bool
	}{
		"late, and answered":     {-time.Second, true, true},
		"late, and not answered": {-time.Second, false, false},
		"in time":                {time.Minute, false, false},
		"in time: nobody looks":  {time.Minute, true, false},
	} {
		id := "late-" + string(rune('a'+len(name)))
		j := a.stored(id, time.Second, nats.Header{"Spillway-Desk": {"1"}})
		a.mark(id, j, row.answerBy)
		if row.answered {
			a.put("llm.write.toy."+id, nats.Header{"Spillway-Run": {"1"}}, map[string]any{"v": 1, "id": id, "run": 1, "status": "degraded"})
		}
		err := a.Handle(t.Context(), j)
		if f, ok := errors.AsType[*fate.Error](err); row.diverted != (ok && f.Fate == fate.Divert && f.Code == fate.Deadline) || !row.diverted && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The marker of the desk is what counts, and one read finds it.
func TestARequestOfADeskIsAdmittedByTheMarkerThatTheDeskTook(t *testing.T) {
	t.Parallel()
	a := newAdmitting(t)
	written := func() uint64 {
		s, err := a.conn.JS.Stream(t.Context(), "LLM_ADMITTED")
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.LastSeq
	}
	marked := a.stored("marked", time.Second, nats.Header{"Spillway-Desk": {"1"}})
	a.mark("marked", marked, time.Minute)
	a.desk.clock.read(t.Context()) // asks once
	before := a.conn.NC.Stats().OutMsgs
	err := a.Handle(t.Context(), marked)
	if asked := a.conn.NC.Stats().OutMsgs - before; asked != 1 {
		t.Errorf("%d messages were sent for a marker that is there", asked)
	}
	if err != nil || marked.CacheKey != "of the desk" || marked.ID != "marked" || string(marked.Metadata) != `{"a": [1]}` {
		t.Errorf("%v %+v", err, marked)
	}
	// A desk that died before it took the marker, or is about to: ingest takes it.
	for id, age := range map[string]time.Duration{"forgotten": time.Second, "fresh": 0} {
		before := written()
		j := a.stored(id, age, nats.Header{"Spillway-Desk": {"1"}})
		if err := a.Handle(t.Context(), j); err != nil || j.CacheKey == "" || written() != before+1 {
			t.Errorf("%s: %v, %d markers more, %+v", id, err, written()-before, j)
		}
	}
	// Whoever says that he is a desk gets nothing by it: the id is another request's.
	for _, age := range []time.Duration{0, time.Second} {
		if err := a.Handle(t.Context(), a.stored("marked", age, nats.Header{"Spillway-Desk": {"1"}})); !isDone(err) {
			t.Errorf("a repeated id: %v", err)
		}
	}
}
