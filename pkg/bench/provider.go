package bench

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/fakellm"
)

// maxIdle lets each slot of inference keep its connection.
const maxIdle = 512

// meter stands before the provider and measures how long each call takes there, from the request's headers
// to the last byte of the answer. It is in the way only while latencies are measured, of the relay as of
// the pipeline.
type meter struct {
	server  *http.Server
	proxy   *httputil.ReverseProxy
	url     string
	serving sync.WaitGroup

	mu    sync.Mutex
	taken map[string]time.Duration // by trace id; calls of one job are added up
}

func startMeter(provider *fakellm.Server) (*meter, error) {
	target, err := url.Parse(provider.Root())
	if err != nil {
		return nil, fmt.Errorf("read the provider's address: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen before the provider: %w", err)
	}
	m := &meter{taken: map[string]time.Duration{}, url: "http://" + l.Addr().String() + "/v1"}
	m.proxy = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     &http.Transport{MaxIdleConnsPerHost: maxIdle},
		FlushInterval: -1, // tokens pass on as they come
	}
	m.server = &http.Server{Handler: m, ReadHeaderTimeout: 10 * time.Second}
	m.serving.Go(func() {
		if err := m.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			m.server.ErrorLog.Print(err)
		}
	})
	return m, nil
}

// ServeHTTP passes a call on.
func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	trace := r.Header.Get("Traceparent")
	m.proxy.ServeHTTP(w, r)
	took := time.Since(began)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken[traceOf(trace)] += took
}

// of returns how long the calls of a job took.
func (m *meter) of(traceParent string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken[traceOf(traceParent)]
}

// traceOf cuts the trace id out of a traceparent.
func traceOf(traceParent string) string {
	const from, to = 3, 35
	if len(traceParent) < to {
		return ""
	}
	return traceParent[from:to]
}

func (m *meter) close() {
	_ = m.server.Close() // nobody calls any more
	m.serving.Wait()
	if t, ok := m.proxy.Transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// startProvider runs the simulated provider. It answers after latency, and streams a token a chunk.
func startProvider(latency time.Duration, log zerolog.Logger) (*fakellm.Server, error) {
	p, err := fakellm.Start(fakellm.Options{Latency: fakellm.Latency{FirstToken: latency}, Log: log})
	if err != nil {
		return nil, fmt.Errorf("start the simulated provider: %w", err)
	}
	return p, nil
}
