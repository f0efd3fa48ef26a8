package brokertest

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Restricted runs a server with two users until the test ends, and returns their URLs: one may do all, the other
// what the permissions say. What it may not ask is not answered.
func Restricted(t testing.TB, p server.Permissions) (all, restricted string) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		JetStreamMaxStore: 1 << 44, // no share of the disk that happens to be free
		Users:             []*server.User{{Username: "all", Password: "p"}, {Username: "restricted", Password: "p", Permissions: &p}},
	})
	if err != nil {
		t.Fatalf("configure a NATS server: %v", err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	address := ":p@" + s.Addr().String()
	return "nats://all" + address, "nats://restricted" + address
}
