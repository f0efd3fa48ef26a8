package apikey

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within is for what takes milliseconds on an idle machine.
const within = 20 * time.Second

type bundle struct {
	t    testing.TB
	url  string
	conn *broker.Conn
	logs *logs
}

func setup(t testing.TB) *bundle {
	t.Helper()
	return setupAt(t, brokertest.Server(t).URL(), 1)
}

func setupAt(t testing.TB, url string, replicas int) *bundle {
	t.Helper()
	b := &bundle{t: t, url: url, conn: brokertest.Connect(t, url), logs: &logs{}}
	sizing := broker.DefaultSizing()
	sizing.Replicas = replicas
	brokertest.Ensure(t, b.conn, broker.Topology{Buckets: broker.NewTopology(nil, nil, sizing).Buckets})
	return b
}

// ring follows over a connection of its own.
func (b *bundle) ring(url string) *Ring {
	b.t.Helper()
	r, err := Follow(b.t.Context(), brokertest.Connect(b.t, url), zerolog.New(b.logs))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(r.Close)
	return r
}

// acme is a key as most tests need one.
func acme() Spec {
	return Spec{Name: "web", Tenant: "acme", Tasks: []string{"toy"}, Scopes: []Scope{Submit, Read}, Rate: 50, Burst: 100}
}

func (b *bundle) create(s Spec) (string, Key) {
	b.t.Helper()
	secret, k, err := Create(b.t.Context(), b.conn, s)
	if err != nil {
		b.t.Fatal(err)
	}
	return secret, k
}

func (b *bundle) revoke(id string) Key {
	b.t.Helper()
	k, err := Revoke(b.t.Context(), b.conn, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return k
}

// eventually waits until a ring gives an answer for a secret.
func (b *bundle) eventually(r *Ring, secret string, want error) {
	b.t.Helper()
	brokertest.Eventually(b.t, within, "the ring's answer changes", func() bool {
		_, err := r.Check(secret)
		return errors.Is(err, want)
	})
}

// replace stores a record as it is, whatever is there.
func (b *bundle) replace(key, data string) {
	b.t.Helper()
	stored, err := b.conn.Record(b.t.Context(), broker.KeysBucket, key)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.conn.Swap(b.t.Context(), broker.KeysBucket, key, []byte(data), stored.Revision); err != nil {
		b.t.Fatal(err)
	}
}

type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
