package door

import (
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

// maxPerClient is what a client that waits may cost, in bytes of heap and stack.
const maxPerClient = 40 << 10

func TestAWaitingClientIsCheap(t *testing.T) {
	const clients = 500
	w := newWire(t)
	d, served := w.open(w.conn)
	for i := range clients {
		w.admit(fmt.Sprintf("j%d", i), "", "")
	}
	u, err := url.Parse(served.URL)
	if err != nil {
		t.Fatal(err)
	}
	connect := func(id string) net.Conn {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /v1/jobs/%s/events HTTP/1.1\r\nHost: %s\r\n\r\n", id, u.Host)
		var got strings.Builder
		part := make([]byte, 1024)
		for !strings.Contains(got.String(), "event: state") {
			n, err := conn.Read(part)
			if err != nil {
				t.Fatalf("%v behind %q", err, got.String())
			}
			got.Write(part[:n])
		}
		return conn
	}
	connect("j0")
	before := inUse()
	for i := range clients {
		connect(fmt.Sprintf("j%d", i))
	}
	if d.hub.listening() != clients+1 {
		t.Fatalf("%d clients wait", d.hub.listening())
	}
	each := (inUse() - before) / clients
	t.Logf("%d bytes each", each)
	if each > maxPerClient {
		t.Errorf("a waiting client costs %d bytes, more than %d", each, maxPerClient)
	}
}

// inUse is the memory in use behind a few collections: they shrink stacks too.
func inUse() int64 {
	for range 4 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
