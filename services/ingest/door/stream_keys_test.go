package door

import (
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/rs/zerolog"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
)

func TestStreamsAreForTheTenantOfTheKeyAndEndWhenItIsRevoked(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	ring, err := apikey.Follow(t.Context(), w.conn, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ring.Close)
	key := func(tenant string) apikey.Key {
		_, k, err := apikey.Create(t.Context(), w.conn, apikey.Spec{Name: tenant, Tenant: tenant, Scopes: []apikey.Scope{apikey.Read}})
		if err != nil {
			t.Fatal(err)
		}
		brokertest.Eventually(t, 10*time.Second, "the ring knows the key", func() bool { _, err := ring.Key(k.ID); return err == nil })
		return k
	}
	acme, other := key("acme"), key("other")
	token := func(k apikey.Key, g apikey.Grant) string {
		g.Tenant, g.KeyID, g.Until = k.Tenant, k.ID, time.Now().Add(2*time.Second-apikey.Skew)
		token, err := ring.Sign(g)
		if err != nil {
			t.Fatal(err)
		}
		return "?token=" + token
	}
	_, served := w.open(w.conn, often, func(d *Door) { d.o.Keys = ring })
	w.admit("a", "acme", "s")
	w.tell("llm.progress.toy.a", whose("acme", "s"), `{"id":"a","hop":1}`)
	ofJob, ofSession := token(acme, apikey.Grant{Job: "a"}), token(acme, apikey.Grant{Session: "s"})
	for _, row := range []struct {
		path string
		want int
	}{
		{"/v1/jobs/a/events", 401},
		{"/v1/jobs/a/events?token=x", 401},
		{"/v1/jobs/a/events" + ofSession, 404},
		{"/v1/jobs/a/events" + token(other, apikey.Grant{Job: "a"}), 404},
		{"/v1/jobs/a/ws" + token(other, apikey.Grant{Job: "a"}), 426},
		{"/v1/sessions/s/events" + ofJob, 403},
		{"/v1/sessions/t/events" + ofSession, 403},
		{"/v1/sessions/s/events" + token(acme, apikey.Grant{Session: "t"}), 403},
	} {
		if c := read(t, served.URL+row.path, ""); c.status != row.want {
			t.Errorf("%.40s: %d, want %d", row.path, c.status, row.want)
		}
	}
	job, all, neighbour := read(t, served.URL+"/v1/jobs/a/events"+ofJob, ""), read(t, served.URL+"/v1/sessions/s/events"+ofSession+"&tenant=other", ""),
		read(t, served.URL+"/v1/sessions/s/events"+token(other, apikey.Grant{Session: "s"})+"&tenant=acme", "")
	socket := dial(t, served.URL+"/v1/jobs/a/ws"+ofJob)
	job.until("state")
	if got := all.first(); len(got) != 1 {
		t.Errorf("acme's session has %v", got)
	}
	if got := neighbour.first(); len(got) != 0 {
		t.Errorf("the session of the same name of another tenant has %v", got)
	}
	expired := time.Now().Add(4 * time.Second)
	brokertest.Eventually(t, 30*time.Second, "the tokens have expired", func() bool { return time.Now().After(expired) })
	if c := read(t, served.URL+"/v1/jobs/a/events"+ofJob, ""); c.status != http.StatusUnauthorized {
		t.Errorf("an expired token: %d", c.status)
	}
	w.tell("llm.progress.toy.a", whose("acme", "s"), `{"id":"a","hop":2}`)
	for name, c := range map[string]*reader{"job": job, "session": all} {
		if e := c.next(); e.Type != "progress" {
			t.Errorf("the %s's stream did not outlive its token: %+v", name, e)
		}
	}
	if _, err := apikey.Revoke(t.Context(), w.conn, acme.ID); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*reader{"job": job, "session": all} {
		if e := c.next(); e.Type != "" {
			t.Errorf("the %s's stream did not end with its key: %+v", name, e)
		}
	}
	code := websocket.StatusCode(0)
	for code == 0 {
		_, code = hear(t, socket)
	}
	if code != websocket.StatusPolicyViolation {
		t.Errorf("the socket was closed with %d", code)
	}
	w.finish("a", "other", "s", 2)
	if e := neighbour.next(); e.Type != "result" {
		t.Errorf("the neighbour is told %+v", e)
	}
}

func TestStreamsThatWereOpenedBeforeTheFirstKeyEndWithIt(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	ring := w.ring()
	_, served := w.open(w.conn, often, func(d *Door) { d.o.Keys, d.o.Open = ring, true })
	w.admit("a", "acme", "s")
	events, socket := read(t, served.URL+"/v1/jobs/a/events", ""), dial(t, served.URL+"/v1/sessions/s/ws?tenant=acme")
	events.until("state")
	if m, _ := hear(t, socket); m.Event != "state" {
		t.Fatalf("first comes %+v", m)
	}
	if _, _, err := apikey.Create(t.Context(), w.conn, apikey.Spec{Name: "first", Tenant: "other", Scopes: []apikey.Scope{apikey.Read}}); err != nil {
		t.Fatal(err)
	}
	if e := events.next(); e.Type != "" {
		t.Errorf("the stream did not end: %+v", e)
	}
	if m, code := hear(t, socket); code != websocket.StatusPolicyViolation {
		t.Errorf("the socket was closed with %d, or told %+v", code, m)
	}
}
