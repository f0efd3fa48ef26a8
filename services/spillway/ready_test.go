package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
)

// In a rolling deployment the old process leaves when the new one says that it is ready.
func TestAProcessIsReadyOnceItWatchesAllDeadlines(t *testing.T) {
	r := serve(t)
	tasks, err := loadTasks("", noEnv)
	if err != nil {
		t.Fatal(err)
	}
	conn := brokertest.Connect(t, r.url)
	p, err := newProcess(conn, tasks, roleFlags{Grace: time.Second}, noEnv, zerolog.Nop(), broker.Fallback)
	if err != nil {
		t.Fatal(err)
	}
	web, err := serveHTTP("127.0.0.1:0", p, conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(web.close)
	if code, said := ready(t, web); code != http.StatusServiceUnavailable || !strings.Contains(said, "deadlines") {
		t.Errorf("before it reads them: %d %s", code, said)
	}
	ctx, leave := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = p.run(ctx) })
	t.Cleanup(func() { leave(); running.Wait() })
	brokertest.Eventually(t, 10*time.Second, "it is ready", func() bool {
		code, _ := ready(t, web)
		return code == http.StatusOK
	})
}

func ready(t *testing.T, web *webServer) (code int, said string) {
	t.Helper()
	resp, err := (&upProcess{http: web.address}).get(t.Context(), "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := make([]byte, 200)
	n, _ := resp.Body.Read(body)
	return resp.StatusCode, string(body[:n])
}
