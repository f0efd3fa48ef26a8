package services_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// circuits are the records of the breakers as any NATS client reads them.
type circuits struct {
	t  *testing.T
	kv jetstream.KeyValue
}

// circuit is what the tests look at of a record.
type circuit struct {
	State        string
	Until, Lease time.Time
	Why          string
}

// The states of a circuit, as they are stored.
const (
	closed   = "closed"
	open     = "open"
	halfOpen = "half_open"
)

func (r *rig) circuits() circuits {
	r.t.Helper()
	nc, err := nats.Connect(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	kv, err := js.KeyValue(r.t.Context(), "llm_breakers")
	if err != nil {
		r.t.Fatal(err)
	}
	return circuits{r.t, kv}
}

// of is a circuit's record; without one it is closed.
func (c circuits) of(key string) circuit {
	c.t.Helper()
	entry, err := c.kv.Get(c.t.Context(), key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return circuit{State: closed}
	}
	if err != nil {
		c.t.Fatalf("read the record of %s: %v", key, err)
	}
	var found circuit
	if err := json.Unmarshal(entry.Value(), &found); err != nil {
		c.t.Fatalf("the record of %s is no JSON: %v", key, err)
	}
	return found
}

// becomes waits until a circuit has a state.
func (c circuits) becomes(key, state string) circuit {
	c.t.Helper()
	var found circuit
	brokertest.Eventually(c.t, 10*time.Second, key+" becomes "+state, func() bool {
		found = c.of(key)
		return found.State == state
	})
	return found
}

// broken marks an input whose calls fail.
const broken = "[broken]"

// breaks lets calls of model small fail, for jobs of bare, until its circuit is open. Each replica counts what
// it sees, so that it takes more than five calls when there are several. Calls of other inputs are answered as
// before.
func (r *rig) breaks() circuit {
	r.t.Helper()
	r.first.SetFaults(fakellm.Fault{Kind: "503", Match: broken})
	records := r.circuits()
	found := circuit{}
	for n := 0; n < 30 && found.State != open; n++ {
		r.result(r.ask(job.Interactive, "bare", fmt.Sprintf("%s %d", broken, n)), 1)
		found = records.of("model.small")
	}
	if found.State != open {
		r.t.Fatalf("the circuit of small does not open: %+v after %d calls", found, smallCalls(r))
	}
	return found
}
