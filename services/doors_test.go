package services_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"spillway/pkg/fate"
)

// door is an address at which no provider answers as one, instead of the fake's.
type door struct {
	url string
	// knocks counts the calls that came; nil: nobody is there to count.
	knocks func() int
}

// shut are the rows of faults that the fake provider cannot have.
func shut() []row {
	unreachable := outcome{interactive: 2, batch: 5, breaker: counts, alone: byOtherModel, code: fate.ProviderUnreachable}
	unavailable := unreachable
	unavailable.code = fate.ProviderUnavailable
	return []row{
		{outcome: unreachable.named("connection refused"), door: refusing},
		{outcome: unreachable.named("a name that is not resolved"), door: unnamed},
		{outcome: unreachable.named("TLS with who does not speak it"), door: plaintext},
		{outcome: unavailable.named("408"), door: answering(http.StatusRequestTimeout)},
	}
}

// refusing is a port that is taken, and on which nobody listens.
func refusing(t *testing.T, _ string) door {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatalf("make a socket: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("take a port: %v", err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("look at the port: %v", err)
	}
	return door{url: fmt.Sprintf("http://127.0.0.1:%d/v1", at.(*syscall.SockaddrInet4).Port)}
}

func unnamed(*testing.T, string) door { return door{url: "http://no-such-host.invalid/v1"} }

// plaintext leads to the fake provider, which is asked for a handshake there and speaks plain HTTP.
func plaintext(t *testing.T, fake string) door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen in front of the provider: %v", err)
	}
	target := strings.TrimSuffix(strings.TrimPrefix(fake, "http://"), "/v1")
	var knocks atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			knocks.Add(1)
			all.Go(func() { lead(client, target) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return door{url: "https://" + l.Addr().String() + "/v1", knocks: func() int { return int(knocks.Load()) }}
}

// lead joins a connection with one to target until either ends.
func lead(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server) // ends when either side is closed
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}

// answering has somebody there who says nothing but a status.
func answering(status int) func(*testing.T, string) door {
	return func(t *testing.T, _ string) door {
		t.Helper()
		var knocks atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			knocks.Add(1)
			w.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		return door{url: s.URL + "/v1", knocks: func() int { return int(knocks.Load()) }}
	}
}
