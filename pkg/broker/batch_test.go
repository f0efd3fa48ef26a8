package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

func TestAllMessagesOfASubjectAreReadHoweverManyAnswersThatTakes(t *testing.T) {
	t.Parallel()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, broker.NewTopology(nil, nil, broker.Sizing{}))
	const n = 5000
	for i := range n {
		body := fmt.Sprint(i)
		if i%500 == 0 {
			body += strings.Repeat(" ", 700_000) // ten of these are more than one answer holds
		}
		for _, id := range []string{"a", "b"} {
			if err := conn.NC.Publish("llm.delta.toy."+id, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	brokertest.Eventually(t, 30*time.Second, "all are stored", func() bool {
		s, err := conn.JS.Stream(t.Context(), "LLM_DELTAS")
		return err == nil && s.CachedInfo().State.Msgs == 2*n
	})
	next := 0
	if err := conn.Each(t.Context(), "LLM_DELTAS", "llm.delta.toy.a", func(m broker.Stored) {
		if got := strings.TrimSpace(string(m.Data)); got != fmt.Sprint(next) || m.Subject != "llm.delta.toy.a" || m.At.IsZero() || m.Sequence == 0 {
			t.Fatalf("%d: %s on %s at %s, %d", next, got, m.Subject, m.At, m.Sequence)
		}
		next++
	}); err != nil || next != n {
		t.Errorf("%d of %d were read: %v", next, n, err)
	}
	if err := conn.Each(t.Context(), "LLM_DELTAS", "llm.delta.toy.none", func(m broker.Stored) { t.Errorf("read %+v", m) }); err != nil {
		t.Errorf("where there is none: %v", err)
	}
	if err := conn.Each(t.Context(), "LLM_NONE", "llm.delta.toy.a", func(broker.Stored) {}); err == nil {
		t.Error("a stream that is not there was read")
	}
}

func TestHeadersAreReadFromAMomentOnWithoutTheirBodies(t *testing.T) {
	t.Parallel()
	conn := brokertest.Connect(t, brokertest.Server(t).URL())
	brokertest.Ensure(t, conn, broker.NewTopology(nil, nil, broker.Sizing{}))
	store := func(id string) time.Time {
		ack, err := conn.JS.PublishMsg(t.Context(), &nats.Msg{
			Subject: "llm.admitted." + id, Header: nats.Header{"Spillway-Tenant": {"of " + id}}, Data: []byte("body"),
		})
		if err != nil {
			t.Fatal(err)
		}
		stored, err := conn.Last(t.Context(), "LLM_ADMITTED", "llm.admitted."+id)
		if err != nil || stored.Sequence != ack.Sequence {
			t.Fatal(err)
		}
		return stored.At
	}
	store("early")
	since := store("a")
	store("b")
	var got []string
	if err := conn.HeadersSince(t.Context(), "LLM_ADMITTED", since, func(m broker.Stored) {
		got = append(got, m.Header.Get("Spillway-Tenant")+string(m.Data))
	}); err != nil || !slices.Equal(got, []string{"of a", "of b"}) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAMessageSaysWhoseItIsOnlyInLabels(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		tenant, session string
		want            int
	}{
		{"acme", "user/42", 2},
		{"acme", "", 1},
		{"", "", 0},
		{"a\r\nSpillway-Session: other", "a b", 0},
		{strings.Repeat("x", 129), "é", 0},
	} {
		if h := broker.Belonging(nil, row.tenant, row.session); len(h) != row.want {
			t.Errorf("%q, %q: %v", row.tenant, row.session, h)
		}
	}
}
