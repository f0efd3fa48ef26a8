// Package embedded runs a nats-server inside the process: the one of `spillway up`, and of the tests.
//
// It is a server like any other, reached over loopback by its URL; nothing outside this package and main
// knows that it shares the process.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

// Options of an embedded server.
type Options struct {
	// Port on 127.0.0.1; -1: any free one.
	Port int
	// Store is the folder of the streams. It is created, and locked against a second server.
	Store string
	// Sync is how often stored messages are forced to disk; 0: before each acknowledgement ("always").
	Sync time.Duration
	// Name is the server's; "": spillway.
	Name string
	// Cluster joins servers; nil: it stands alone.
	Cluster *Cluster
	Log     zerolog.Logger
}

// Cluster is this server's part in a cluster.
type Cluster struct {
	Port   int
	Routes []string
}

// Limits of the embedded server. nats.conf has the same.
const (
	MaxPayload = 8 << 20
	maxPending = 512 << 20
	// maxStore is no reservation: a full disk is said by the disk.
	maxStore     = 1 << 44
	maxMemory    = 1 << 30
	startTimeout = 60 * time.Second
)

// Server is a running embedded server.
type Server struct {
	*server.Server
	lock *os.File
	// unwatch ends the watch over the disk; nil in a cluster, whose other members go on.
	unwatch func()
}

// ErrPortTaken and ErrStoreInUse are told apart because their remedies differ.
var (
	ErrPortTaken  = errors.New("the port is taken")
	ErrStoreInUse = errors.New("the store is in use")
)

// Start runs a server and returns when JetStream answers.
func Start(o Options) (*Server, error) {
	lock, err := lockStore(o.Store)
	if err != nil {
		return nil, err
	}
	s, err := start(o)
	if err != nil {
		unlock(lock)
		return nil, err
	}
	own := &Server{Server: s, lock: lock}
	if o.Cluster == nil {
		stop := make(chan struct{})
		var watching sync.WaitGroup
		watching.Go(func() { heal(s, o.Store, stop, o.Log) })
		own.unwatch = sync.OnceFunc(func() { close(stop); watching.Wait() })
	}
	return own, nil
}

func start(o Options) (*server.Server, error) {
	if err := portFree(o.Port); err != nil {
		return nil, err
	}
	s, err := server.NewServer(options(o))
	if err != nil {
		return nil, fmt.Errorf("configure the embedded NATS server: %w", err)
	}
	fatal := make(chan string, 1)
	s.SetLoggerV2(&logger{log: o.Log, fatal: fatal}, o.Log.GetLevel() <= zerolog.DebugLevel, false, false)
	go s.Start()
	if err := ready(s, o.Cluster == nil, fatal); err != nil {
		s.Shutdown()
		return nil, err
	}
	return s, nil
}

func options(o Options) *server.Options {
	name := o.Name
	if name == "" {
		name = "spillway"
	}
	opts := &server.Options{
		ServerName: name, Host: "127.0.0.1", Port: o.Port, NoSigs: true,
		MaxPayload: MaxPayload, MaxPending: maxPending, WriteDeadline: 10 * time.Second,
		PingInterval: 20 * time.Second,
		JetStream:    true, StoreDir: o.Store, JetStreamMaxStore: maxStore, JetStreamMaxMemory: maxMemory,
		SyncInterval: o.Sync, SyncAlways: o.Sync == 0,
	}
	if o.Sync == 0 {
		opts.SyncInterval = time.Minute
	}
	if c := o.Cluster; c != nil {
		opts.Cluster = server.ClusterOpts{Name: "spillway", Host: "127.0.0.1", Port: c.Port}
		for _, r := range c.Routes {
			opts.Routes = append(opts.Routes, server.RoutesFromStr(r)...)
		}
	}
	return opts
}

// ready waits for JetStream itself: of a lone server the enabled store, of a cluster its meta leader.
func ready(s *server.Server, alone bool, fatal <-chan string) error {
	deadline := time.After(startTimeout)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case why := <-fatal:
			return fmt.Errorf("start the embedded NATS server: %s", why)
		case <-deadline:
			return fmt.Errorf("the embedded NATS server was not ready within %s", startTimeout)
		case <-tick.C:
		}
		switch {
		case !s.ReadyForConnections(time.Millisecond):
		case alone && s.JetStreamEnabled():
			return nil
		case !alone && s.Healthz(&server.HealthzOptions{}).StatusCode == http.StatusOK:
			return nil
		}
	}
}

// Stop shuts the server down and waits until all is written.
func (s *Server) Stop() {
	if s.unwatch != nil {
		s.unwatch()
	}
	s.Shutdown()
	s.WaitForShutdown()
	unlock(s.lock)
}

// URL is where clients reach it.
func (s *Server) URL() string { return s.ClientURL() }

func portFree(port int) error {
	if port < 0 {
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("%w: nothing can listen on 127.0.0.1:%d: %w", ErrPortTaken, port, err)
	}
	return l.Close()
}

// lockStore makes the folder and holds an advisory lock in it: two servers on one store destroy it.
func lockStore(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("create the store: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write to the store: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		unlock(f)
		return nil, fmt.Errorf("%w: another process has %s", ErrStoreInUse, dir)
	}
	return f, nil
}

// unlock lets the store go. A file that was only locked has nothing to lose when it is closed.
func unlock(f *os.File) { _ = f.Close() }
