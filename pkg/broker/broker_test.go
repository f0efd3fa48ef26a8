package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func topology() broker.Topology {
	return broker.NewTopology([]string{"one"}, []broker.Source{
		{Stage: "one", Stream: broker.StageStream("one"), Subject: broker.StageSubject("one", job.Interactive), Consumer: "one"},
	}, broker.DefaultSizing())
}

func TestTheStreamsAreMadeOnceAndMadeAgainWithoutHarm(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	missing, err := c.Check(t.Context(), topology())
	if err != nil || len(missing) != 18 {
		t.Fatalf("missing %v, %v", missing, err)
	}
	brokertest.Ensure(t, c, topology())
	if _, err := c.JS.Publish(t.Context(), broker.StageSubject("one", job.Interactive), []byte("kept")); err != nil {
		t.Fatal(err)
	}
	brokertest.Ensure(t, c, topology())
	if missing, err := c.Check(t.Context(), topology()); err != nil || len(missing) != 0 {
		t.Fatalf("missing %v, %v", missing, err)
	}
	if stored, err := c.Last(t.Context(), broker.StageStream("one"), broker.StageSubject("one", job.Interactive)); err != nil || string(stored.Data) != "kept" {
		t.Fatalf("the message is gone: %v", err)
	}
}

func TestOneOfManyWhoTakeAMarkerHoldsIt(t *testing.T) {
	t.Parallel()
	for name, url := range servers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := brokertest.Connect(t, url)
			sizing := broker.DefaultSizing()
			if name == "R3" {
				sizing.Replicas = 3
			}
			brokertest.Ensure(t, c, broker.NewTopology(nil, nil, sizing))
			var mu sync.Mutex
			holders := map[uint64]int{}
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					held, err := c.Admit(t.Context(), &job.Marker{ID: "a", RequestSeq: uint64(i + 1), Run: 1})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					holders[held.RequestSeq]++
				})
			}
			all.Wait()
			if len(holders) != 1 {
				t.Errorf("holders %v", holders)
			}
		})
	}
}

func servers(t *testing.T) map[string]string {
	return map[string]string{"R1": brokertest.Server(t).URL(), "R3": brokertest.Cluster(t)[1].URL()}
}

func TestWhatIsWrittenIsStoredAndToldUnderTheResultSubjectOnce(t *testing.T) {
	t.Parallel()
	for name, url := range servers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := brokertest.Connect(t, url)
			sizing := broker.DefaultSizing()
			if name == "R3" {
				sizing.Replicas = 3
			}
			brokertest.Ensure(t, c, broker.NewTopology(nil, nil, sizing))
			told := make(chan *nats.Msg, 8)
			if _, err := c.NC.ChanSubscribe("llm.result.>", told); err != nil {
				t.Fatal(err)
			}
			if err := c.NC.Flush(); err != nil {
				t.Fatal(err)
			}
			write := func(body string, run int, last uint64) (uint64, error) {
				return c.PublishExpecting(t.Context(), &nats.Msg{
					Subject: broker.WriteSubject("toy", "a"), Data: []byte(body), Header: nats.Header{broker.RunHeader: {fmt.Sprint(run)}},
				}, last)
			}
			first, err := write(`{"run":1}`, 1, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := write(`{"late":1}`, 1, 0); !errors.Is(err, broker.ErrConflict) {
				t.Errorf("a second first write: %v", err)
			}
			if _, err := write(`{"run":2}`, 2, first); err != nil {
				t.Errorf("run 2: %v", err)
			}
			if _, err := write(`{"stale":2}`, 2, first); !errors.Is(err, broker.ErrConflict) {
				t.Errorf("a stale second run: %v", err)
			}
			if run, err := c.ResultRun(t.Context(), "toy", "a"); err != nil || run != 2 {
				t.Errorf("run %d, %v", run, err)
			}
			for _, want := range []string{`{"run":1}`, `{"run":2}`} {
				select {
				case m := <-told:
					if string(m.Data) != want || m.Subject != "llm.result.toy.a" {
						t.Errorf("told %s on %s", m.Data, m.Subject)
					}
				case <-time.After(5 * time.Second):
					t.Fatal("not told")
				}
			}
			if len(told) != 0 {
				t.Errorf("told %s as well", (<-told).Data)
			}
		})
	}
}

func TestAFullStreamAndALargeMessageAreToldApart(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	_, err := c.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small"}, MaxMsgs: 1, Discard: jetstream.DiscardNew})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(size int) error {
		_, err := c.Publish(t.Context(), &nats.Msg{Subject: "small", Data: make([]byte, size)})
		return err
	}
	if err := publish(1); err != nil {
		t.Fatal(err)
	}
	if err := publish(1); !errors.Is(err, broker.ErrFull) {
		t.Errorf("full: %v", err)
	}
	if err := publish(embedded.MaxPayload + 1); !errors.Is(err, broker.ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.Publish(ctx, &nats.Msg{Subject: "nobody"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no stream: %v", err)
	}
	if _, err := c.Last(t.Context(), "SMALL", "other"); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("nothing stored: %v", err)
	}
}

func TestACancellationIsHeardByAllAndByThoseWhoComeLater(t *testing.T) {
	t.Parallel()
	url := brokertest.Server(t).URL()
	c := brokertest.Connect(t, url)
	brokertest.Ensure(t, c, broker.NewTopology(nil, nil, broker.DefaultSizing()))
	early := brokertest.Connect(t, url)
	if err := early.WatchCancels(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{})
	early.OnCancel("a", 1, func() { close(heard) })
	early.OnCancel("a", 1, func() { t.Error("called after stop") })()
	for range 2 {
		if err := c.Cancel(t.Context(), "a", 1); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-heard:
	case <-time.After(5 * time.Second):
		t.Fatal("not heard")
	}
	late := brokertest.Connect(t, url)
	if err := late.WatchCancels(t.Context()); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 5*time.Second, "the late one knows", func() bool { return late.Cancelled("a", 1) && !late.Cancelled("a", 2) && !late.Cancelled("b", 1) })
}

func TestDraftsAndContextsAreKeptInMemoryForAWhileAndNotAcknowledged(t *testing.T) {
	t.Parallel()
	found := 0
	for _, c := range topology().Streams {
		if c.Name != broker.DeltasStream && c.Name != broker.ContextsStream {
			continue
		}
		found++
		if c.Storage != jetstream.MemoryStorage || !c.NoAck || c.MaxBytes <= 0 || c.MaxAge <= 0 || c.MaxAge > time.Hour || c.Discard != jetstream.DiscardOld {
			t.Errorf("%+v", c)
		}
	}
	if found != 2 {
		t.Errorf("%d streams of both", found)
	}
}
