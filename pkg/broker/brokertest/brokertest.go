// Package brokertest gives tests a real nats-server: one, or a cluster of three, in the test's process.
package brokertest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/embedded"
)

// Server runs a server until the test ends.
func Server(t testing.TB) *embedded.Server {
	t.Helper()
	return StartServer(t, embedded.Options{Port: -1, Store: t.TempDir(), Sync: time.Second})
}

// StartServer runs a server with the given options until the test ends, or is stopped by it.
func StartServer(t testing.TB, o embedded.Options) *embedded.Server {
	t.Helper()
	o.Log = zerolog.Nop()
	s, err := embedded.Start(o)
	if err != nil {
		t.Fatalf("start a NATS server: %v", err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Cluster runs three servers that form one cluster.
func Cluster(t testing.TB) []*embedded.Server {
	t.Helper()
	ports := freePorts(t, 3)
	var routes []string
	for _, p := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", p))
	}
	servers := make([]*embedded.Server, len(ports))
	errs := make([]error, len(ports))
	var all sync.WaitGroup
	for i, p := range ports {
		dir := t.TempDir()
		all.Go(func() {
			servers[i], errs[i] = embedded.Start(embedded.Options{
				Port: -1, Store: dir, Sync: time.Second, Name: fmt.Sprintf("n%d", i), Log: zerolog.Nop(),
				Cluster: &embedded.Cluster{Port: p, Routes: routes},
			})
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("start node %d: %v", i, err)
		}
		t.Cleanup(servers[i].Stop)
	}
	return servers
}

// Connect opens a connection until the test ends.
func Connect(t testing.TB, url string) *broker.Conn {
	t.Helper()
	c, err := broker.Connect(broker.ConnectOptions{URL: url, Name: "test", Patient: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// Ensure makes the streams of a topology.
func Ensure(t testing.TB, c *broker.Conn, topology broker.Topology) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := c.Ensure(ctx, topology); err != nil {
		t.Fatalf("make the streams: %v", err)
	}
}

// Eventually polls a condition until it holds.
func Eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		case <-tick.C:
		}
	}
}

func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("find a free port: %v", err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
