package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
)

func TestABreakerIsMovedByHand(t *testing.T) {
	r := pipeline(t)
	calls := func(id string) int { return r.provider.Counts().Nonces[fakellm.Nonce(id)] }

	r.spillway(t, "breaker", "ls").with(exitOK, "no breaker has opened")
	r.spillway(t, "breaker", "open", "simulated", "--for=1h", "--why=maintenance of the provider").with(exitOK, "model simulated  open for", "maintenance of the provider")
	r.spillway(t, "breaker", "ls").with(exitOK, "simulated", "open", "operator", "maintenance")
	if row := r.spillway(t, "breaker", "ls", "--json").with(exitOK).one(); row["state"] != "open" || row["name"] != "simulated" || row["kind"] != "model" || row["why"] != "maintenance of the provider" {
		t.Errorf("%v", row)
	}
	brokertest.Eventually(t, 5*time.Second, "nothing is sent to the model", func() bool {
		id := "shut-" + time.Now().Format("150405000000")
		got := r.spillway(t, "submit", "analyze", `{"text":"`+id+`"}`, "--json").one()
		return got["status"] == "degraded" && calls(id) == 0
	})

	r.spillway(t, "breaker", "close", "simulated").with(exitOK, "closed")
	brokertest.Eventually(t, 5*time.Second, "the model is called again", func() bool {
		id := "back-" + time.Now().Format("150405000000")
		return r.spillway(t, "submit", "analyze", `{"text":"`+id+`"}`, "--json").one()["status"] == "succeeded"
	})
	r.spillway(t, "breaker", "reset", "simulated").with(exitOK, "closed")
	r.spillway(t, "breaker", "ls").with(exitOK, "no breaker has opened")
}

func TestAWholeProviderIsShutByHandAndTheChangeIsTold(t *testing.T) {
	r := serve(t)
	nc, err := nats.Connect(r.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	events, err := nc.SubscribeSync("llm.event.breaker.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	r.spillway(t, "breaker", "open", "openai", "--provider", "--for=10m", "--why=the bill").with(exitOK, "provider openai  open for")
	m, err := events.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var event struct{ Kind, Name, State, Why string }
	if err := json.Unmarshal(m.Data, &event); err != nil || m.Subject != "llm.event.breaker.provider.openai" {
		t.Fatalf("%s: %s, %v", m.Subject, m.Data, err)
	}
	if event.Kind != "provider" || event.Name != "openai" || event.State != "open" || event.Why != "the bill" {
		t.Errorf("event %s", m.Data)
	}
}

func TestABreakerThatNobodyKnowsIsSaidToBeSo(t *testing.T) {
	r := serve(t)
	r.spillway(t, "breaker", "open", "smal", "--for=10m", "--why=a slip").with(exitOK, `no pipeline here has had a model "smal"`)
	r.spillway(t, "breaker", "open", "a.b", "--for=10m", "--why=x").with(exitUsage, "not the name of a model")
	r.spillway(t, "breaker", "open", "small", "--for=10ms", "--why=x").with(exitUsage, "--for is a duration from 1s")
	r.spillway(t, "breaker", "open", "small", "--why=x").with(exitUsage, "--for")
	r.spillway(t, "breaker", "close", "never-open").with(exitOK, "closed")
}
