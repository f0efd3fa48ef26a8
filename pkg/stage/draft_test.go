package stage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

func outbox(t *testing.T, c *broker.Conn) *stage.Outbox {
	t.Helper()
	o, err := stage.NewOutbox(c, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// start runs an outbox until the test ends.
func start(t *testing.T, o *stage.Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := o.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

func part(n int, text string) job.Draft {
	return job.Draft{Task: "toy", ID: "a", Event: job.DraftPart, N: n, Text: text}
}

// Nothing is published: what is kept is bounded, and there is room left for taking it back.
func TestAnOutboxIsBoundedByPlacesAndByBytes(t *testing.T) {
	t.Parallel()
	for size, most := range map[int]int{10: 4096, 64 << 10: (16 << 20) / (64 << 10)} {
		o := outbox(t, nil)
		text, taken := strings.Repeat("x", size), 0
		for n := range 10_000 {
			if o.Offer(part(n, text)) {
				taken++
			}
		}
		if taken > most || taken < most/2 {
			t.Errorf("%d drafts of %d bytes were taken, want at most %d", taken, size, most)
		}
		if !o.Offer(job.Draft{Task: "toy", ID: "a", Event: job.DraftRetracted}) {
			t.Errorf("behind drafts of %d bytes there is no place for a retraction", size)
		}
	}
}

// heardOn gathers the numbers of the drafts that are heard at a server.
func heardOn(t *testing.T, url string) <-chan int {
	t.Helper()
	c := brokertest.Connect(t, url)
	heard := make(chan int, 10_000)
	if _, err := c.NC.Subscribe(broker.AllDeltas, func(m *nats.Msg) {
		var d job.Draft
		if err := json.Unmarshal(m.Data, &d); err != nil {
			t.Error(err)
		}
		heard <- d.N
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	return heard
}

func TestDraftsWaitForAConnectionThatIsAway(t *testing.T) {
	t.Parallel()
	server := brokertest.Server(t)
	link := brokertest.Proxy(t, server.URL())
	c := brokertest.Connect(t, link.URL())
	heard := heardOn(t, server.URL())
	link.Cut()
	brokertest.Eventually(t, 10*time.Second, "the connection is away", func() bool { return !c.NC.IsConnected() })
	o := outbox(t, c)
	start(t, o)
	for n := range 100 {
		if !o.Offer(part(n+1, "x")) {
			t.Fatal("there is no room")
		}
	}
	link.Heal()
	for n := range 100 {
		select {
		case got := <-heard:
			if got != n+1 {
				t.Fatalf("heard %d in the place of %d", got, n+1)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("draft %d is not heard", n+1)
		}
	}
}

// What was offered before the process leaves is published.
func TestAnOutboxThatEndsPublishesWhatIsLeft(t *testing.T) {
	t.Parallel()
	server := brokertest.Server(t)
	heard := heardOn(t, server.URL())
	o := outbox(t, brokertest.Connect(t, server.URL()))
	for n := range 50 {
		o.Offer(part(n+1, "x"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Run(ctx); err != nil {
		t.Error(err)
	}
	for n := range 50 {
		select {
		case <-heard:
		case <-time.After(10 * time.Second):
			t.Fatalf("draft %d is not heard", n+1)
		}
	}
}

// stalled is a server that greets and then reads nothing more.
func stalled(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var conns []net.Conn
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
			fmt.Fprint(c, `INFO {"server_id":"x","version":"2.15.2","max_payload":8388608,"headers":true,"proto":1}`+"\r\n")
			r := bufio.NewReader(c)
			for line := ""; line != "PING\r\n" && err == nil; {
				line, err = r.ReadString('\n')
			}
			fmt.Fprint(c, "PONG\r\n")
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	return "nats://" + l.Addr().String()
}

// A connection on which nothing goes on holds up who publishes, and nobody who offers.
func TestAServerThatReadsNoMoreHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	c, err := broker.Connect(broker.ConnectOptions{URL: stalled(t), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	o := outbox(t, c)
	stop := start(t, o)
	offering := make(chan struct{})
	go func() {
		defer close(offering)
		text := strings.Repeat("x", 64<<10)
		for full, n := 0, 0; full < 1000 && n < 1_000_000; n++ {
			if !o.Offer(part(n, text)) {
				full++
			}
		}
	}()
	select {
	case <-offering:
	case <-time.After(30 * time.Second):
		t.Error("offering is held up")
	}
	c.Close() // what is being written ends with it
	stop()
}
