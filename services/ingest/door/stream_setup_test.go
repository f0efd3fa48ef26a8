package door

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/tmaxmax/go-sse"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/services/ingest/door/doortest"
)

// open opens a door on a connection, and serves it.
func (w *wire) open(conn *broker.Conn, tune ...func(*Door)) (*Door, *httptest.Server) {
	w.t.Helper()
	d, err := New(w.t.Context(), Options{Conn: conn, Log: zerolog.Nop()})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range tune {
		f(d)
	}
	// What stands for the stages makes up results and progress that are no more than a test needs.
	served := httptest.NewServer(doortest.Checked(w.t, d.Handler(), "result", "progress"))
	w.t.Cleanup(func() {
		d.Close()
		served.CloseClientConnections()
		served.Close()
	})
	return d, served
}

// often makes the sign of life frequent.
func often(d *Door) { d.hub.pulseEvery = 20 * time.Millisecond }

// admit stores the marker of a job.
func (w *wire) admit(id, tenant, session string) {
	w.t.Helper()
	now := time.Now().UTC()
	m := map[string]any{
		"v": 1, "id": id, "task": "toy", "tenant": tenant, "session": session, "lane": "interactive", "run": 1,
		"acknowledged_at": now, "deadline": now.Add(time.Hour), "answer_by": now.Add(time.Hour),
		"request_stream": "LLM_REQUESTS", "request_seq": 1, "body_hash": "x",
	}
	body, err := json.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	w.store("llm.admitted."+id, whose(tenant, session), string(body))
}

// finish stores the result of a job's run.
func (w *wire) finish(id, tenant, session string, run int) string {
	w.t.Helper()
	h := whose(tenant, session)
	h["Spillway-Run"], h["Spillway-Status"] = []string{fmt.Sprint(run)}, []string{"succeeded"}
	body := fmt.Sprintf(`{"v":1,"id":%q,"run":%d,"tenant":%q,"status":"succeeded","error":null}`, id, run, tenant)
	w.store("llm.write.toy."+id, h, body)
	return body
}

// draft is one as the stages publish it: "n" of a try, or "restarted n", "retracted n".
type said struct {
	hop, delivery int
	holder        string
	n             int
	event, text   string
	partial       string
}

func (s said) body(id string) string {
	m := map[string]any{
		"v": 1, "id": id, "task": "toy", "event": s.event, "run": 1, "hop": s.hop, "delivery": max(s.delivery, 1), "call": 1,
		"holder": s.holder, "n": s.n,
	}
	if s.event == "" {
		m["event"] = "draft"
	}
	if s.text != "" {
		m["text"] = s.text
	}
	if s.partial != "" {
		m["partial"] = json.RawMessage(s.partial)
	}
	body, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// say publishes drafts, and returns when they are stored.
func (w *wire) say(id, tenant, session string, all ...said) {
	w.t.Helper()
	before := w.kept(id)
	for _, s := range all {
		w.tell("llm.delta.toy."+id, whose(tenant, session), s.body(id))
	}
	brokertest.Eventually(w.t, 30*time.Second, "the drafts are stored", func() bool { return w.kept(id) == before+uint64(len(all)) })
}

func (w *wire) kept(id string) uint64 {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n := uint64(0)
	if err := w.conn.Each(ctx, "LLM_DELTAS", "llm.delta.toy."+id, func(broker.Stored) { n++ }); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// reader is a client of server-sent events that uses the parser of a library.
type reader struct {
	t      testing.TB
	status int
	about  string
	header http.Header
	events chan sse.Event
	leave  func()
}

// read connects, with the id of the event that the client had last.
func read(t testing.TB, url, had string) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if had != "" {
		r.Header.Set("Last-Event-ID", had)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	c := &reader{t: t, status: answer.StatusCode, header: answer.Header, events: make(chan sse.Event, 10_000)}
	done := make(chan struct{})
	c.leave = func() {
		cancel()
		<-done
	}
	t.Cleanup(c.leave)
	go func() {
		defer close(done)
		defer close(c.events)
		defer answer.Body.Close()
		for e, err := range sse.Read(answer.Body, &sse.ReadConfig{MaxEventSize: 16 << 20}) {
			if err != nil {
				return
			}
			c.events <- e
		}
	}()
	return c
}

// next returns the next event; of type "" at the end of the stream.
func (c *reader) next() sse.Event {
	c.t.Helper()
	select {
	case e := <-c.events:
		return e
	case <-time.After(30 * time.Second):
		c.t.Fatalf("no event comes; %s", c.about)
		return sse.Event{}
	}
}

// brief is what an event tells of drafts, for tables.
func brief(e sse.Event) string {
	var d struct{ Text, Partial json.RawMessage }
	if json.Unmarshal([]byte(e.Data), &d) != nil {
		return e.Type + " unreadable"
	}
	return strings.TrimSpace(e.Type + " " + string(d.Text) + string(d.Partial))
}

// until collects briefs up to an event of a type.
func (c *reader) until(last string) []string {
	c.t.Helper()
	var all []string
	for {
		e := c.next()
		all = append(all, brief(e))
		if e.Type == last || e.Type == "" {
			return all
		}
	}
}

// lines reads a response as it is, line by line.
func lines(t testing.TB, url string) (next func() string, leave func()) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	b := bufio.NewReader(answer.Body)
	return func() string {
		line, err := b.ReadString('\n')
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		return line
	}, func() { answer.Body.Close() }
}
