package door

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
)

// ring follows the keys of the wire.
func (w *wire) ring() *apikey.Ring {
	w.t.Helper()
	ring, err := apikey.Follow(w.t.Context(), w.conn, zerolog.Nop())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(ring.Close)
	return ring
}

// stuck sends the head of a request and the first byte of its body, and no more.
func stuck(t *testing.T, served *httptest.Server, method, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", served.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", method, path); err != nil {
		t.Fatal(err)
	}
	return conn
}

// replied reads what was said on a connection.
func replied(t *testing.T, in *bufio.Reader) (status int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(said)
}

// gone fails the test unless the other side closes the connection.
func gone(t *testing.T, what string, in *bufio.Reader) {
	t.Helper()
	if _, err := in.ReadByte(); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset by peer") {
		t.Errorf("%s: the connection is still there: %v", what, err)
	}
}

func TestABodyThatNeverArrivesHoldsNoConnection(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, open := w.open(w.conn, func(d *Door) { d.bodyTimeout = time.Second })
	_, guarded := w.open(w.conn, func(d *Door) { d.o.Keys = w.ring() })
	for _, row := range []struct {
		served       *httptest.Server
		method, path string
		status       int
	}{
		{open, "POST", "/v1/tasks/toy/jobs", 400},
		{open, "POST", "/v1/jobs/nobody/cancel", 404},
		{open, "POST", "/nowhere", 404},
		{open, "DELETE", "/v1/jobs/nobody", 405},
		{open, "GET", "/v1/jobs/nobody", 404},
		{open, "GET", "/v1/jobs/nobody/events", 404},
		{guarded, "POST", "/v1/tasks/toy/jobs", 401},
		{guarded, "POST", "/v1/jobs/nobody/cancel", 401},
		{guarded, "POST", "/nowhere", 404},
	} {
		in := bufio.NewReader(stuck(t, row.served, row.method, row.path))
		if status, said := replied(t, in); status != row.status {
			t.Errorf("%s %s: %d %s, want %d", row.method, row.path, status, said, row.status)
		}
		gone(t, row.method+" "+row.path, in)
	}
}

func TestWhoIsStillSendingDoesNotHoldTheDrain(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, served := w.open(w.conn)
	var senders []*bufio.Reader
	for n := range 3 {
		senders = append(senders, bufio.NewReader(stuck(t, served, "POST", "/v1/tasks/toy/jobs")))
		brokertest.Eventually(t, 30*time.Second, "the door waits for the body", func() bool { return d.inside.count() == n+1 })
	}
	d.Drain(t.Context())
	if d.inside.count() != 0 {
		t.Errorf("%d requests are left", d.inside.count())
	}
	for _, in := range senders {
		if status, said := replied(t, in); status != http.StatusServiceUnavailable || !strings.Contains(said, `"draining"`) {
			t.Errorf("%d %s", status, said)
		}
		gone(t, "a sender", in)
	}
}

func TestAWholeBodyKeepsItsConnection(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, _ := w.open(w.conn)
	served := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Connection", "close")
		if _, p := d.readBody(rw, r.Body); p != nil {
			p.write(rw)
		}
	}))
	t.Cleanup(served.Close)
	for range 2 {
		resp, err := http.Post(served.URL, "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Close || resp.StatusCode != http.StatusOK {
			t.Errorf("%d, closed: %t", resp.StatusCode, resp.Close)
		}
		resp.Body.Close()
	}
}

func TestATenantThatSendsManyBodiesLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, url, secret, _ := w.keyed(apikey.Spec{Name: "a", Tenant: "acme", Scopes: []apikey.Scope{apikey.Submit}})
	post := func(secret string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/tasks/toy/jobs", strings.NewReader(`{"no`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+secret)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Retry-After") + string(said)
	}
	other, k, err := apikey.Create(t.Context(), w.conn, apikey.Spec{Name: "b", Tenant: "other", Scopes: []apikey.Scope{apikey.Submit}})
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 10*time.Second, "the ring knows the key", func() bool { _, err := d.o.Keys.Key(k.ID); return err == nil })
	held := 0
	for d.bodies.hold("acme", 1<<20) {
		held += 1 << 20
	}
	if held != 16<<20 {
		t.Errorf("a tenant may hold %d bytes", held)
	}
	if status, said := post(secret); status != http.StatusServiceUnavailable || !strings.HasPrefix(said, "2{") || !strings.Contains(said, `"door_full"`) {
		t.Errorf("%d %s", status, said)
	}
	if status, said := post(other); status == http.StatusServiceUnavailable {
		t.Errorf("the other tenant pays for it: %d %s", status, said)
	}
	d.bodies.release("acme", held)
	if status, said := post(secret); status == http.StatusServiceUnavailable {
		t.Errorf("it is taken no more: %d %s", status, said)
	}
	if d.bodies.all != 0 || len(d.bodies.share) != 0 {
		t.Errorf("%d bytes are held by nobody: %v", d.bodies.all, d.bodies.share)
	}
}

func TestABodyTakesWhatHasArrivedOfIt(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, served := w.open(w.conn)
	stuck(t, served, "POST", "/v1/tasks/toy/jobs") // one byte of 1,000
	brokertest.Eventually(t, 20*time.Second, "the byte is counted", func() bool {
		d.bodies.mu.Lock()
		defer d.bodies.mu.Unlock()
		return d.bodies.all == 1
	})
}
