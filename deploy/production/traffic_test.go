package production_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
)

// application asks all the time, and listens, with the client's credential and the client library alone.
type application struct {
	t    *testing.T
	name string // what its ids begin with
	nc   *nats.Conn
	js   jetstream.JetStream

	mu           sync.Mutex
	asked        int
	acknowledged map[string]string // text by id
	// heard are the results' sequences in the stream by id, from the durable consumer; told counts them on the subject.
	heard  map[string]map[uint64]bool
	told   map[string]int
	bodies map[string][]byte
}

func newApplication(t *testing.T, c *cluster, name string) *application {
	t.Helper()
	a := &application{
		t: t, name: name, nc: c.connect("client"), acknowledged: map[string]string{},
		heard: map[string]map[uint64]bool{}, told: map[string]int{}, bodies: map[string][]byte{},
	}
	var err error
	if a.js, err = jetstream.New(a.nc); err != nil {
		t.Fatal(err)
	}
	if _, err := a.nc.Subscribe("llm.result.>", func(m *nats.Msg) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.told[idOf(m.Subject)]++
	}); err != nil {
		t.Fatal(err)
	}
	consumer, err := a.js.Consumer(t.Context(), "LLM_RESULTS", "client")
	if err != nil {
		t.Fatalf("the client's durable consumer: %v", err)
	}
	following, err := consumer.Consume(a.hear, jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(following.Stop)
	return a
}

// idOf is the last token of llm.result.<task>.<id>.
func idOf(subject string) string { return subject[strings.LastIndex(subject, ".")+1:] }

// hear takes a result. One whose acknowledgement was lost with a node comes again, of the same sequence.
func (a *application) hear(m jetstream.Msg) {
	md, err := m.Metadata()
	if err != nil {
		a.t.Errorf("a message of the consumer: %v", err)
		return
	}
	id := idOf(m.Subject())
	a.mu.Lock()
	if a.heard[id] == nil {
		a.heard[id] = map[uint64]bool{}
	}
	a.heard[id][md.Sequence.Stream] = true
	a.bodies[id] = m.Data()
	a.mu.Unlock()
	_ = m.Ack() // if it is lost, the result comes again
}

// askAllTheTime publishes at a steady pace until stop is called, which waits for the last acknowledgement.
func (a *application) askAllTheTime(perSecond int) (stop func()) {
	ctx, cancel := context.WithCancel(a.t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		pace := time.NewTicker(time.Second / time.Duration(perSecond))
		defer pace.Stop()
		for {
			select {
			case <-pace.C:
				all.Go(func() { a.ask() })
			case <-ctx.Done():
				return
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	a.t.Cleanup(stop)
	return stop
}

// ask publishes under one id until it is acknowledged, or for a while.
func (a *application) ask() {
	a.mu.Lock()
	a.asked++
	id, text := fmt.Sprintf("%s-%d", a.name, a.asked), fmt.Sprintf("question %d of %s", a.asked, a.name)
	a.mu.Unlock()
	body, err := json.Marshal(map[string]any{"id": id, "input": map[string]string{"text": text}})
	if err != nil {
		a.t.Error(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.t.Context()), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		once, stop := context.WithTimeout(ctx, 5*time.Second)
		_, err := a.js.Publish(once, "llm.request.toy", body, jetstream.WithMsgID(id))
		stop()
		if err == nil {
			a.mu.Lock()
			a.acknowledged[id] = text
			a.mu.Unlock()
			return
		}
	}
}

// goesOn waits until more requests are acknowledged, and more results heard, than now.
func (a *application) goesOn(what string, more int) {
	a.t.Helper()
	count := func() (acknowledged, heard int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.acknowledged), len(a.heard)
	}
	acknowledged, heard := count()
	brokertest.Eventually(a.t, patience, what+": requests are acknowledged and answered", func() bool {
		nowAcknowledged, nowHeard := count()
		return nowAcknowledged >= acknowledged+more && nowHeard >= heard+more
	})
}

// audit holds what was acknowledged against what was heard, and against what the stream took since before.
func (a *application) audit(c *cluster, before uint64) {
	a.t.Helper()
	a.allHeard()
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, text := range a.acknowledged {
		a.isOwn(id, text)
	}
	for id, sequences := range a.heard {
		if len(sequences) != 1 || a.told[id] > 1 {
			a.t.Errorf("%s has %d results, and was told %d times", id, len(sequences), a.told[id])
		}
	}
	if stored := c.lastResult(a.t) - before; stored != uint64(len(a.heard)) {
		a.t.Errorf("the stream took %d results, of %d ids", stored, len(a.heard))
	}
	a.t.Logf("%d asked, %d acknowledged, %d answered", a.asked, len(a.acknowledged), len(a.heard))
}

func (a *application) allHeard() {
	a.t.Helper()
	brokertest.Eventually(a.t, patience, "each acknowledged request has a result", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		for id := range a.acknowledged {
			if len(a.heard[id]) == 0 {
				return false
			}
		}
		return true
	})
}

func (a *application) isOwn(id, text string) {
	a.t.Helper()
	var r struct {
		ID, Status string
		Run        int
		Output     json.RawMessage
	}
	if err := json.Unmarshal(a.bodies[id], &r); err != nil {
		a.t.Errorf("%s: %v", id, err)
	}
	if r.ID != id || r.Run != 1 || r.Status != "succeeded" || !strings.Contains(string(r.Output), fakellm.Nonce(text)) {
		a.t.Errorf("%s: this is not the answer to %q: %s", id, text, a.bodies[id])
	}
}
