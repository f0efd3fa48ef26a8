package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
)

// The relay's shape: an inbox for each of request, context-builder, inference, validator and result-writer,
// and the stream of results.
const (
	relayInboxes  = 5
	relayCallsAt  = 2
	relayConsumer = "relay"
	// relaySlots are as many as inference has; relayHeld bounds what they hold, in bytes: all inboxes share a
	// connection, and the server gives up one that does not take what it asked for.
	relaySlots   = 256
	relayHeld    = 24 << 20
	relayAckWait = 5 * time.Minute
	relayBytes   = 4 << 30
	relayWindow  = 30 * time.Second
)

// relay is a bare way of the pipeline's shape.
type relay struct {
	conn    *broker.Conn
	w       *workload
	pullers []*credit
	call    func(*nats.Msg) error // nil: none is made
	client  *http.Client
	failed  atomic.Int64
}

// relayStream names the stream of a hop, which is a subject at the same time; relayInboxes is the results'.
func relayStream(hop int) string { return "BENCH_RELAY_" + strconv.Itoa(hop) }

func relayTopology() broker.Topology {
	var t broker.Topology
	for hop := range relayInboxes + 1 {
		name := relayStream(hop)
		s := jetstream.StreamConfig{
			Name: name, Subjects: []string{name}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
			MaxBytes: relayBytes, Duplicates: relayWindow, Storage: jetstream.FileStorage,
		}
		if hop == relayInboxes {
			s.Retention, s.Discard = jetstream.LimitsPolicy, jetstream.DiscardOld
			t.Streams = append(t.Streams, s)
			continue
		}
		t.Streams = append(t.Streams, s)
		t.Consumers = append(t.Consumers, broker.Consumer{Stream: name, Config: jetstream.ConsumerConfig{
			Durable: relayConsumer, FilterSubject: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: relayAckWait,
			MaxDeliver: -1, MaxAckPending: 50_000,
		}})
	}
	return t
}

// startRelay makes the streams and relays until stop. provider is the URL to call; "": no call.
func startRelay(ctx context.Context, url, provider string, w *workload, o *Options) (*relay, error) {
	conn, err := broker.Connect(broker.ConnectOptions{URL: url, Name: "spillway/bench-relay", Log: o.Log})
	if err != nil {
		return nil, err
	}
	r := &relay{conn: conn, w: w}
	if provider != "" {
		r.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: maxIdle, DisableCompression: true}}
		r.call = func(m *nats.Msg) error { return r.ask(ctx, provider, m) }
	}
	if err := conn.Ensure(ctx, relayTopology()); err != nil {
		conn.Close()
		return nil, err
	}
	slots := min(relaySlots, max(relayHeld/w.size, 1))
	for hop := range relayInboxes {
		p, err := pullByCredit(conn, relayStream(hop), relayConsumer, slots, func(m *nats.Msg) { r.pass(ctx, hop, m) })
		if err != nil {
			r.stop()
			return nil, err
		}
		r.pullers = append(r.pullers, p)
	}
	return r, nil
}

// pass stores the message in the next inbox, and then acknowledges it.
func (r *relay) pass(ctx context.Context, hop int, m *nats.Msg) {
	id := m.Header.Get(broker.JobHeader)
	if hop == relayCallsAt && r.call != nil {
		if r.call(m) != nil {
			r.failed.Add(1)
			return // the round tells of the missing result
		}
	}
	next := &nats.Msg{Subject: relayStream(hop + 1), Data: m.Data, Header: nats.Header{
		broker.MsgIDHeader: {id + "." + strconv.Itoa(hop+1)}, broker.JobHeader: {id},
	}}
	future, err := r.conn.JS.PublishMsgAsync(next)
	if err != nil {
		r.failed.Add(1)
		return
	}
	select {
	case <-future.Ok():
		_ = r.conn.NC.Publish(m.Reply, []byte("+ACK")) // a lost one shows as a redelivery
	case <-future.Err():
		r.failed.Add(1)
	case <-ctx.Done():
	}
}

func (r *relay) ask(ctx context.Context, provider string, m *nats.Msg) error {
	n := r.w.numberOf(m.Header.Get(broker.JobHeader))
	return ask(ctx, r.client, provider, r.w.textOf(m.Data), r.w.traceParent(n))
}

// way is how requests get into the relay and results out of it.
func (r *relay) way() way {
	return way{
		request: func(n int) *nats.Msg {
			id := r.w.id(n)
			return &nats.Msg{Subject: relayStream(0), Data: r.w.body(n), Header: nats.Header{
				broker.MsgIDHeader: {id}, broker.JobHeader: {id},
			}}
		},
		results:  relayStream(relayInboxes),
		number:   func(m *nats.Msg) int { return r.w.numberOf(m.Header.Get(broker.JobHeader)) },
		topology: relayTopology(),
	}
}

func (r *relay) stop() {
	for _, p := range r.pullers {
		p.stop()
	}
	if r.client != nil {
		r.client.CloseIdleConnections()
	}
	r.conn.Close()
}

// removeRelay deletes the relay's streams from a server that others use too.
func removeRelay(ctx context.Context, url string, o *Options) error {
	conn, err := broker.Connect(broker.ConnectOptions{URL: url, Name: "spillway/bench-relay", Log: o.Log})
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	for hop := range relayInboxes + 1 {
		name := relayStream(hop)
		if err := conn.JS.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("remove stream %s: %w", name, err)
		}
	}
	return nil
}

const removeTimeout = 10 * time.Second
