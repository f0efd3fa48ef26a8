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
	"golang.org/x/sync/semaphore"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/task"
	"spillway/schemas"
	"spillway/services/ingest"
)

// accepting is a door that stores requests.
func (w *wire) accepting(tune func(*Door)) (*Door, *httptest.Server) {
	w.t.Helper()
	tasks, err := task.Load(schemas.FS(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.open(w.conn, func(d *Door) {
		d.o.Tasks, d.o.Desk = task.NewBook(tasks), ingest.NewDesk(w.conn, task.NewBook(tasks), zerolog.Nop())
		tune(d)
	})
}

const goodRequest = `{"input":{"text":"The release is fast."}}`

// answered is what a POST is told.
type answered struct {
	status     int
	media      string
	retryAfter string
	body       string
}

func (a answered) isFull() bool {
	return a.status == http.StatusServiceUnavailable && a.media == "application/problem+json" && a.retryAfter == "2" && strings.Contains(a.body, `"code":"door_full"`)
}

func send(t *testing.T, served *httptest.Server, body string) answered {
	t.Helper()
	resp, err := http.Post(served.URL+"/v1/tasks/analyze/jobs", "application/json", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return answered{}
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return answered{resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Retry-After"), string(said)}
}

// While its stream is gone no request is stored, and those that wait for that have the desks.
func TestWhoFindsNoFreeDeskIsToldToComeAgainAndIsTakenThen(t *testing.T) {
	t.Parallel()
	const desks, wait = 2, 300 * time.Millisecond
	w := newWire(t)
	d, served := w.accepting(func(d *Door) { d.desks, d.deskWait = semaphore.NewWeighted(desks), wait })
	if err := w.conn.JS.DeleteStream(t.Context(), broker.RequestsStream); err != nil {
		t.Fatal(err)
	}
	held := make(chan answered, desks)
	for range desks {
		go func() { held <- send(t, served, goodRequest) }()
	}
	brokertest.Eventually(t, 20*time.Second, "all desks are taken", func() bool {
		free := d.desks.TryAcquire(1)
		if free {
			d.desks.Release(1)
		}
		return !free
	})
	began := time.Now()
	over := send(t, served, goodRequest)
	if took := time.Since(began); !over.isFull() || took < wait {
		t.Errorf("after %s: %+v", took, over)
	}
	brokertest.Ensure(t, w.conn, broker.NewTopology(nil, nil, broker.Sizing{}))
	for range desks {
		if a := <-held; a.status != http.StatusAccepted {
			t.Errorf("who had a desk is told %+v", a)
		}
	}
	if a := send(t, served, goodRequest); a.status != http.StatusAccepted {
		t.Errorf("with free desks: %+v", a)
	}
	s, err := w.conn.JS.Stream(t.Context(), broker.RequestsStream)
	if err != nil || s.CachedInfo().State.Msgs != desks+1 {
		t.Errorf("stored are %d: %v", s.CachedInfo().State.Msgs, err)
	}
}

// partly sends a request without the last byte of its body.
func partly(t *testing.T, served *httptest.Server, body string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", served.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fprintf(conn, "POST /v1/tasks/analyze/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:len(body)-1]); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestBodiesBeyondTheBudgetAreToldToComeAgainAndAreTakenThen(t *testing.T) {
	t.Parallel()
	// White space counts as it comes, and is no part of the request.
	large := goodRequest + strings.Repeat(" ", 20_000)
	w := newWire(t)
	d, served := w.accepting(func(d *Door) { d.bodies = newBodies(3*len(large)-1, len(large)) })
	first, second := partly(t, served, large), partly(t, served, large)
	arrived := func() int {
		d.bodies.mu.Lock()
		defer d.bodies.mu.Unlock()
		return d.bodies.all
	}
	brokertest.Eventually(t, 20*time.Second, "both have arrived but for a byte", func() bool { return arrived() == 2*(len(large)-1) })
	if a := send(t, served, large+"  "); !a.isFull() {
		t.Errorf("beyond the budget: %+v", a)
	}
	if a := send(t, served, goodRequest); a.status != http.StatusAccepted {
		t.Errorf("what has room is told %+v", a)
	}
	// One comes to its end, the other leaves.
	if _, err := io.WriteString(first, large[len(large)-1:]); err != nil {
		t.Fatal(err)
	}
	if status, said := replied(t, bufio.NewReader(first)); status != http.StatusAccepted {
		t.Errorf("who was there before is told %d %s", status, said)
	}
	if a := send(t, served, large+"  "); a.status != http.StatusAccepted {
		t.Errorf("with room again: %+v", a)
	}
	second.Close()
	brokertest.Eventually(t, 20*time.Second, "nothing is held", func() bool { return arrived() == 0 })
}
