package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// tell publishes drafts as a process does, and returns once they are stored.
func tell(t *testing.T, c *broker.Conn, id string, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		body, err := json.Marshal(job.Draft{ID: id, Event: job.DraftPart, N: n})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.NC.Publish(broker.DeltaSubject("toy", id), body); err != nil {
			t.Fatal(err)
		}
	}
	brokertest.Eventually(t, 10*time.Second, "the last draft is stored", func() bool {
		stored, err := c.Last(t.Context(), broker.DeltasStream, broker.DeltaSubject("toy", id))
		var d job.Draft
		return err == nil && json.Unmarshal(stored.Data, &d) == nil && d.N == numbers[len(numbers)-1]
	})
}

var errEnough = errors.New("that is enough")

// follow returns the numbers of the drafts behind a sequence, until the number last came.
func follow(t *testing.T, c *broker.Conn, after uint64, last int, took func(broker.StoredDraft)) (numbers []int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := c.FollowDrafts(ctx, "toy", "mine", after, func(d broker.StoredDraft) error {
		numbers = append(numbers, d.Draft.N)
		if took != nil {
			took(d)
		}
		if d.Draft.N == last {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("following ended with %v after %v", err, numbers)
	}
	return numbers
}

func TestDraftsAreFollowedFromTheBeginningOrFromWhereOneWas(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, c, topology())
	tell(t, c, "mine", 1, 2)
	tell(t, c, "other", 7)
	tell(t, c, "mine", 3)
	var at []uint64
	var behind []uint64
	got := follow(t, c, 0, 4, func(d broker.StoredDraft) {
		at, behind = append(at, d.Sequence), append(behind, d.Behind)
		if d.Draft.N == 3 {
			tell(t, c, "mine", 4) // what comes while it is followed
		}
	})
	if !slices.Equal(got, []int{1, 2, 3, 4}) || !slices.Equal(at, []uint64{1, 2, 4, 5}) || !slices.Equal(behind, []uint64{2, 1, 0, 0}) {
		t.Errorf("drafts %v at %v, behind them %v", got, at, behind)
	}
	for after, want := range map[uint64][]int{2: {3, 4}, 3: {3, 4}, 4: {4}, 99: {1, 2, 3, 4}} {
		if got := follow(t, c, after, 4, nil); !slices.Equal(got, want) {
			t.Errorf("behind %d: %v, want %v", after, got, want)
		}
	}
}

func TestFollowingDraftsEndsWithItsContextAndLeavesNothing(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, c, topology())
	tell(t, c, "mine", 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	err := c.FollowDrafts(ctx, "toy", "mine", 0, func(broker.StoredDraft) error {
		cancel(errEnough)
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("it ended with %v", err)
	}
	brokertest.Eventually(t, 10*time.Second, "its consumer is gone", func() bool {
		stream, err := c.JS.Stream(t.Context(), broker.DeltasStream)
		return err == nil && stream.CachedInfo().State.Consumers == 0
	})
	if err := c.FollowDrafts(ctx, "toy", "mine", 0, nil); !errors.Is(err, errEnough) {
		t.Errorf("with a context that is over it ended with %v", err)
	}
}

// lines collects log lines.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// A server refuses each message anew; it is a fault of configuration, which is said once.
func TestRefusedDraftsAreCountedAndSaidOnce(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Port: -1, NoSigs: true, NoLog: true, Users: []*server.User{{
		Username: "u", Password: "p", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"llm.delta.>", "llm.other.*"}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server is not ready")
	}
	var log lines
	c, err := broker.Connect(broker.ConnectOptions{URL: "nats://u:p@" + s.Addr().String(), Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for range 50 {
		if err := c.NC.Publish(broker.DeltaSubject("toy", "x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := c.NC.Publish("llm.other.x", nil); err != nil {
			t.Fatal(err)
		}
	}
	brokertest.Eventually(t, 10*time.Second, "the server refused all", func() bool { return log.count("llm.other.x") == 2 })
	if c.RefusedDrafts() != 50 || log.count("llm.delta.toy.x") != 1 {
		t.Errorf("%d refusals were counted, %d were said", c.RefusedDrafts(), log.count("llm.delta.toy.x"))
	}
}

// A draft goes where nobody keeps it as well.
func TestWithoutItsStreamADraftIsHeardByWhoListens(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	heard, err := c.NC.SubscribeSync(broker.DeltaSubject("toy", "x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.NC.Publish(broker.DeltaSubject("toy", "x"), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := heard.NextMsg(10 * time.Second); err != nil {
		t.Error(err)
	}
	err = c.FollowDrafts(t.Context(), "toy", "x", 0, nil)
	if !errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, nats.ErrTimeout) {
		t.Errorf("following without the stream ends with %v", err)
	}
}
