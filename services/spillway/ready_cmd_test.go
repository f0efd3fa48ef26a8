package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestReadyAsksTheProcessBeside(t *testing.T) {
	answer := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("it asks for %s", r.URL)
		}
		if answer != http.StatusOK {
			http.Error(w, "not connected to NATS", answer)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	port := func(s *httptest.Server) string { return s.URL[strings.LastIndex(s.URL, ":"):] }
	// As the process is told its address in a container.
	t.Setenv("SPILLWAY_HTTP", "0.0.0.0"+port(plain))
	spillway(t, "ready").with(exitOK)
	spillway(t, "ready", "--http", "127.0.0.1"+port(secure), "--tls-cert", "door.pem").with(exitOK)
	answer = http.StatusServiceUnavailable
	spillway(t, "ready").with(exitFailed, "not ready: not connected to NATS")
	plain.Close()
	spillway(t, "ready").with(exitFailed, "no process answers")
	spillway(t, "ready", "--http", "here").with(exitUsage, "127.0.0.1:8080")
}
