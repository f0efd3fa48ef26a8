package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/stage"
	"spillway/services"
)

// pullPause is the time between two looks at a consumer that nobody seems to pull: a stage that just took a
// message asks again at once.
const pullPause = 300 * time.Millisecond

// brokerCheckCmd looks.
type brokerCheckCmd struct{ natsFlags }

// inbox is what a consumer of a stage has before it.
type inbox struct {
	stage, stream, consumer string
	messages                uint64
	oldest                  time.Duration
	pending                 uint64
	ackPending, waiting     int
	redelivered             int
}

func (i inbox) pulled() bool { return i.waiting > 0 || i.ackPending > 0 }

// Run prints what is missing and what waits.
func (c *brokerCheckCmd) Run(ctx context.Context, g *globals) error {
	conn, err := c.connect(g, "broker")
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	if lacksJetStream(ctx, conn) {
		return c.noJetStream()
	}
	topology := stage.Topology(services.Pipeline(), broker.DefaultSizing())
	missing, err := conn.Check(ctx, topology)
	if hasNoJetStream(err) {
		return c.noJetStream()
	}
	if err != nil {
		return err
	}
	inboxes, err := c.inboxes(ctx, conn, topology)
	if err != nil {
		return err
	}
	if err := c.show(g, inboxes, missing); err != nil {
		return quiet(err)
	}
	if len(missing) > 0 {
		return exit(exitFailed, "%d of what the pipeline needs is missing: run `spillway broker init`", len(missing))
	}
	return nil
}

// accountPatience bounds a question that a user who may not ask it gets no answer to.
const accountPatience = 2 * time.Second

// lacksJetStream reports whether the server says at once that it has no JetStream. What is looked for by name would be
// looked for as long as a cluster may take to come up.
func lacksJetStream(ctx context.Context, conn *broker.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, accountPatience)
	defer cancel()
	_, err := conn.JS.AccountInfo(ctx)
	return hasNoJetStream(err)
}

// inboxes reads the state of all that exist. A consumer that nobody seems to pull is looked at twice.
func (c *brokerCheckCmd) inboxes(ctx context.Context, conn *broker.Conn, topology broker.Topology) ([]inbox, error) {
	list, err := readInboxes(ctx, conn, topology)
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		if !i.pulled() {
			if err := sleep(ctx, pullPause); err != nil {
				return nil, err
			}
			return readInboxes(ctx, conn, topology)
		}
	}
	return list, nil
}

func readInboxes(ctx context.Context, conn *broker.Conn, topology broker.Topology) ([]inbox, error) {
	var list []inbox
	for _, k := range topology.Consumers {
		s, err := conn.JS.Stream(ctx, k.Stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at stream %s: %w", k.Stream, err)
		}
		consumer, err := s.Consumer(ctx, k.Config.Durable)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at consumer %s of %s: %w", k.Config.Durable, k.Stream, err)
		}
		state, info := s.CachedInfo().State, consumer.CachedInfo()
		one := inbox{
			stage: stageOf(k), stream: k.Stream, consumer: k.Config.Durable, messages: state.Msgs, pending: info.NumPending,
			ackPending: info.NumAckPending, waiting: info.NumWaiting, redelivered: info.NumRedelivered,
		}
		if state.Msgs > 0 {
			one.oldest = time.Since(state.FirstTime)
		}
		list = append(list, one)
	}
	return list, nil
}

// stageOf is the stage that pulls a consumer.
func stageOf(k broker.Consumer) string {
	return strings.TrimPrefix(k.Config.Description, "pulled by ")
}

func (c *brokerCheckCmd) show(g *globals, inboxes []inbox, missing []string) error {
	if g.cli.JSON {
		return c.showJSON(g, inboxes, missing)
	}
	if len(inboxes) > 0 {
		t := newTable(g.stdout, "stage", "stream", "consumer", "messages", "oldest", "pending", "unacknowledged", "pulls waiting")
		for _, i := range inboxes {
			oldest := "-"
			if i.messages > 0 {
				oldest = span(i.oldest)
			}
			t.row(i.stage, i.stream, i.consumer, i.messages, oldest, i.pending, i.ackPending, i.waiting)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	for _, m := range missing {
		if _, err := fmt.Fprintf(g.stdout, "missing: %s\n", m); err != nil {
			return err
		}
	}
	for _, i := range inboxes {
		if i.pulled() {
			continue
		}
		if _, err := fmt.Fprintf(g.stdout, "nobody pulls %s: %s\n", i.consumer, i.idleness()); err != nil {
			return err
		}
	}
	return nil
}

// idleness says what it means that nobody pulls.
func (i inbox) idleness() string {
	text := "no " + i.stage + " is running"
	if i.stage == broker.Ingest {
		text += ", or too many admitted jobs are unfinished and it holds back"
	}
	if i.pending > 0 {
		text += fmt.Sprintf("; waiting there: %s", count(int(i.pending), "message"))
	}
	return text
}

func (c *brokerCheckCmd) showJSON(g *globals, inboxes []inbox, missing []string) error {
	for _, i := range inboxes {
		err := g.printJSON(map[string]any{
			"stage": i.stage, "stream": i.stream, "consumer": i.consumer, "messages": i.messages, "oldest_ms": i.oldest.Milliseconds(),
			"pending": i.pending, "ack_pending": i.ackPending, "redelivered": i.redelivered, "pulls_waiting": i.waiting, "pulled": i.pulled(),
		})
		if err != nil {
			return err
		}
	}
	for _, m := range missing {
		if err := g.printJSON(map[string]any{"missing": m}); err != nil {
			return err
		}
	}
	return nil
}
