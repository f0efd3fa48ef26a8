package services_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// states follows a circuit from its record of now on; the returned function says the states that it had.
func (c circuits) states(key string) (seen func() []string) {
	c.t.Helper()
	w, err := c.kv.Watch(c.t.Context(), key)
	if err != nil {
		c.t.Fatal(err)
	}
	return func() []string {
		c.t.Helper()
		last, err := c.kv.Get(c.t.Context(), key)
		if err != nil {
			c.t.Fatal(err)
		}
		var states []string
		for e := range w.Updates() {
			if e == nil { // all that was there at the start has come
				continue
			}
			states = append(states, stateOf(c.t, e))
			if e.Revision() >= last.Revision() {
				break
			}
		}
		if err := w.Stop(); err != nil {
			c.t.Error(err)
		}
		return states
	}
}

func stateOf(t *testing.T, e jetstream.KeyValueEntry) string {
	t.Helper()
	var found circuit
	if err := json.Unmarshal(e.Value(), &found); err != nil {
		t.Fatalf("the record of %s is no JSON: %v", e.Key(), err)
	}
	return found.State
}

// withKeys gives the first provider's keys in a file.
func withKeys(t *testing.T, limits string, keys ...string) func(first, second string) fstest.MapFS {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(strings.Join(keys, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(first, second string) fstest.MapFS {
		fs := patient(limits)(first, second)
		y := strings.Replace(string(fs["models.yaml"].Data), fmt.Sprintf("base_url: %q, api_key: none", first), fmt.Sprintf("base_url: %q, api_key_file: %q", first, path), 1)
		fs["models.yaml"] = &fstest.MapFile{Data: []byte(y)}
		return fs
	}
}

// Each replica has to find out for itself which keys are refused: that must not look like a provider that works.
func TestAProviderThatRefusesAllOfSeveralKeysIsProbedOnceAPeriodAndStaysShut(t *testing.T) {
	t.Parallel()
	const (
		period = 700 * time.Millisecond
		probes = 5
		jobs   = 12
	)
	r := setupWith(t, brokertest.Server(t).URL(), 1, withKeys(t, halfOpenAfter("700ms"), "key-one", "key-two", "key-three"))
	r.first.SetFaults(fakellm.Fault{Kind: "401"})
	r.run()
	r.run(broker.Inference)
	records := r.circuits()
	found := circuit{}
	for n := 0; n < 10 && found.State != open; n++ {
		r.result(r.ask(job.Interactive, "toy", fmt.Sprintf("finds out, %d", n)), 1)
		found = records.of("provider.one")
	}
	if keys := r.first.Counts().Keys; found.State != open || keys["key-one"].Calls == 0 || keys["key-two"].Calls == 0 || keys["key-three"].Calls == 0 {
		t.Fatalf("the circuit is %+v after the calls %+v", found, keys)
	}
	before := smallCalls(r)
	states := records.states("provider.one")
	for n := range jobs {
		r.publish(job.Interactive, "patient", "", withDeadline(fmt.Sprintf("waits, %d", n), "2m"))
	}
	r.awaits(func(c fakellm.Counts) bool { return c.Models["small-1"].Calls >= before+probes })
	for _, state := range states() {
		if state == closed {
			t.Error("the circuit was closed while every key was refused")
		}
	}
	calls := r.first.Arrivals("small-1")[before:]
	for n, at := range calls {
		// A probe counts from just before its call is sent.
		if soonest := found.Until.Add(time.Duration(n)*period - 200*time.Millisecond); at.Before(soonest) {
			t.Errorf("probe %d of %d came %s before its period", n+1, len(calls), soonest.Sub(at))
		}
	}
}

// What the model answers to the probe of its provider is the model's matter: the key is accepted again.
func TestAProviderThatAcceptsItsKeyAgainIsClosedByAProbeThatItsModelFails(t *testing.T) {
	t.Parallel()
	for kind, ofModel := range map[string]string{"404": open, "500": closed} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := setupPatient(t, halfOpenAfter("700ms"))
			r.first.SetFaults(fakellm.Fault{Kind: "401"})
			r.run()
			check(t, "the one that finds out", r.result(r.ask(job.Interactive, "toy", "first"), 1), byOtherModel)
			records := r.circuits()
			records.becomes("provider.one", open)
			r.first.SetFaults(fakellm.Fault{Kind: kind})
			r.parks(job.Interactive, "patient", 1, "1m")
			r.awaits(func(c fakellm.Counts) bool { return c.Outcomes[kind] >= 1 })
			records.becomes("provider.one", closed)
			if ofModel == open {
				records.becomes("model.small", open)
			} else if got := records.of("model.small"); got.State != closed {
				t.Errorf("one failure opened the circuit of the model: %+v", got)
			}
		})
	}
}
