package services_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// echo starts a provider that repeats in its errors what it was sent, from the mark on.
func echo(t *testing.T, mark string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		said := ""
		if at := strings.Index(string(body), mark); at >= 0 {
			said = string(body)[at : at+len(mark)]
		}
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprintf(w, `{"error":{"message":"could not process %s"}}`, said)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1"
}

// overheard is all that an independent subscriber hears on a subject.
type overheard struct {
	mu   sync.Mutex
	said []string
}

func overhear(t *testing.T, url, subject string) *overheard {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	o := &overheard{}
	if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.said = append(o.said, string(m.Data))
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *overheard) all() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.said, "\n")
}

func TestWhatAProviderRepeatsOfAJobIsToldToThatJobOnly(t *testing.T) {
	t.Parallel()
	const private = "PRIVATE iban DE02 1203 0000"
	url := brokertest.Server(t).URL()
	r := setupWith(t, url, 1, func(_, second string) fstest.MapFS { return patient(defaultLimits)(echo(t, private), second) })
	events := overhear(t, url, "llm.event.breaker.>")
	r.run()
	records := r.circuits()
	for n := 0; n < 10 && records.of("model.small").State != open; n++ {
		own := r.result(r.ask(job.Interactive, "bare", fmt.Sprintf("%s, %d", private, n)), 1)
		if own.Usage.Calls > 0 && !strings.Contains(lines(own.History), private) {
			t.Errorf("a job is not told what the provider said of it: %s", lines(own.History))
		}
	}
	records.becomes("model.small", open)
	other := r.result(r.ask(job.Interactive, "bare", "of another tenant"), 1)
	check(t, "another tenant's", other, ending{status: job.Failed})
	if other.Error == nil || other.Error.Code != fate.ProviderUnavailable || other.Usage.Calls != 0 {
		t.Fatalf("the other job met no open breaker: %+v, %d calls", other.Error, other.Usage.Calls)
	}
	record, err := records.kv.Get(t.Context(), "model.small")
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 5*time.Second, "the event is heard", func() bool { return strings.Contains(events.all(), open) })
	told, err := json.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"the record": string(record.Value()), "the events": events.all(), "another job's result": string(told)} {
		if strings.Contains(text, "PRIVATE") || strings.Contains(text, "iban") {
			t.Errorf("%s: %s", what, text)
		}
	}
}
