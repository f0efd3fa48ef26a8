package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"spillway/pkg/broker"
	"spillway/services/ingest/door"
)

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// webServer serves what a process shows over HTTP: health, metrics, the door.
type webServer struct {
	server  *http.Server
	scheme  string
	address string
	done    chan struct{}
	// more are closed with it: the server of the metrics, the door.
	more []func()
}

// maxHeaderBytes is what the headers of a request may take: keys, tokens and names are all short.
const maxHeaderBytes = 32 << 10

// listen takes an address at once; nil: there is none to take.
func listen(flag, address string) (net.Listener, error) {
	if isOff(address) {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("the HTTP address %s is taken; choose another with --%s, or --%s off", address, flag, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on --%s %s: %w", flag, address, err)
	}
	return l, nil
}

func isOff(address string) bool { return address == "" || address == "off" }

// serveHTTP serves the health and the metrics of a process without a door.
func serveHTTP(address string, p *process, conn *broker.Conn) (*webServer, error) {
	l, err := listen("http", address)
	if l == nil {
		return &webServer{}, err
	}
	mux := http.NewServeMux()
	p.healthOn(mux, conn)
	p.metricsOn(mux)
	return p.serveOn(l, ownOnly(l, mux)), nil
}

// ownOnly keeps pages of a browser on this machine from reading what is for this machine alone, which they could by
// a name of their own that leads here. A request with a body is answered and closed: nobody reads it.
func ownOnly(l net.Listener, next http.Handler) http.Handler {
	loopback := isLoopback(l.Addr())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			defer door.LeaveUnread(w)
		}
		if loopback && r.Host != "" && !door.IsLoopbackHost(r.Host) {
			http.Error(w, "this address answers by the name of this machine only: 127.0.0.1, localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// beside serves the paths of own by it, and all others by next, as they were sent.
func beside(own, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/readyz", "/metrics":
			own.ServeHTTP(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// healthOn serves /healthz and /readyz.
func (p *process) healthOn(mux *http.ServeMux, conn *broker.Conn) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !conn.NC.IsConnected() {
			http.Error(w, "not connected to NATS", http.StatusServiceUnavailable)
			return
		}
		if why := p.unready(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
}

func (p *process) metricsOn(mux *http.ServeMux) {
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
}

// serveOn serves in the background.
func (p *process) serveOn(l net.Listener, handler http.Handler) *webServer {
	w := &webServer{
		server: &http.Server{
			Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeaderBytes,
			ErrorLog: log.New(p.env.Log.With().Str("from", "http").Logger(), "", 0),
		},
		scheme: "http", address: l.Addr().String(), done: make(chan struct{}),
	}
	go func() {
		defer close(w.done)
		_ = w.server.Serve(l) // ends with ErrServerClosed, by close
	}()
	return w
}

func (w *webServer) url() string { return w.scheme + "://" + w.address }

func (w *webServer) close() {
	for _, f := range w.more {
		f()
	}
	if w.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if w.server.Shutdown(ctx) != nil {
		_ = w.server.Close()
	}
	<-w.done
}
