package door

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
)

func TestALateClientGetsAllThatWasSaidAndThenTheRest(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn)
	w.admit("a", "", "")
	w.say("a", "", "", said{hop: 3, holder: "h", n: 1, text: "one "}, said{hop: 3, holder: "h", n: 2, text: "two "})
	c := read(t, served.URL+"/v1/jobs/a/events", "")
	if got := c.header.Get("Content-Type"); c.status != 200 || got != "text/event-stream" {
		t.Fatalf("%d %s", c.status, got)
	}
	first := c.next()
	var state State
	if err := json.Unmarshal([]byte(first.Data), &state); err != nil || first.Type != "state" || state.ID != "a" || state.Task != "toy" {
		t.Errorf("first comes %+v: %v", first, err)
	}
	if e := c.next(); brief(e) != `draft "one two "` || e.LastEventID != "1.3.1.2.h" {
		t.Errorf("then %+v", e)
	}
	w.say("a", "", "", said{hop: 3, holder: "h", n: 3, text: "three"})
	if e := c.next(); brief(e) != `draft "three"` || e.LastEventID != "1.3.1.3.h" {
		t.Errorf("then %+v", e)
	}
	progress := `{"id":"a","task":"toy","run":1,"hop":4,"stage":"inference","to":"validator","at":"2026-01-02T03:04:05Z"}`
	w.tell("llm.progress.toy.a", nil, progress)
	if e := c.next(); e.Type != "progress" || e.Data != progress || e.LastEventID != "1.3.1.3.h" {
		t.Errorf("then %+v", e)
	}
	result := w.finish("a", "", "", 1)
	if e := c.next(); e.Type != "result" || e.Data != result || e.LastEventID != "1.result" {
		t.Errorf("last %+v", e)
	}
	if e, more := <-c.events; more {
		t.Errorf("behind the result: %+v", e)
	}
}

// The rows say what is stored, what the client had, and what it is told behind the state. What it shows then is
// what the model said last.
func TestAReturningClientGoesOnWhereItWasAtAnyReplica(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	w.open(w.conn)
	_, served := w.open(brokertest.Connect(t, w.url)) // another replica of the one that gave out the ids
	abc := []said{{hop: 3, holder: "h", n: 1, text: "a"}, {hop: 3, holder: "h", n: 2, text: "b"}, {hop: 3, holder: "h", n: 3, text: "c"}}
	partials := []said{{hop: 3, holder: "h", n: 1, partial: `{}`}, {hop: 3, holder: "h", n: 2, partial: `{"x":1}`}}
	retracted := said{hop: 3, holder: "h", n: 4, event: "retracted"}
	for i, row := range []struct {
		name   string
		stored []said
		had    string
		want   string
	}{
		{"a new one", abc, "", `draft "abc"`},
		{"it had all", abc, "1.3.1.3.h", ``},
		{"it lacks the end", abc, "1.3.1.1.h", `draft "bc"`},
		{"it had more than is stored yet", abc, "1.3.1.7.h", ``},
		{"it had what a browser sends of another stream", abc, "1790000000000", `restarted|draft "abc"`},
		{"it had nonsense", abc, strings.Repeat("9", 300), `restarted|draft "abc"`},
		{"its process died and another makes the call", append(abc[:3:3], said{hop: 3, holder: "i", n: 1, text: "x"}), "1.3.1.3.h", `restarted|draft "x"`},
		{"its try was delivered again", append(abc[:3:3], said{hop: 3, delivery: 2, holder: "h", n: 1, event: "restarted"}, said{hop: 3, delivery: 2, holder: "h", n: 2, text: "x"}), "1.3.1.3.h", `restarted|draft "x"`},
		{"another model was asked", append(abc[:3:3], said{hop: 5, holder: "h", n: 1, text: "x"}), "1.3.1.3.h", `restarted|draft "x"`},
		{"all was taken back", append(abc[:3:3], retracted), "1.3.1.2.h", `retracted`},
		{"it knows that all was taken back", append(abc[:3:3], retracted), "1.3.1.4.h", ``},
		{"another took back what one said", append(abc[:3:3], said{hop: 4, n: 0, event: "retracted"}), "1.3.1.3.h", `retracted`},
		{"one that left speaks on", append(abc[:3:3], said{hop: 3, holder: "i", n: 1, text: "x"}, said{hop: 3, holder: "h", n: 4, text: "late"}), "", `draft "x"`},
		{"values come whole", partials, "", `draft {"x":1}`},
		{"it has an earlier value", partials, "1.3.1.1.h", `draft {"x":1}`},
		{"it has the last value", partials, "1.3.1.2.h", ``},
		{"the beginning is not kept any more", abc[1:], "", ``},
		{"the beginning is not kept any more, but it had it", abc[1:], "1.3.1.1.h", `draft "bc"`},
		{"a hole is not jumped over", []said{abc[0], abc[2]}, "", `draft "a"`},
		{"nothing is kept", nil, "1.3.1.3.h", ``},
	} {
		id := fmt.Sprintf("j%d", i)
		w.admit(id, "", "")
		w.say(id, "", "", row.stored...)
		c := read(t, served.URL+"/v1/jobs/"+id+"/events", row.had)
		result := w.finish(id, "", "", 1)
		got := c.until("result")
		want := strings.Split(row.want, "|")
		if row.want == "" {
			want = nil
		}
		want = append(append([]string{"state"}, want...), "result")
		if !slices.Equal(got, want) {
			t.Errorf("%s: told %q, want %q (%s)", row.name, got, want, result)
		}
	}
}

func TestWhoComesBackForAResultItHadIsToldNotToComeAgain(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn)
	w.admit("a", "", "")
	w.finish("a", "", "", 1)
	url := served.URL + "/v1/jobs/a/events"
	if got := read(t, url, "").until("result"); !slices.Equal(got, []string{"state", "result"}) {
		t.Errorf("who comes late is told %q", got)
	}
	if c := read(t, url, "1.result"); c.status != http.StatusNoContent {
		t.Errorf("who had it: %d", c.status)
	}
	w.finish("a", "", "", 2) // of a replay
	if c := read(t, url, "1.result"); c.status != 200 || c.until("result")[1] != "result" {
		t.Errorf("who had the one before: %d", c.status)
	}
	if c := read(t, served.URL+"/v1/jobs/nobody/events", ""); c.status != http.StatusNotFound || c.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("of an unknown job: %d", c.status)
	}
}

func TestWhatComesWhileAClientWaitsIsTold(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn)
	part := func(holder string, hop, n int, text string) said {
		return said{hop: hop, holder: holder, n: n, text: text}
	}
	for i, row := range []struct {
		name string
		come []said
		want string
	}{
		{"pieces", []said{part("h", 3, 1, "a"), part("h", 3, 2, "b")}, `draft "a"|draft "b"`},
		{"one piece twice", []said{part("h", 3, 1, "a"), part("h", 3, 1, "a"), part("h", 3, 2, "b")}, `draft "a"|draft "b"`},
		{"taken back and said anew", []said{part("h", 3, 1, "a"), {hop: 3, holder: "h", n: 2, event: "retracted"}, part("h", 4, 1, "b")}, `draft "a"|retracted|draft "b"`},
		{"two holders", []said{part("h", 3, 1, "a"), part("i", 3, 1, "b"), part("h", 3, 2, "late")}, `draft "a"|restarted|draft "b"`},
		{"nobody says that another try begins", []said{part("h", 3, 1, "a"), part("h", 5, 1, "b")}, `draft "a"|restarted|draft "b"`},
		{"values", []said{{hop: 3, holder: "h", n: 1, partial: "[]"}, {hop: 3, holder: "h", n: 4, partial: "[1]"}}, `draft []|draft [1]`},
		{"a hole", []said{part("h", 3, 1, "a"), part("h", 3, 3, "c"), part("h", 5, 1, "z")}, `draft "a"|restarted|draft "z"`},
	} {
		id := fmt.Sprintf("j%d", i)
		w.admit(id, "", "")
		c := read(t, served.URL+"/v1/jobs/"+id+"/events", "")
		if e := c.next(); e.Type != "state" {
			t.Fatalf("%s: first %+v", row.name, e)
		}
		w.tell("llm.progress.toy."+id, nil, `{"hop":1}`) // once it is told, what is kept has been read
		if e := c.next(); e.Type != "progress" {
			t.Fatalf("%s: then %+v", row.name, e)
		}
		w.say(id, "", "", row.come...)
		var got []string
		c.about = row.name
		for range strings.SplitSeq(row.want, "|") {
			got = append(got, brief(c.next()))
		}
		if strings.Join(got, "|") != row.want {
			t.Errorf("%s: told %q, want %q", row.name, got, row.want)
		}
		w.finish(id, "", "", 1)
		if got := c.until("result"); len(got) != 1 {
			t.Errorf("%s: and then %q", row.name, got)
		}
	}
}

// The door's connection is away while the model speaks and ends.
func TestWhatWasMissedWhileNATSWasAwayIsReadBack(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	link := brokertest.Proxy(t, w.url)
	_, served := w.open(brokertest.Connect(t, link.URL()))
	w.admit("a", "", "")
	w.admit("b", "", "")
	one, two := read(t, served.URL+"/v1/jobs/a/events", ""), read(t, served.URL+"/v1/jobs/b/events", "")
	w.say("b", "", "", said{hop: 3, holder: "h", n: 1, text: "a"})
	if got := two.until("draft"); got[len(got)-1] != `draft "a"` {
		t.Fatalf("told %q", got)
	}
	link.Cut()
	w.finish("a", "", "", 1)
	w.say("b", "", "", said{hop: 3, holder: "h", n: 2, text: "b"}, said{hop: 3, holder: "h", n: 3, text: "c"})
	link.Heal()
	if got := one.until("result"); got[len(got)-1] != "result" {
		t.Errorf("told %q", got)
	}
	if got := brief(two.next()); got != `draft "bc"` {
		t.Errorf("told %q", got)
	}
}

func TestAResultThatWasNotHeardIsFoundWithTheSignOfLife(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, served := w.open(w.conn, often)
	w.admit("a", "acme", "s")
	w.admit("b", "acme", "s")
	one, all := read(t, served.URL+"/v1/jobs/a/events", ""), read(t, served.URL+"/v1/sessions/s/events?tenant=acme", "")
	one.until("state")
	all.until("state")
	w.tell("llm.progress.toy.a", whose("acme", "s"), `{"id":"a","hop":1}`)
	one.until("progress")
	all.until("progress")
	if err := d.hub.subs[0].Unsubscribe(); err != nil { // that of results
		t.Fatal(err)
	}
	want := w.finish("a", "acme", "s", 1)
	for name, c := range map[string]*reader{"job": one, "session": all} {
		if e := c.next(); e.Type != "result" || e.Data != want {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestTheSignOfLifeIsNoEventToAnyParser(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn, often)
	w.admit("a", "", "")
	w.say("a", "", "", said{hop: 3, holder: "h", n: 1, text: "a"})
	next, _ := lines(t, served.URL+"/v1/jobs/a/events")
	pulses, events := 0, 0
	p := &python{}
	for line := next(); line != ""; line = next() {
		if strings.HasPrefix(line, ":") {
			pulses++
		}
		if pulses == 5 && strings.HasPrefix(line, ":") {
			w.finish("a", "", "", 1)
		}
		event, data, dispatched := p.decode(strings.TrimRight(line, "\n"))
		if !dispatched {
			continue
		}
		events++
		if !json.Valid([]byte(data)) || event == "" {
			t.Errorf("the client of OpenAI's Python library gets event %q with data %q", event, data)
		}
	}
	if pulses < 5 || events != 3 {
		t.Errorf("%d signs of life, %d events", pulses, events)
	}
}

// python decodes as the SSEDecoder of openai-python does, which makes an event of an empty line whenever it knows an
// id, a name, data or a pause.
type python struct {
	event, id, data string
	retry           bool
}

func (p *python) decode(line string) (event, data string, dispatched bool) {
	if line == "" {
		if p.event == "" && p.data == "" && p.id == "" && !p.retry {
			return "", "", false
		}
		event, data = p.event, p.data
		p.event, p.data, p.retry = "", "", false // the id stays
		return event, data, true
	}
	if strings.HasPrefix(line, ":") {
		return "", "", false
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "event":
		p.event = value
	case "data":
		p.data += value
	case "id":
		p.id = value
	case "retry":
		p.retry = true
	}
	return "", "", false
}

func TestADoorThatClosesSendsItsClientsAway(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, served := w.open(w.conn)
	w.admit("a", "", "")
	one, all := read(t, served.URL+"/v1/jobs/a/events", ""), read(t, served.URL+"/v1/sessions/s/events", "")
	one.until("state")
	all.until("state")
	d.Drain(t.Context())
	for _, c := range []*reader{one, all} {
		e := c.next()
		var when struct {
			After int64 `json:"after_ms"`
		}
		if err := json.Unmarshal([]byte(e.Data), &when); err != nil || e.Type != "reconnect" || when.After < 500 || when.After > 3000 {
			t.Errorf("told %+v", e)
		}
		if e, more := <-c.events; more {
			t.Errorf("and then %+v", e)
		}
	}
	isSentAway(t, served.URL+"/v1/jobs/a/events")
	isSentAway(t, served.URL+"/v1/sessions/s/events")
}

// isSentAway checks what an EventSource needs to come back: at any status but 200 it gives up for good.
func isSentAway(t *testing.T, url string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	told := regexp.MustCompile(`^retry: 500\nretry: (\d+)\nevent: reconnect\ndata: \{"after_ms":(\d+)\}\n\n$`).FindStringSubmatch(string(body))
	if err != nil || answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" || told == nil || told[1] != told[2] {
		t.Errorf("%s: %d %v %q", url, answer.StatusCode, err, body)
	}
}

func TestWhileJetStreamIsAwayAClientOfEventsIsSentAway(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	_, served := w.open(w.conn)
	w.admit("a", "", "")
	if err := w.conn.JS.DeleteStream(t.Context(), "LLM_RESULTS"); err != nil {
		t.Fatal(err)
	}
	isSentAway(t, served.URL+"/v1/jobs/a/events")
	if c := read(t, served.URL+"/v1/jobs/a", ""); c.status != http.StatusServiceUnavailable || c.header.Get("Retry-After") == "" {
		t.Errorf("a poll: %d", c.status)
	}
}

func TestAClientThatDoesNotReadIsCut(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, served := w.open(w.conn, func(d *Door) { d.hub.cutAfter = 300 * time.Millisecond })
	_, leave := lines(t, served.URL+"/v1/sessions/s/events")
	defer leave()
	brokertest.Eventually(t, 10*time.Second, "it is there", func() bool { return d.hub.listening() == 1 })
	large, h := strings.Repeat("x", 200_000), whose("", "s")
	h["Spillway-Status"] = []string{"succeeded"}
	deadline := time.Now().Add(60 * time.Second)
	for i := 0; d.hub.listening() > 0; i++ {
		if time.Now().After(deadline) {
			t.Fatal("it is there still")
		}
		w.store(fmt.Sprintf("llm.write.toy.j%d", i), h, `"`+large+`"`)
	}
}

func (h *hub) listening() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiting
}
