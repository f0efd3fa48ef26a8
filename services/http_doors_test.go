package services_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/rs/zerolog"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
)

// first is what a door says first: a status, and the state that a stream begins with.
func (f *front) first(method, path, query, secret, body string) (status int, state string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	header := http.Header{"Content-Type": {"application/json"}}
	if secret != "" {
		header.Set("Authorization", "Bearer "+secret)
	}
	if strings.HasSuffix(path, "/ws") {
		conn, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(f.base, "http")+path+query, &websocket.DialOptions{HTTPHeader: header})
		if err != nil && resp == nil {
			f.t.Fatalf("%s: %v", path, err)
		}
		if err != nil {
			return resp.StatusCode, ""
		}
		defer func() { _ = conn.CloseNow() }()
		_, message, err := conn.Read(ctx)
		if err != nil {
			f.t.Fatalf("%s: %v", path, err)
		}
		return resp.StatusCode, string(message)
	}
	if method == http.MethodGet {
		body = ""
	}
	q, err := http.NewRequestWithContext(ctx, method, f.base+path+query, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	q.Header = header
	resp, err := f.client.Do(q)
	if err != nil {
		f.t.Fatalf("%s: %v", path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 || !strings.HasSuffix(path, "/events") {
		return resp.StatusCode, ""
	}
	said := make([]byte, 0, 1<<10)
	for !strings.Contains(string(said), "\n\n") {
		part := make([]byte, 1<<10)
		n, err := resp.Body.Read(part)
		if err != nil && !errors.Is(err, io.EOF) {
			f.t.Fatalf("%s: %v", path, err)
		}
		said = append(said, part[:n]...)
	}
	_, data, _ := strings.Cut(string(said), "data: ")
	return resp.StatusCode, data
}

// Each column is who knocks, each row where; the last two are let in. Of a session of his own name, another tenant
// sees his own: nothing.
func TestEveryDoorIsShutToWhomItIsNotFor(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	early := r.front()
	const body = `{"tenant":"acme","session":"s","input":{"text":"x"},"deadline":"10m"}`
	id, other := early.post("bare", body).said(t).ID, early.post("bare", body).said(t).ID
	f := r.guarded()
	ring, err := apikey.Follow(t.Context(), r.conn, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ring.Close)
	both := []apikey.Scope{apikey.Submit, apikey.Read}
	acme, keyID := f.key(apikey.Spec{Tenant: "acme", Scopes: both})
	bolt, _ := f.key(apikey.Spec{Tenant: "bolt", Scopes: both})
	reader, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both[1:]})
	writer, _ := f.key(apikey.Spec{Tenant: "acme", Scopes: both[:1]})
	revoked, revokedID := f.key(apikey.Spec{Tenant: "acme", Scopes: both})
	if _, err := apikey.Revoke(t.Context(), r.conn, revokedID); err != nil {
		t.Fatal(err)
	}
	f.eventually("the key is revoked", func() bool { return f.with(revoked).get("/v1/jobs/nobody").status == http.StatusUnauthorized })
	sign := func(g apikey.Grant, life time.Duration) string {
		g.Tenant, g.KeyID, g.Until = "acme", keyID, time.Now().Add(life)
		token := ""
		brokertest.Eventually(t, 10*time.Second, "the ring knows the key", func() bool { token, err = ring.Sign(g); return err == nil })
		return "?token=" + token
	}
	ofJob, ofSession := apikey.Grant{Job: id}, apikey.Grant{Session: "s"}
	foreign := [...]string{sign(apikey.Grant{Job: other}, time.Hour), sign(apikey.Grant{Session: "t"}, time.Hour)}
	job, session := "/v1/jobs/"+id, "/v1/sessions/s"
	for _, row := range []struct {
		method, path string
		grant        apikey.Grant
		scope        string // a key without the scope that it takes
		// other tenant's key, revoked key, wrong scope, another job's token, another session's, expired, forged, none
		refused [8]int
		key     int // the right key
		token   int // the right token
	}{
		{"POST", "/v1/tasks/bare/jobs", ofJob, reader, [8]int{403, 401, 403, 401, 401, 401, 401, 401}, 202, 401},
		{"GET", job, ofJob, writer, [8]int{404, 401, 403, 404, 404, 401, 401, 401}, 202, 202},
		{"GET", job + "/events", ofJob, writer, [8]int{404, 401, 403, 404, 404, 401, 401, 401}, 200, 200},
		{"GET", job + "/ws", ofJob, writer, [8]int{404, 401, 403, 404, 404, 401, 401, 401}, 101, 101},
		{"GET", session + "/events", ofSession, writer, [8]int{200, 401, 403, 403, 403, 401, 401, 401}, 200, 200},
		{"GET", session + "/ws", ofSession, writer, [8]int{101, 401, 403, 403, 403, 401, 401, 401}, 101, 101},
		{"POST", job + "/cancel", ofJob, reader, [8]int{404, 401, 403, 401, 401, 401, 401, 401}, 202, 401},
	} {
		right := sign(row.grant, time.Hour)
		for n, knock := range []struct{ who, secret, query string }{
			{"another tenant's key", bolt, "?tenant=acme"},
			{"a revoked key", revoked, ""},
			{"a key of another scope", row.scope, ""},
			{"another job's token", "", foreign[0] + "&tenant=acme"},
			{"another session's token", "", foreign[1] + "&tenant=acme"},
			{"an expired token", "", sign(row.grant, -time.Hour)},
			{"a forged token", "", right[:len(right)-4] + "AAAA"},
			{"nobody", "", "?tenant=acme"},
			{"the right token", "", right},
			{"the right key", acme, ""},
		} {
			want := append(row.refused[:], row.token, row.key)[n]
			status, state := f.first(row.method, row.path, knock.query, knock.secret, body)
			if status != want {
				t.Errorf("%s %s: %s gets %d, want %d", row.method, row.path, knock.who, status, want)
			}
			letIn := n >= len(row.refused)
			if saysJob := strings.Contains(state, id); status < 300 && strings.HasPrefix(row.path, session) && saysJob != letIn {
				t.Errorf("%s: %s is told %s", row.path, knock.who, state)
			}
			if !letIn && strings.Contains(state, "acme") {
				t.Errorf("%s: %s is told of acme: %s", row.path, knock.who, state)
			}
		}
	}
}
