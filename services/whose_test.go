package services_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// The doors route by the headers: what lacks them would be seen by nobody, what has another's by the wrong one.
func TestEveryMessageThatLeavesSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	r, _ := draftRig(t)
	nc, err := nats.Connect(r.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	var mu sync.Mutex
	whose := map[string]map[string]int{} // by id and kind of message, by tenant and session
	for _, kind := range []string{"llm.result.>", "llm.progress.*.*", "llm.delta.*.*", "llm.admitted.*"} {
		if _, err := nc.Subscribe(kind, func(m *nats.Msg) {
			tokens := strings.Split(m.Subject, ".")
			key := tokens[len(tokens)-1] + " " + tokens[1]
			mu.Lock()
			defer mu.Unlock()
			if whose[key] == nil {
				whose[key] = map[string]int{}
			}
			tenant, named := m.Header["Spillway-Tenant"]
			session, joined := m.Header["Spillway-Session"]
			if named && len(tenant) != 1 || joined && len(session) != 1 {
				t.Errorf("%s: %v", m.Subject, m.Header)
			}
			whose[key][strings.Join(append(tenant, session...), " in ")]++
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	owned := r.result(r.publish(job.Interactive, "toy", "", asking("A story.", map[string]any{"stream": true, "tenant": "acme", "session": "user/42"})), 1)
	free := r.result(r.publish(job.Interactive, "toy", "", asking("Another.", map[string]any{"stream": true})), 1)
	for id, want := range map[string]string{owned.ID: "acme in user/42", free.ID: ""} {
		for _, kind := range []string{"result", "progress", "delta", "admitted"} {
			brokertest.Eventually(t, 10*time.Second, "there is a "+kind+" of "+id, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(whose[id+" "+kind]) > 0
			})
			mu.Lock()
			if got := slices.Collect(maps.Keys(whose[id+" "+kind])); !slices.Equal(got, []string{want}) {
				t.Errorf("%s of %q says it is of %q", kind, want, got)
			}
			mu.Unlock()
		}
	}
}
