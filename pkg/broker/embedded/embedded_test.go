package embedded_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker/embedded"
)

func start(t *testing.T, port int, store string) (*embedded.Server, error) {
	t.Helper()
	s, err := embedded.Start(embedded.Options{Port: port, Store: store, Sync: time.Second, Log: zerolog.Nop()})
	if err == nil {
		t.Cleanup(s.Stop)
	}
	return s, err
}

func TestASecondServerOnAStoreIsRefused(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s, err := start(t, -1, store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, -1, store); !errors.Is(err, embedded.ErrStoreInUse) {
		t.Fatalf("second server: %v", err)
	}
	s.Stop()
	if _, err := start(t, -1, store); err != nil {
		t.Fatalf("after the first has stopped: %v", err)
	}
}

func TestATakenPortIsSaid(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := start(t, l.Addr().(*net.TCPAddr).Port, t.TempDir()); !errors.Is(err, embedded.ErrPortTaken) {
		t.Fatalf("taken port: %v", err)
	}
}

func TestAStoreThatCannotBeMadeIsSaid(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, -1, filepath.Join(file, "store")); err == nil {
		t.Fatal("a server started in a file")
	}
}
