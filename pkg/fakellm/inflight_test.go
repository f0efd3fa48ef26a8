package fakellm_test

import (
	"encoding/json"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fakellm"
)

// load is many streams in flight, each after its first token. Their clients are bare connections, so that
// what is measured is the server's, but for the few hundred bytes of a connection.
type load struct {
	*fakellm.Server
	clients []net.Conn
	// bytes of heap and stacks, and goroutines, are those that one call takes.
	bytes, goroutines float64
}

// hold starts n streams, more than 1000, of prompts with so many bytes, and measures what one takes.
func hold(tb testing.TB, n, prompt int) *load {
	tb.Helper()
	s, err := fakellm.Start(fakellm.Options{Latency: fakellm.Latency{PerToken: time.Hour}})
	if err != nil {
		tb.Fatal(err)
	}
	body, err := json.Marshal(ask(strings.Repeat("my card is blocked\n", prompt/19), object{
		"stream": true, "response_format": formatOf(routing()),
	}))
	if err != nil {
		tb.Fatal(err)
	}
	request := fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: provider\r\nAuthorization: Bearer any\r\n"+
		"Content-Type: application/json\r\nUser-Agent: test\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	l := &load{Server: s}
	const first = 1000 // fill the ring of requests, which is no call's
	l.open(tb, request, first)
	before, goroutines := memory(), runtime.NumGoroutine()
	l.open(tb, request, n-first)
	l.bytes = float64(memory()-before) / float64(n-first)
	l.goroutines = float64(runtime.NumGoroutine()-goroutines) / float64(n-first)
	if got := s.Counts().InFlight; got != n {
		tb.Errorf("%d calls are in flight, %d were begun", got, n)
	}
	return l
}

// open starts n more streams. It returns when each has said its first token.
func (l *load) open(tb testing.TB, request []byte, n int) {
	tb.Helper()
	var dialer net.Dialer
	first := len(l.clients)
	for range n {
		c, err := dialer.DialContext(tb.Context(), "tcp", strings.TrimPrefix(l.Root(), "http://"))
		if err != nil {
			tb.Fatal(err)
		}
		l.clients = append(l.clients, c)
		if _, err := c.Write(request); err != nil {
			tb.Fatal(err)
		}
	}
	answer := make([]byte, 4096)
	for _, c := range l.clients[first:] {
		size, err := c.Read(answer)
		if err != nil || !strings.HasPrefix(string(answer[:size]), "HTTP/1.1 200 ") {
			tb.Fatalf("%q, %v", answer[:size], err)
		}
	}
}

// memory returns the bytes of heap and stacks that are in use.
func memory() int64 {
	var m runtime.MemStats
	for range 3 { // what pools keep goes with the second, stacks shrink in the background
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// leave ends the load, and waits until the server knows.
func (l *load) leave(tb testing.TB) {
	tb.Helper()
	for _, c := range l.clients {
		c.Close()
	}
	if err := l.Await(tb.Context(), func(c fakellm.Counts) bool { return c.Disconnects == len(l.clients) }); err != nil {
		tb.Errorf("%v: %d of %d left", err, l.Counts().Disconnects, len(l.clients))
	}
	if err := l.Close(); err != nil {
		tb.Error(err)
	}
}

// Not parallel: other tests would be measured too.
func TestAStreamInFlightHoldsNeitherItsPromptNorAGoroutineBeyondThoseOfNetHTTP(t *testing.T) {
	const prompt = 60_000
	l := hold(t, 2000, prompt)
	t.Logf("%.0f bytes and %.2f goroutines a call", l.bytes, l.goroutines)
	if l.bytes > prompt {
		t.Errorf("a call in flight takes %.0f bytes, its prompt has %d", l.bytes, prompt)
	}
	// net/http serves a connection in one, and notices by another that the client leaves.
	if l.goroutines > 2.01 {
		t.Errorf("a call in flight takes %.2f goroutines", l.goroutines)
	}
	l.leave(t)
}

// BenchmarkCallsInFlight measures what one of 9,900 calls takes: with their clients they need less than the
// 20,000 files that a process may often have.
func BenchmarkCallsInFlight(b *testing.B) {
	for b.Loop() {
		l := hold(b, 9900, 30_000)
		b.ReportMetric(l.bytes, "B/call")
		b.ReportMetric(l.goroutines, "goroutines/call")
		l.leave(b)
	}
}
