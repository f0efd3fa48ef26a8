package admission_test

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/admission"
	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/services/fallback"
)

// lanes are the gates of one process, over a pipeline that has fallback's streams and one inbox.
func lanes(t *testing.T, l stage.Limits) (conn *broker.Conn, interactive, batch stage.Gate) {
	t.Helper()
	conn = brokertest.Connect(t, brokertest.Server(t).URL())
	defs := []stage.Definition{{Name: "one"}, fallback.Definition()}
	brokertest.Ensure(t, conn, stage.Topology(defs, broker.DefaultSizing()))
	env := &stage.Env{
		Conn: conn, Log: zerolog.Nop(), Limits: l,
		Inboxes: []string{broker.StageStream("one"), broker.StageStream(broker.Fallback)},
	}
	a := &admission.Admission{}
	interactive, batch = a.Gate(job.Interactive)(env), a.Gate(job.Batch)(env)
	brokertest.Eventually(t, 5*time.Second, "the first count", func() bool {
		n := interactive.Open(1, 0)
		interactive.Returned(n)
		return n == 1
	})
	return conn, interactive, batch
}

func fill(t *testing.T, conn *broker.Conn, subject string, n int) {
	t.Helper()
	for range n {
		if _, err := conn.JS.Publish(t.Context(), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// A refresh so long that only the first count is seen.
const once = time.Hour

func TestBatchIsHeldBackEarlierThanInteractiveAndNeverStopsBelowBothLimits(t *testing.T) {
	t.Parallel()
	_, interactive, batch := lanes(t, stage.Limits{Interactive: 100, Batch: 50, Bytes: 1 << 30, Refresh: once})
	if n := batch.Open(80, 0); n != 50 {
		t.Errorf("batch was granted %d of 80", n)
	}
	if n := interactive.Open(80, 0); n != 50 {
		t.Errorf("interactive was granted %d of 80 beside 50 of batch", n)
	}
	if n := batch.Open(80, 0); n != 1 {
		t.Errorf("batch was granted %d, want a trickle of 1", n)
	}
	if n := batch.Open(80, 0); n != 0 {
		t.Errorf("the trickle goes on: %d", n)
	}
	interactive.Returned(20)
	if n := interactive.Open(80, 0); n != 19 {
		t.Errorf("after 20 were returned interactive was granted %d", n)
	}
}

func TestWhatIsUnfinishedIsCountedAndOrdersToReplayAreNot(t *testing.T) {
	t.Parallel()
	conn, interactive, _ := lanes(t, stage.Limits{Interactive: 100, Batch: 50, Bytes: 1 << 30, Refresh: time.Millisecond})
	fill(t, conn, broker.StageSubject("one", job.Interactive), 30)
	fill(t, conn, broker.StageSubject(broker.Fallback, job.Interactive), 10)
	fill(t, conn, broker.ReplaySubject("a"), 25)
	brokertest.Eventually(t, 5*time.Second, "60 places are left", func() bool {
		n := interactive.Open(1000, 0)
		interactive.Returned(n)
		return n == 60
	})
}

func TestNothingIsLetInAboveTheBytes(t *testing.T) {
	t.Parallel()
	conn, interactive, batch := lanes(t, stage.Limits{Interactive: 100, Batch: 50, Bytes: 100, Refresh: time.Millisecond})
	fill(t, conn, broker.StageSubject("one", job.Interactive), 5)
	brokertest.Eventually(t, 5*time.Second, "the gates are shut", func() bool { return interactive.Open(1, 0)+batch.Open(1, 0) == 0 })
}

func TestBatchAloneLeavesInteractiveItsPlaces(t *testing.T) {
	t.Parallel()
	conn, interactive, batch := lanes(t, stage.Limits{Interactive: 100, Batch: 50, Bytes: 1 << 30, Refresh: time.Millisecond})
	let := 0
	for range 40 { // counts go by, nothing ends
		n := batch.Open(10, 0)
		fill(t, conn, broker.StageSubject("one", job.Interactive), n)
		let += n
		brokertest.Eventually(t, 5*time.Second, "they are counted", func() bool {
			free := interactive.Open(1000, 0)
			interactive.Returned(free)
			return free <= 100-let
		})
	}
	if let < 50 || let > 52 {
		t.Errorf("batch was let in %d times", let)
	}
	if n := interactive.Open(1000, 0); n < 48 {
		t.Errorf("interactive was granted %d", n)
	}
}
