package door

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
)

// guards is a ring with a key of acme, and what signs tokens for it.
func (w *wire) guards() (*apikey.Ring, func(g apikey.Grant, life time.Duration) string) {
	w.t.Helper()
	ctx := w.t.(*testing.T).Context()
	ring, err := apikey.Follow(ctx, w.conn, zerolog.Nop())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(ring.Close)
	_, k, err := apikey.Create(ctx, w.conn, apikey.Spec{Name: "acme", Tenant: "acme", Scopes: []apikey.Scope{apikey.Read}})
	if err != nil {
		w.t.Fatal(err)
	}
	brokertest.Eventually(w.t, 10*time.Second, "the ring knows the key", func() bool { _, err := ring.Key(k.ID); return err == nil })
	return ring, func(g apikey.Grant, life time.Duration) string {
		g.Tenant, g.KeyID, g.Until = "acme", k.ID, time.Now().Add(life)
		token, err := ring.Sign(g)
		if err != nil {
			w.t.Fatal(err)
		}
		return token
	}
}

// granted is what the token in an address allows.
func granted(t *testing.T, ring *apikey.Ring, address string) apikey.Grant {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	g, err := ring.Verify(u.Query().Get("token"), time.Now())
	if err != nil {
		t.Errorf("%s: %v", address, err)
	}
	return g
}

func TestTheAddressesInASessionsStateCanBeFollowed(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	ring, token := w.guards()
	_, served := w.open(w.conn, func(d *Door) { d.o.Keys = ring })
	w.admit("a", "acme", "s")
	w.tell("llm.progress.toy.a", whose("acme", "s"), `{"id":"a","hop":1}`)
	var state struct{ Jobs []State }
	brokertest.Eventually(t, 10*time.Second, "the session has its job", func() bool {
		e := read(t, served.URL+"/v1/sessions/s/events?token="+token(apikey.Grant{Session: "s"}, 5*time.Minute), "").next()
		return json.Unmarshal([]byte(e.Data), &state) == nil && len(state.Jobs) == 1
	})
	of := state.Jobs[0]
	c := read(t, of.EventsURL, "")
	if e := c.next(); c.status != http.StatusOK || e.Type != "state" {
		t.Errorf("%s: %d %+v", of.EventsURL, c.status, e)
	}
	g := granted(t, ring, of.EventsURL)
	if left := time.Until(g.Until); g.Job != "a" || g.Session != "" || left > 5*time.Minute+time.Second || left < 4*time.Minute {
		t.Errorf("the job's token is for %+v, that of the session for five minutes", g)
	}
	if g := granted(t, ring, of.SessionEventsURL); g.Session != "s" || time.Until(g.Until) < 14*time.Minute {
		t.Errorf("the session's token is not renewed: %+v", g)
	}
}

func TestAStateRenewsTheTokenOfWhoHoldsOneUpToTheDeadline(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	ring, token := w.guards()
	_, served := w.open(w.conn, func(d *Door) { d.o.Keys = ring })
	now := time.Now()
	for id, row := range map[string]struct {
		deadline     time.Time
		has, atLeast time.Duration
		atMost       time.Duration
	}{
		"long":    {deadline: now.Add(24 * time.Hour), has: time.Minute, atLeast: 14 * time.Minute, atMost: 15*time.Minute + time.Second},
		"overdue": {deadline: now.Add(-10 * time.Minute), has: time.Minute, atLeast: 4 * time.Minute, atMost: 5*time.Minute + time.Second},
		"over":    {deadline: now.Add(-time.Hour), has: time.Minute, atLeast: 0, atMost: time.Minute + time.Second},
	} {
		body, err := json.Marshal(map[string]any{
			"v": 1, "id": id, "task": "toy", "tenant": "acme", "lane": "batch", "run": 1, "acknowledged_at": row.deadline.Add(-time.Hour),
			"deadline": row.deadline, "answer_by": row.deadline, "request_stream": "LLM_BATCH", "request_seq": 1, "body_hash": "x",
		})
		if err != nil {
			t.Fatal(err)
		}
		w.store("llm.admitted."+id, whose("acme", ""), string(body))
		answer, err := http.Get(served.URL + "/v1/jobs/" + id + "?token=" + token(apikey.Grant{Job: id}, row.has))
		if err != nil {
			t.Fatal(err)
		}
		var s State
		if err := json.NewDecoder(answer.Body).Decode(&s); err != nil || answer.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %d %v", id, answer.StatusCode, err)
		}
		answer.Body.Close()
		if g := granted(t, ring, s.EventsURL); g.Job != id || time.Until(g.Until) < row.atLeast || time.Until(g.Until) > row.atMost {
			t.Errorf("%s: %+v, in %s", id, g, time.Until(g.Until))
		}
	}
}

// A stream outlives its token. Who loses it then has been told an address with another.
func TestAClientThatCameWithATokenHasAFreshOneAtAllTimes(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	ring, token := w.guards()
	_, served := w.open(w.conn, often, func(d *Door) { d.o.Keys, d.hub.renewEvery = ring, 50*time.Millisecond })
	w.admit("a", "acme", "s")
	ends := time.Now().Add(3 * time.Second)
	short := token(apikey.Grant{Job: "a"}, time.Until(ends)-apikey.Skew)
	job, session := read(t, served.URL+"/v1/jobs/a/events?token="+short, ""), read(t, served.URL+"/v1/sessions/s/events?token="+token(apikey.Grant{Session: "s"}, time.Minute), "")
	socket := dial(t, served.URL+"/v1/jobs/a/ws?token="+short)
	// Of the addresses that are told, the last one counts: those of the second state and later are renewed.
	var last Addresses
	for range 3 {
		e := job.next()
		if e.Type != "state" || json.Unmarshal([]byte(e.Data), &last) != nil {
			t.Fatalf("told %+v", e)
		}
		if all := session.next(); all.Type != "state" {
			t.Fatalf("of the session is told %+v", all)
		}
		if m, _ := hear(t, socket); m.Event != "state" {
			t.Fatalf("the socket is told %+v", m)
		}
	}
	if left := time.Until(granted(t, ring, last.EventsURL).Until); left < 14*time.Minute {
		t.Errorf("the token that was told last is good for %s", left)
	}
	brokertest.Eventually(t, 30*time.Second, "the first token has expired", func() bool {
		return read(t, served.URL+"/v1/jobs/a/events?token="+short, "").status == http.StatusUnauthorized
	})
	if c := read(t, last.EventsURL, ""); c.status != http.StatusOK || c.next().Type != "state" {
		t.Errorf("by the address that was told last: %d", c.status)
	}
}
