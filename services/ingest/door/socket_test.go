package door

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// dial opens a WebSocket.
func dial(t testing.TB, url string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, answer, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(url, "http"), nil)
	if err != nil {
		t.Fatalf("%v: %+v", err, answer)
	}
	conn.SetReadLimit(16 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

type message struct {
	Event, ID string
	Data      json.RawMessage
}

// hear reads a message; what is no message is why the socket was closed.
func hear(t testing.TB, conn *websocket.Conn) (message, websocket.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	kind, body, err := conn.Read(ctx)
	if err != nil {
		code := websocket.CloseStatus(err)
		if code == -1 {
			t.Fatalf("read: %v", err)
		}
		return message{}, code
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil || kind != websocket.MessageText {
		t.Fatalf("%s: %v", body, err)
	}
	return m, 0
}

func TestASocketTellsWhatEventsTell(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn, often)
	w.admit("a", "acme", "s")
	w.say("a", "acme", "s", said{hop: 3, holder: "h", n: 1, text: "a"}, said{hop: 3, holder: "h", n: 2, text: "b"})
	conn, back := dial(t, served.URL+"/v1/jobs/a/ws"), dial(t, served.URL+"/v1/jobs/a/ws?last_event_id=1.3.1.1.h")
	for range 3 {
		// Nothing that a client says is listened to.
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"cancel":true}`)); err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(t.Context(), websocket.MessageBinary, []byte{0, 0xff}); err != nil {
			t.Fatal(err)
		}
	}
	for want, c := range map[string]*websocket.Conn{`"ab"`: conn, `"b"`: back} {
		if m, _ := hear(t, c); m.Event != "state" {
			t.Errorf("first comes %+v", m)
		}
		var d struct{ Text json.RawMessage }
		m, _ := hear(t, c)
		if err := json.Unmarshal(m.Data, &d); err != nil || m.Event != "draft" || m.ID != "1.3.1.2.h" || string(d.Text) != want {
			t.Errorf("%+v %s, want %s", m, m.Data, want)
		}
	}
	result := w.finish("a", "acme", "s", 1)
	for _, c := range []*websocket.Conn{conn, back} {
		if m, _ := hear(t, c); m.Event != "result" || m.ID != "1.result" || string(m.Data) != result {
			t.Errorf("%+v %s", m, m.Data)
		}
		if _, code := hear(t, c); code != websocket.StatusNormalClosure {
			t.Errorf("closed with %d", code)
		}
	}
}

func TestASocketIsToldThatTheDoorCloses(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, served := w.open(w.conn)
	conn := dial(t, served.URL+"/v1/sessions/s/ws")
	if m, _ := hear(t, conn); m.Event != "state" {
		t.Errorf("first comes %+v", m)
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		d.Drain(t.Context())
	}()
	if m, _ := hear(t, conn); m.Event != "reconnect" {
		t.Errorf("told %+v", m)
	}
	if _, code := hear(t, conn); code != websocket.StatusServiceRestart {
		t.Errorf("closed with %d", code)
	}
	<-left
}

func TestAClientThatSendsTooMuchIsLeft(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn)
	conn := dial(t, served.URL+"/v1/sessions/s/ws")
	if err := conn.Write(t.Context(), websocket.MessageText, make([]byte, 1<<20)); err != nil {
		t.Logf("writing: %v", err)
	}
	m, code := hear(t, conn)
	for code == 0 {
		m, code = hear(t, conn)
	}
	if code != websocket.StatusMessageTooBig {
		t.Errorf("closed with %d after %+v", code, m)
	}
}

func TestWhatIsNoSocketIsRefusedWithAProblem(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, served := w.open(w.conn, func(d *Door) {
		d.o.Origins = []string{"http://localhost:5173"}
		d.o.PublicURL = "https://llm.example.com"
	})
	w.admit("a", "", "")
	good := http.Header{
		"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	with := func(pairs ...string) http.Header {
		h := good.Clone()
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	for _, row := range []struct {
		name   string
		header http.Header
		path   string
		want   int
	}{
		{"plain GET", http.Header{}, "/v1/jobs/a/ws", 426},
		{"another protocol", with("Upgrade", "h2c"), "/v1/jobs/a/ws", 426},
		{"another version", with("Sec-WebSocket-Version", "8"), "/v1/jobs/a/ws", 426},
		{"no key", with("Sec-WebSocket-Key", "x"), "/v1/sessions/s/ws", 426},
		{"a key that is no base64", with("Sec-WebSocket-Key", "!!!!!!!!!!!!!!!!!!!!!!!!"), "/v1/sessions/s/ws", 426},
		{"a page of another origin", with("Origin", "https://evil.example"), "/v1/jobs/a/ws", 403},
		{"a sandboxed page", with("Origin", "null"), "/v1/sessions/s/ws", 403},
		{"an unknown job", good, "/v1/jobs/nobody/ws", 404},
		{"a session that can be none", good, "/v1/sessions/a%20b/ws", 400},
		{"a page of an allowed origin", with("Origin", "http://localhost:5173"), "/v1/jobs/a/ws", 101},
		{"no page", good, "/v1/sessions/a%2Fb/ws", 101},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, served.URL+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = row.header
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != row.want || row.want >= 400 && answer.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d", row.name, answer.StatusCode, answer.Header.Get("Content-Type"), row.want)
		}
	}
	// Behind a proxy that changes the Host header.
	if p := d.upgradable(&http.Request{ProtoMajor: 1, Header: with("Origin", "https://llm.example.com")}); p != nil {
		t.Errorf("a page of the door's own: %+v", p)
	}
}
