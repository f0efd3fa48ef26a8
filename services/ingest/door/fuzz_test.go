package door

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/apikey"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/task"
	"spillway/schemas"
	"spillway/services/ingest"
	"spillway/services/ingest/door/doortest"
)

// gate is a door with keys, for whoever knocks with anything, on a broker that stays for the whole run.
type gate struct {
	handler  http.Handler
	contract *doortest.Contract
	ring     *apikey.Ring
	// secret may do all, slow has had its one request.
	secret, slow string
}

// canary is in each key and token that is made up.
const canary = "canary7f3a"

func newGate(f *testing.F) *gate {
	f.Helper()
	w := newWire(f)
	ctx, cancel := context.WithCancel(context.Background())
	f.Cleanup(cancel)
	ring, err := apikey.Follow(ctx, w.conn, zerolog.Nop())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(ring.Close)
	if err := w.conn.WatchCancels(ctx); err != nil {
		f.Fatal(err)
	}
	tasks, err := task.Load(schemas.FS(), nil)
	if err != nil {
		f.Fatal(err)
	}
	d, err := New(ctx, Options{
		Conn: w.conn, Desk: ingest.NewDesk(w.conn, task.NewBook(tasks), zerolog.Nop()), Tasks: task.NewBook(tasks), Keys: ring, Origins: []string{"https://app.example.com"}, Log: zerolog.Nop(),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(d.Close)
	g := &gate{handler: d.Handler(), ring: ring}
	if g.contract, err = doortest.Read(); err != nil {
		f.Fatal(err)
	}
	free := apikey.Spec{Name: "fuzz", Tenant: "acme", Scopes: []apikey.Scope{apikey.Submit, apikey.Read}}
	slow := free
	slow.Rate, slow.Burst = 1.0/3600, 1
	for into, spec := range map[*string]apikey.Spec{&g.secret: free, &g.slow: slow} {
		if *into, _, err = apikey.Create(ctx, w.conn, spec); err != nil {
			f.Fatal(err)
		}
	}
	brokertest.Eventually(f, 10*time.Second, "the door knows the keys", func() bool { return ring.Len() == 2 })
	w.admit("queued", "acme", "s")
	w.admit("done", "acme", "s")
	w.complete("done", "acme", "s")
	return g
}

// complete stores a result that has all that one has.
func (w *wire) complete(id, tenant, session string) {
	w.t.Helper()
	h := whose(tenant, session)
	h["Spillway-Run"], h["Spillway-Status"] = []string{"1"}, []string{"cancelled"}
	w.store("llm.write.toy."+id, h, fmt.Sprintf(`{"v":1,"id":%q,"run":1,"supersedes":null,"task":"toy","task_version":"","tenant":%q,"status":"cancelled","output":null,`+
		`"source":"","model":"","answered_by":"","recovery":"","age_ms":null,"degraded":null,"error":null,"usage":{"input_tokens":0,"output_tokens":0,"calls":0},`+
		`"cost_usd":0,"history":[],"trace_id":"","acknowledged_at":"2026-01-02T03:04:05Z","finished_at":"2026-01-02T03:04:05Z","deadline":"2026-01-02T03:04:05Z",`+
		`"late":false,"parent":null,"session":%q,"metadata":null}`, id, tenant, session))
}

// sayable reports whether a text can be the value of a header: others do not come through net/http.
func sayable(value string) bool {
	return strings.IndexFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) < 0 && strings.TrimSpace(value) == value
}

// request reads what a client sends as a server does; nil: it does not come through.
func request(method, target string, body []byte, headers ...string) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: llm.example.com\r\n\r\n")))
	if err != nil {
		return nil
	}
	for i := 0; i < len(headers); i += 2 {
		if !sayable(headers[i+1]) {
			return nil
		}
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(body))), int64(len(body))
	return r
}

// knock sends a request, with a key that may do all unless it says otherwise, and checks what must hold of any answer.
func (g *gate) knock(t *testing.T, method, target string, body []byte, headers ...string) *doortest.Exchange {
	t.Helper()
	r := request(method, target, body, headers...)
	if r == nil {
		t.Skip()
	}
	if _, says := r.Header["Authorization"]; !says && !r.URL.Query().Has(tokenParameter) {
		r.Header.Set("Authorization", "Bearer "+g.secret)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	ear := &ear{header: http.Header{}, leave: cancel}
	asked := r.Clone(context.Background())
	g.handler.ServeHTTP(ear, r.WithContext(ctx))
	e := ear.exchange(asked, body)
	if err := errors.Join(g.contract.Check(e), g.contract.CheckTold(e, nil)); err != nil {
		t.Errorf("%s %q is answered with %d, which is not as described: %v\n%q\n%q", method, target, e.Status, err, e.Received, e.Header)
	}
	said := fmt.Sprint(e.Header) + string(e.Received)
	for _, secret := range []string{g.secret, g.slow, canary} {
		if strings.Contains(said, secret) {
			t.Errorf("%s %q: the answer has a secret in it: %s", method, target, said)
		}
	}
	return e
}

// ear hears an answer, and leaves a stream after its first event.
type ear struct {
	mu     sync.Mutex
	status int
	header http.Header
	body   strings.Builder
	leave  func()
}

var _ http.Hijacker = (*ear)(nil)

func (e *ear) Header() http.Header { return e.header }
func (e *ear) Flush()              {}

func (e *ear) WriteHeader(status int) {
	if e.status == 0 {
		e.status = status
	}
}

func (e *ear) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.WriteHeader(http.StatusOK)
	e.body.Write(b)
	if strings.Contains(e.body.String(), "\n\n") {
		e.leave()
	}
	return len(b), nil
}

// Hijack is for WebSockets. The client leaves after the first message.
func (e *ear) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		b := make([]byte, 64<<10)
		n, _ := client.Read(b) // what came before it was closed counts
		e.mu.Lock()
		defer e.mu.Unlock()
		e.body.Write(b[:n])
	}()
	return server, bufio.NewReadWriter(bufio.NewReader(server), bufio.NewWriterSize(server, 64<<10)), nil
}

func (e *ear) exchange(asked *http.Request, sent []byte) *doortest.Exchange {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.WriteHeader(http.StatusOK)
	return &doortest.Exchange{Request: asked, Sent: sent, Status: e.status, Header: e.header, Received: []byte(e.body.String())}
}

func FuzzAPost(f *testing.F) {
	g := newGate(f)
	const good = `{"input":{"text":"The release is fast."}}`
	f.Add("analyze", "application/json", "", "", "", []byte(good))
	f.Add("analyze", "application/merge-patch+json; charset=utf-8", "order 7", "respond-async, wait=0", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", []byte(good))
	f.Add("analyze", "application/json", "", "wait=99999999999", "", []byte(`{"id":"a","input":{"text":"x"},"session":"a/b","deadline":"10s","lane":"batch","tenant":"acme","stream":true,"cache":"renew","parent":"b","metadata":[1e300]}`))
	f.Add("nothing", "text/plain", "\u00e9", "", "", []byte(`{"input":`))
	f.Add("a%2e.b%3e", "application/json", "", "", "", []byte(`{"a~/b":1,"deadline":"1.5µs","tenant":"other","webhook":{"url":"http://x"}}`))
	f.Fuzz(func(t *testing.T, name, contentType, key, prefer, trace string, body []byte) {
		g.knock(t, http.MethodPost, "/v1/tasks/"+name+"/jobs", body, "Content-Type", contentType, "Idempotency-Key", key, "Prefer", prefer, "traceparent", trace)
	})
}

func FuzzAPoll(f *testing.F) {
	g := newGate(f)
	for _, target := range []string{"queued", "done", "nobody", "done?wait=1e3", "queued?wait=NaN", "done?wait=-0", "%00", "a.b", "*", "%3E", "done/../queued", "?wait", "queued?wait=0x1p-2&wait=x", "/done", "done/"} {
		f.Add(target, "wait=1", false)
	}
	f.Fuzz(func(t *testing.T, target, prefer string, head bool) {
		method := map[bool]string{true: http.MethodHead, false: http.MethodGet}[head]
		g.knock(t, method, "/v1/jobs/"+target, nil, "Prefer", prefer)
	})
}

func FuzzACancel(f *testing.F) {
	g := newGate(f)
	f.Add("queued", "", []byte(nil))
	f.Add("done", "wait=5", []byte("{}"))
	f.Add("a%2Fb", "wait=", []byte(canary))
	f.Add("nobody", `wait="1"; x`, []byte(nil))
	f.Fuzz(func(t *testing.T, id, prefer string, body []byte) {
		g.knock(t, http.MethodPost, "/v1/jobs/"+id+"/cancel", body, "Prefer", prefer)
	})
}

func FuzzEvents(f *testing.F) {
	g := newGate(f)
	for _, had := range []string{"", "1.result", "99999999999.result", "1.3.1.2.h", "1790000000000", "-1", "\u00e9"} {
		f.Add("jobs/done", had, false)
		f.Add("jobs/queued", had, true)
		f.Add("sessions/s", had, false)
		f.Add("sessions/a%2Fb%3a@c", had, true)
	}
	f.Add("sessions/%00", "", false)
	f.Add("jobs/", "", false)
	f.Fuzz(func(t *testing.T, of, had string, query bool) {
		if query {
			g.knock(t, http.MethodGet, "/v1/"+of+"/events?last_event_id="+had, nil)
			return
		}
		g.knock(t, http.MethodGet, "/v1/"+of+"/events", nil, "Last-Event-ID", had)
	})
}

func FuzzASocket(f *testing.F) {
	g := newGate(f)
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	f.Add("jobs/done", "websocket", "Upgrade", "13", key, "", "", false)
	f.Add("jobs/queued", "WebSocket", "keep-alive, Upgrade", "13", key, "https://app.example.com", "permessage-deflate; client_max_window_bits", false)
	f.Add("sessions/s", "websocket", "Upgrade", "13", key, "https://evil.example.com", "", false)
	f.Add("sessions/s?last_event_id=1", "websocket", "Upgrade", "13", key, "http://llm.example.com", "x", true)
	f.Add("jobs/nobody", "h2c", "close", "8", "a", "null", "", false)
	f.Fuzz(func(t *testing.T, of, upgrade, connection, version, key, origin, extensions string, head bool) {
		method := map[bool]string{true: http.MethodHead, false: http.MethodGet}[head]
		path, query, _ := strings.Cut(of, "?")
		g.knock(t, method, "/v1/"+path+"/ws?"+query, nil, "Upgrade", upgrade, "Connection", connection, "Sec-WebSocket-Version", version,
			"Sec-WebSocket-Key", key, "Origin", origin, "Sec-WebSocket-Extensions", extensions, "Sec-WebSocket-Protocol", extensions)
	})
}

// Whatever is sent as a key or a token that is none: nobody comes in, and it is not in the answer.
func FuzzAuthorization(f *testing.F) {
	g := newGate(f)
	routes := slices.DeleteFunc(g.contract.Routes(), func(route string) bool { return !strings.Contains(route, "/v1/") })
	good, err := g.ring.Sign(apikey.Grant{Tenant: "acme", Job: "done", KeyID: strings.Split(g.secret, "_")[1], Until: time.Now().Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{"Bearer " + canary, "bearer\t" + canary, "Basic " + canary, canary, "Bearer sk_0123456789abcdef_" + canary, good + canary, good[:len(good)-1], "Bearer " + g.slow, ""} {
		for which := range routes {
			f.Add(byte(which), text, canary+text)
			f.Add(byte(which), "", text)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, header, token string) {
		method, path, _ := strings.Cut(routes[int(which)%len(routes)], " ")
		path = strings.NewReplacer("{task}", "analyze", "{id}", "done", "{session}", "s").Replace(path)
		if header == "" && token == "" || strings.Contains(header, g.secret) {
			return
		}
		e := g.knock(t, method, path+"?token="+url.QueryEscape(token), []byte(`{}`), "Authorization", header, "Content-Type", "application/json")
		if e.Status != http.StatusUnauthorized && !strings.Contains(header, g.slow) {
			t.Errorf("%s %s with %q and the token %q: %d %s", method, path, header, token, e.Status, e.Received)
		}
	})
}

// What is none of the routes, whoever asks from wherever.
func FuzzAnAddress(f *testing.F) {
	g := newGate(f)
	for _, target := range []string{"/", "//", "/v1", "/v1/jobs", "/v1/jobs/done/", "/v1//jobs/done", "/v1/./jobs/done?token=" + canary, "/v1/../" + canary, "/openapi.json", "*", "http://x/y"} {
		f.Add("GET", target, "https://app.example.com", "")
		f.Add("OPTIONS", target, "https://app.example.com", "POST")
		f.Add("DELETE", target, "https://evil.example.com", "")
	}
	f.Fuzz(func(t *testing.T, method, target, origin, wants string) {
		for _, apart := range []string{"/healthz", "/readyz", "/metrics"} {
			if strings.Contains(target, apart) {
				return // served beside the door
			}
		}
		g.knock(t, method, target, nil, "Origin", origin, "Access-Control-Request-Method", wants)
	})
}
