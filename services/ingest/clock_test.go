package ingest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/task"
)

// What JetStream wrote on the request is what the marker is compared with.
func TestADeadlineCountsFromJetStreamsTimeWhateverTheDoorsClockSays(t *testing.T) {
	t.Parallel()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, broker.NewTopology(nil, nil, broker.Sizing{}))
	toy := &task.Task{Name: "toy", Lane: "interactive"}
	toy.Deadline.Default, toy.Deadline.Max = time.Minute, time.Minute
	for name, off := range map[string]time.Duration{"slow": -5 * time.Minute, "fast": time.Hour, "right": 0} {
		var log bytes.Buffer
		d := NewDesk(conn, task.NewBook(&task.Set{Tasks: map[string]*task.Task{"toy": toy}}), zerolog.New(&log))
		d.clock.now = func() time.Time { return time.Now().Add(off) }
		receipt, m := d.Submit(t.Context(), Submission{Task: "toy", Body: []byte(`{"input":{"text":"` + name + `"}}`)})
		if receipt.Error != nil {
			t.Fatalf("%s: %+v", name, receipt.Error)
		}
		request, err := conn.Last(t.Context(), "LLM_REQUESTS", "llm.request.toy")
		if err != nil || request.Sequence != m.RequestSeq {
			t.Fatalf("%s: %v, %+v", name, err, request)
		}
		if by := m.Deadline.Sub(request.At.Add(time.Minute)); by.Abs() > 10*time.Second {
			t.Errorf("%s: the deadline is off by %s", name, by)
		}
		if warned := strings.Contains(log.String(), "NTP"); warned != (off != 0) {
			t.Errorf("%s: %s", name, log.String())
		}
	}
}

func TestTheClocksAreComparedEveryMinuteAndByTheMiddleOfTheRoundTrip(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at, trip, theirs, asked := start, 20*time.Millisecond, 3*time.Second, 0
	var failed error
	c := &clock{now: func() time.Time { return at }, log: zerolog.Nop(), ask: func(context.Context) (time.Time, error) {
		asked++
		at = at.Add(trip)
		return at.Add(-trip / 2).Add(theirs), failed
	}}
	for i, row := range []struct {
		later  time.Duration
		theirs time.Duration
		err    error
		asked  int
		want   time.Duration
	}{
		{0, 3 * time.Second, nil, 1, 3 * time.Second},
		{59 * time.Second, 9 * time.Second, nil, 1, 3 * time.Second},
		{time.Second, -2 * time.Second, nil, 2, -2 * time.Second},
		{time.Minute, 0, errors.New("away"), 3, -2 * time.Second},
		{4 * time.Second, 0, nil, 3, -2 * time.Second},
		{time.Second, 9 * time.Millisecond, nil, 4, 0}, // less than can be told
	} {
		at, theirs, failed = at.Add(row.later), row.theirs, row.err
		began := at
		if got := c.read(t.Context()).Sub(began); got != row.want || asked != row.asked {
			t.Errorf("%d: %s after %d questions, want %s after %d", i, got, asked, row.want, row.asked)
		}
	}
}
