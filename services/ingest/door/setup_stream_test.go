package door

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

// wire is a broker with the streams, and a client of it that stands for all stages.
type wire struct {
	t    testing.TB
	url  string
	conn *broker.Conn
}

func newWire(t testing.TB) *wire {
	t.Helper()
	w := &wire{t: t, url: brokertest.Server(t).URL()}
	w.conn = brokertest.Connect(t, w.url)
	brokertest.Ensure(t, w.conn, broker.NewTopology(nil, nil, broker.Sizing{}))
	return w
}

// whose is a header as the stages set it.
func whose(tenant, session string) nats.Header {
	return nats.Header{"Spillway-Tenant": {tenant}, "Spillway-Session": {session}}
}

// store publishes what a stream keeps, and waits for that.
func (w *wire) store(subject string, h nats.Header, body string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := w.conn.JS.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: h, Data: []byte(body)}); err != nil {
		w.t.Fatalf("store %s: %v", subject, err)
	}
}

// tell publishes what is not kept.
func (w *wire) tell(subject string, h nats.Header, body string) {
	w.t.Helper()
	if err := w.conn.NC.PublishMsg(&nats.Msg{Subject: subject, Header: h, Data: []byte(body)}); err != nil {
		w.t.Fatalf("publish %s: %v", subject, err)
	}
}

func (w *wire) hub(conn *broker.Conn) *hub {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	h, err := newHub(ctx, conn, nil, zerolog.Nop())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(h.close)
	return h
}
