package broker_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// older makes the inbox of a stage as an earlier version had it: one subject, one consumer.
func older(t *testing.T, c *broker.Conn) {
	t.Helper()
	stream := broker.StageStream(broker.Validator)
	if _, err := c.JS.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: stream, Subjects: []string{"llm.stage.validator"}, Retention: jetstream.WorkQueuePolicy, MaxBytes: 1 << 20,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.JS.CreateConsumer(t.Context(), stream, jetstream.ConsumerConfig{
		Durable: broker.Validator, FilterSubject: "llm.stage.validator", AckPolicy: jetstream.AckExplicitPolicy,
	}); err != nil {
		t.Fatal(err)
	}
}

func today() broker.Topology {
	var sources []broker.Source
	for _, lane := range []string{job.Interactive, job.Batch} {
		sources = append(sources, broker.Source{
			Stage: broker.Validator, Stream: broker.StageStream(broker.Validator),
			Subject: broker.StageSubject(broker.Validator, lane), Consumer: broker.StageConsumer(broker.Validator, lane),
		})
	}
	return broker.NewTopology([]string{broker.Validator}, sources, broker.DefaultSizing())
}

func TestAStoreOfAnEarlierVersionIsTakenOverOnceItsInboxesAreEmpty(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	older(t, c)
	if _, err := c.JS.Publish(t.Context(), "llm.stage.validator", []byte("a job")); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), today()); err == nil || !strings.Contains(err.Error(), "1 jobs wait there for an earlier version") {
		t.Fatalf("with a job in the old inbox: %v", err)
	}
	old, err := c.JS.Consumer(t.Context(), broker.StageStream(broker.Validator), broker.Validator)
	if err != nil {
		t.Fatal(err)
	}
	m, err := old.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), today()); err != nil {
		t.Fatal(err)
	}
	s, err := c.JS.Stream(t.Context(), broker.StageStream(broker.Validator))
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	for _, lane := range []string{job.Interactive, job.Batch} {
		if !slices.Contains(config.Subjects, broker.StageSubject(broker.Validator, lane)) {
			t.Errorf("subjects %v", config.Subjects)
		}
	}
	if config.MaxBytes != 1<<20 {
		t.Errorf("the bound that its maker chose was changed to %d", config.MaxBytes)
	}
	if missing, err := c.Check(t.Context(), today()); err != nil || len(missing) != 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
}

func TestTheSubjectsOfAStreamAreThoseThatHoldSomething(t *testing.T) {
	t.Parallel()
	c := brokertest.Connect(t, brokertest.Server(t).URL())
	if got, err := c.SubjectsOf(t.Context(), broker.ParkedStream, broker.AllParked); err != nil || len(got) != 0 {
		t.Errorf("without the stream: %v, %v", got, err)
	}
	brokertest.Ensure(t, c, today())
	for _, subject := range []string{"llm.parked.batch.old", "llm.parked.interactive.old", "llm.parked.batch.new"} {
		if _, err := c.JS.Publish(t.Context(), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"llm.parked.batch.new", "llm.parked.batch.old", "llm.parked.interactive.old"}
	if got, err := c.SubjectsOf(t.Context(), broker.ParkedStream, broker.AllParked); err != nil || !slices.Equal(got, want) {
		t.Errorf("subjects %v, %v, want %v", got, err, want)
	}
}
