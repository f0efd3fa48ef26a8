package door

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
)

// The reads that may be under way at once are all taken: a poll that is woken by a reconnect is in the queue with the
// streams, and its wait ends in time.
func TestAPollReadsAnewWhenItIsItsTurn(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, served := w.open(w.conn)
	w.admit("a", "", "")
	if err := d.hub.subs[0].Unsubscribe(); err != nil { // that of results
		t.Fatal(err)
	}
	poll := func(wait string) (int, []byte) {
		answer, err := http.Get(served.URL + "/v1/jobs/a?wait=" + wait)
		if err != nil {
			t.Error(err)
			return 0, nil
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Error(err)
		}
		return answer.StatusCode, body
	}
	before := w.conn.NC.Stats().InMsgs
	done := make(chan struct{})
	go func() {
		defer close(done)
		var state State
		if status, body := poll("3"); status != http.StatusAccepted || json.Unmarshal(body, &state) != nil || state.ID != "a" {
			t.Errorf("while others read: %d %s", status, body)
		}
	}()
	brokertest.Eventually(t, 10*time.Second, "it has read that there is a marker and no result", func() bool {
		return d.hub.listening() == 1 && w.conn.NC.Stats().InMsgs >= before+2
	})
	for range readsAtOnce {
		d.hub.reads <- struct{}{}
	}
	w.complete("a", "", "")
	for {
		d.hub.wakeAll()
		select {
		case <-done:
			for range readsAtOnce {
				<-d.hub.reads
			}
			if status, body := poll("0"); status != http.StatusOK || !strings.HasPrefix(string(body), `{"v":1,"id":"a","run":1,`) {
				t.Errorf("afterwards: %d %s", status, body)
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestWhoseTurnToReadDoesNotComeIsToldToAskAgain(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	d, served := w.open(w.conn)
	w.admit("a", "", "")
	for range readsAtOnce {
		d.hub.reads <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, served.URL+"/v1/jobs/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
}
