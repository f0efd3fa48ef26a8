package brokertest

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Link is a TCP connection to a server that a test can cut, for one client of many.
type Link struct {
	listener net.Listener
	target   string
	all      sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]struct{}
}

// Proxy stands in front of the server at the URL until the test ends.
func Proxy(t testing.TB, server string) *Link {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("the server's address: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen in front of the server: %v", err)
	}
	k := &Link{listener: l, target: u.Host, conns: map[net.Conn]struct{}{}}
	k.all.Go(k.accept)
	t.Cleanup(func() {
		l.Close()
		k.Cut()
		k.all.Wait()
	})
	return k
}

// URL is where clients reach the server through the link.
func (k *Link) URL() string { return "nats://" + k.listener.Addr().String() }

// Cut closes all connections, and each new one as soon as it is made.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
	for c := range k.conns {
		c.Close()
	}
	clear(k.conns)
}

// Heal lets connections be made again.
func (k *Link) Heal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = false
}

func (k *Link) accept() {
	for {
		client, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.all.Go(func() { k.pass(client) })
	}
}

func (k *Link) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", k.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !k.note(client, server) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server) // ends when either side is closed
		client.Close()
	})
	_, _ = io.Copy(server, client)
	server.Close()
	back.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, client)
	delete(k.conns, server)
}

// note reports whether connections may be made.
func (k *Link) note(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut {
		return false
	}
	for _, c := range conns {
		k.conns[c] = struct{}{}
	}
	return true
}
