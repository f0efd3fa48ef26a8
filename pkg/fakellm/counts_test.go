package fakellm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/pkg/fakellm"
)

func TestTheCountsAreRightUnder200ConcurrentCalls(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "hang", Match: "hold"}, {Kind: "500", Model: "bad"}}})
	ctx, leave := context.WithCancel(b.ctx)
	defer leave()
	models := []string{"good", "bad"}
	var calls, held sync.WaitGroup
	for i := range 200 {
		calls.Go(func() {
			for j := range 3 {
				r := b.request(t, b.ctx, http.MethodPost, "/v1/chat/completions", ask(fmt.Sprint("input ", i, " ", j%2), object{"model": models[i%2], "stream": j == 0}))
				r.Header.Set("Authorization", "Bearer key-"+fmt.Sprint(i%4))
				b.do(t, r)
			}
		})
		held.Go(func() {
			response, err := b.send(t, ctx, ask("hold "+fmt.Sprint(i), object{"model": "held"}))
			if err == nil {
				response.Body.Close()
				t.Error("a held call was answered")
			}
		})
	}
	calls.Wait()
	if err := b.Await(b.ctx, func(c fakellm.Counts) bool { return c.Models["held"].InFlight == 200 && c.InFlight == 200 }); err != nil {
		t.Fatalf("%v: %+v", err, b.Counts())
	}
	leave()
	held.Wait()
	b.left(t, 200)

	c := b.Counts()
	equal(t, "calls", c.Calls, 800)
	equal(t, "in flight", c.InFlight, 0)
	equal(t, "most in flight of held", c.Models["held"].MaxInFlight, 200)
	equal(t, "ok", c.Outcomes["ok"], 300)
	equal(t, "500", c.Outcomes["500"], 300)
	equal(t, "hang", c.Outcomes["hang"], 200)
	equal(t, "good", c.Models["good"].Outcomes["ok"], 300)
	equal(t, "bad", c.Models["bad"].Calls, 300)
	equal(t, "a key", c.Keys["key-3"].Calls, 150)
	equal(t, "no key", c.Keys[""].Disconnects, 200)
	equal(t, "inputs", len(c.Nonces), 600)
	equal(t, "calls of an input", c.Nonces[fakellm.Nonce("input 7 0")], 2)
	equal(t, "calls of another input", c.Nonces[fakellm.Nonce("input 7 1")], 1)
}

func TestAClientThatLeavesAGoodAnswerIsCountedAsDisconnected(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Latency: fakellm.Latency{PerToken: time.Hour}})
	b.readUntil(t, ask("x", object{"stream": true}), "assistant")
	b.left(t, 1)
	equal(t, "outcome", b.Counts().Outcomes[fakellm.OutcomeDisconnected], 1)
	equal(t, "ok", b.Counts().Outcomes["ok"], 0)
}

func TestARequestIsRecordedAsItWasSent(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	body := ask("x", object{"temperature": 0, "seed": 7, "max_completion_tokens": 300, "response_format": formatOf(routing())})
	r := b.request(t, b.ctx, http.MethodPost, "/v1/chat/completions", body)
	r.Header.Set("Traceparent", "00-"+traceA+"-00f067aa0ba902b7-01")
	r.Header.Set("Authorization", "Bearer sk-secret")
	b.do(t, r)
	b.chat(t, ask("y", object{"model": "other"}))

	all := b.Requests("")
	equal(t, "recorded", len(all), 2)
	equal(t, "of the other model", b.Requests("other")[0].N, all[1].N)
	got := all[0]
	equal(t, "traceparent", got.Header.Get("Traceparent"), "00-"+traceA+"-00f067aa0ba902b7-01")
	equal(t, "the key is not among the headers", got.Header.Get("Authorization"), "")
	equal(t, "key", got.Key, "sk-secret")
	equal(t, "nonce", got.Nonce, fakellm.Nonce("x"))
	equal(t, "kind", got.Kind, "ok")
	var sent object
	if err := got.Decode(&sent); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"temperature": 0.0, "seed": 7.0, "max_completion_tokens": 300.0} {
		equal(t, key, sent[key], want)
	}
}

func TestTheRecordIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	for i := range 1010 {
		b.chat(t, ask(fmt.Sprint(i), nil))
	}
	b.chat(t, ask(strings.Repeat("long ", 10_000), nil))
	all := b.Requests("")
	equal(t, "recorded", len(all), 1000)
	equal(t, "the oldest", all[0].N, uint64(12))
	last := all[len(all)-1]
	equal(t, "body", len(last.Body), 16<<10)
	equal(t, "truncated", last.Truncated, true)
	equal(t, "counted", b.Counts().Calls, 1011)
}

func TestAwaitEndsWithTheCauseOfItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(b.ctx)
	cancel(cause)
	if err := b.Await(ctx, func(fakellm.Counts) bool { return false }); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestCloseEndsHangingCallsAndTheirClientsSeeABrokenConnection(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Latency: fakellm.Latency{FirstToken: time.Hour}})
	b.Script("m", fakellm.Fault{Kind: "hang"}, fakellm.Fault{Kind: "ok"})
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			response, err := b.send(t, b.ctx, ask("x", nil))
			if err == nil {
				response.Body.Close()
				t.Error("a call that Close ended was answered")
			} else if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				t.Errorf("the client saw %v", err)
			}
		})
	}
	if err := b.Await(b.ctx, func(c fakellm.Counts) bool { return c.InFlight == 2 }); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	clients.Wait()
	c := b.Counts()
	equal(t, "in flight", c.InFlight, 0)
	equal(t, "disconnects", c.Disconnects, 0)
	equal(t, "outcomes", fmt.Sprint(c.Outcomes), "map[closed:1 hang:1]")
}
