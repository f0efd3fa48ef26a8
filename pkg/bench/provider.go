package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
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
	server   *http.Server
	client   *http.Client
	provider string
	url      string
	serving  sync.WaitGroup

	mu    sync.Mutex
	taken map[string]time.Duration // by trace id; calls of one job are added up
}

func startMeter(provider *fakellm.Server) (*meter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen before the provider: %w", err)
	}
	m := &meter{
		taken: map[string]time.Duration{}, provider: provider.Root(), url: "http://" + l.Addr().String() + "/v1",
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: maxIdle, DisableCompression: true}},
	}
	m.server = &http.Server{Handler: m, ReadHeaderTimeout: 10 * time.Second}
	m.serving.Go(func() { _ = m.server.Serve(l) }) // calls that are not answered show as failed jobs
	return m, nil
}

// ServeHTTP passes a call on.
func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	if err := m.forward(w, r); err != nil {
		panic(http.ErrAbortHandler) // the caller sees a broken connection, which is what it was
	}
	took := time.Since(began)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken[traceOf(r.Header.Get("Traceparent"))] += took
}

// forward passes the request on whole, and the answer byte by byte as it comes.
func (m *meter) forward(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, m.provider+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	out.Header = r.Header.Clone()
	resp, err := m.client.Do(out)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	flush := http.NewResponseController(w)
	buffer := make([]byte, forwardBytes)
	for {
		n, err := resp.Body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if err := flush.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// forwardBytes are passed on at once.
const forwardBytes = 32 << 10

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
	m.client.CloseIdleConnections()
}

// startProvider runs the simulated provider. It answers after latency, and streams a token a chunk.
func startProvider(latency time.Duration, log zerolog.Logger) (*fakellm.Server, error) {
	p, err := fakellm.Start(fakellm.Options{Latency: fakellm.Latency{FirstToken: latency}, Log: log})
	if err != nil {
		return nil, fmt.Errorf("start the simulated provider: %w", err)
	}
	return p, nil
}
