package services_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// ordeal is a rig under attack: traffic runs, things die, and what came of it is audited from what the
// client, the provider and the subscribers saw.
type ordeal struct {
	*rig
	seed    uint64
	witness *witness

	mu sync.Mutex
	// tried are the requests by id; acknowledged are those whose PubAck came.
	tried        map[string]asked
	acknowledged map[string]bool
	kills        []kill
	// calls are the providers' records, by provider and number.
	calls map[string]fakellm.Request
}

// asked is a request, with what only its result may carry.
type asked struct {
	text string
	n    int
}

// kill is a death by SIGKILL, with the messages that the dead process held at most.
type kill struct {
	what string
	at   time.Time
	held int
}

// newOrdeal sets a rig up whose providers fail now and then and take a moment.
func newOrdeal(t *testing.T, url string, replicas int) *ordeal {
	t.Helper()
	x := &ordeal{
		rig: setupReplicas(t, url, replicas), seed: seedOf(t), tried: map[string]asked{},
		acknowledged: map[string]bool{}, calls: map[string]fakellm.Request{},
	}
	x.witness = watch(t, url)
	now := []fakellm.Fault{{Kind: "500", Rate: 0.03}, {Kind: "off_schema", Rate: 0.03}}
	x.first.SetFaults(append([]fakellm.Fault{{Kind: "400", Match: onFirst}, {Kind: "400", Match: onBoth}}, now...)...)
	x.second.SetFaults(append([]fakellm.Fault{{Kind: "400", Match: onBoth}}, now...)...)
	latency := fakellm.Latency{FirstToken: 40 * time.Millisecond, PerToken: time.Millisecond}
	x.first.SetLatency(latency)
	x.second.SetLatency(latency)
	return x
}

// seedOf is SPILLWAY_SEED, or a new one; the log says how to have the same chances again.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("SPILLWAY_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("SPILLWAY_SEED=%d", seed)
	return seed
}

// Parts of a text that the providers refuse.
const (
	onFirst = "[refused by the first model]"
	onBoth  = "[refused by both models]"
)

// requestOf is the n-th request of an ordeal. A fifth goes over the batch lane, a sixth needs the ladder.
func requestOf(n int) (lane, task, text string) {
	lane, task, text = job.Interactive, "toy", fmt.Sprintf("question %d", n)
	if n%5 == 0 {
		lane = job.Batch
	}
	switch n % 12 {
	case 3:
		text += onFirst
	case 7:
		text += onBoth
	case 11:
		task, text = "bare", text+onBoth
	}
	return lane, task, text
}

// traffic publishes requests at a steady pace until stop is called, which waits for the last PubAck. At
// least so many are published.
func (x *ordeal) traffic(perSecond, atLeast int) (stop func()) {
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(done)
		pace := time.NewTicker(time.Second / time.Duration(perSecond))
		defer pace.Stop()
		for n := 0; ; n++ {
			if n >= atLeast {
				select {
				case <-stopped:
					return
				default:
				}
			}
			select {
			case <-pace.C:
			case <-x.t.Context().Done():
				return
			}
			x.request(n)
		}
	}()
	x.t.Cleanup(func() { <-done })
	var once sync.Once
	return func() { once.Do(func() { close(stopped); <-done }) }
}

// request publishes the n-th request; without a PubAck it counts as tried only.
func (x *ordeal) request(n int) {
	lane, task, text := requestOf(n)
	id := fmt.Sprintf("trial-%d", n)
	body, err := json.Marshal(map[string]any{"input": map[string]string{"text": text}, "deadline": "8m", "metadata": n})
	if err != nil {
		x.t.Errorf("encode a request: %v", err)
		return
	}
	x.mu.Lock()
	x.tried[id] = asked{text: text, n: n}
	x.mu.Unlock()
	ctx, cancel := context.WithTimeout(x.t.Context(), 30*time.Second)
	defer cancel()
	if _, err := x.client.Publish(ctx, lane, task, id, body); err != nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.acknowledged[id] = true
}

// killed notes a death.
func (x *ordeal) killed(what string, held int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.kills = append(x.kills, kill{what: what, at: time.Now(), held: held})
}

// held counts the messages that a stage's processes have in their hands, or had when they died: delivered,
// and neither acknowledged nor delivered again.
func (x *ordeal) held(name string) int {
	n := 0
	for stream, consumer := range x.consumersOf(name) {
		n += x.heldBy(stream, consumer)
	}
	return n
}

// heldBy asks until the server answers: it may just have been killed too.
func (x *ordeal) heldBy(stream, consumer string) int {
	ctx, cancel := context.WithTimeout(x.t.Context(), startTimeout)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		c, err := x.conn.JS.Consumer(ctx, stream, consumer)
		if err == nil {
			return c.CachedInfo().NumAckPending
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			x.t.Errorf("look at consumer %s: %v", consumer, err)
			return 0
		}
	}
}

// consumersOf yields the inboxes of a stage as stream and consumer.
func (x *ordeal) consumersOf(name string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, d := range x.defs {
			if d.Name != name {
				continue
			}
			if len(d.Inboxes) == 0 {
				yield(broker.StageStream(name), name)
			}
			for _, in := range d.Inboxes {
				if !yield(in.Stream, in.Consumer) {
					return
				}
			}
		}
	}
}

// quiet waits until all inboxes have been empty for a while and the subscribers have heard everything.
func (x *ordeal) quiet(within time.Duration) {
	x.t.Helper()
	const looks = 100 // of 5 ms and more: a job between two inboxes is in one of them at the next look
	empty := 0
	brokertest.Eventually(x.t, within, "the inboxes are empty and stay so", func() bool {
		if empty++; x.unfinished() != 0 {
			empty = 0
		}
		return empty >= looks
	})
	brokertest.Eventually(x.t, 30*time.Second, "the consumer has heard all results", func() bool {
		s, err := x.conn.JS.Stream(x.t.Context(), broker.ResultsStream)
		return err == nil && x.witness.sequence() >= s.CachedInfo().State.LastSeq
	})
}

func TestSixProcessesKeepTheIdentityRules(t *testing.T) {
	r := setup(t, startServer(t).url())
	for _, rule := range invariants() {
		t.Run(rule.name, func(t *testing.T) {
			own := r.on(t)
			rule.hold(own, newProcesses(own).run)
		})
	}
}

func TestProcessesThatAreAskedToLeaveLoseAndRepeatNothing(t *testing.T) {
	x := newOrdeal(t, startServer(t).url(), 1)
	p := newProcesses(x.rig)
	stopTraffic := x.traffic(30, requests())
	for n := range 3 {
		leave := p.run()
		asked := 30 * (n + 1)
		brokertest.Eventually(t, startTimeout, "calls are under way", func() bool {
			return x.first.Counts().Calls > asked && x.first.Counts().InFlight > 0
		})
		leave()
	}
	p.run()
	stopTraffic()
	x.quiet(time.Minute)
	x.audit(func(kill) bool { return false }).report(t)
}

// witness sees results as users' programs do: on a core subscription, and with a JetStream consumer.
type witness struct {
	mu sync.Mutex
	// core counts the messages on llm.result.> by id and run, stored the sequences that the consumer got.
	core   map[string]int
	stored map[string]map[uint64]bool
	last   uint64
	// away are the times without a connection.
	away []absence
}

type absence struct{ from, to time.Time }

func watch(t *testing.T, url string) *witness {
	t.Helper()
	w := &witness{core: map[string]int{}, stored: map[string]map[uint64]bool{}}
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0), nats.DontRandomize(),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { w.left() }), nats.ReconnectHandler(func(*nats.Conn) { w.back() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe("llm.result.>", func(m *nats.Msg) { w.note(m.Data, 0) }); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.OrderedConsumer(t.Context(), "LLM_RESULTS", jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	following, err := c.Consume(func(m jetstream.Msg) {
		if md, err := m.Metadata(); err == nil {
			w.note(m.Data(), md.Sequence.Stream)
		}
	}, jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(following.Stop)
	return w
}

// note keeps what both subscribers read from a message itself.
func (w *witness) note(body []byte, sequence uint64) {
	var r struct {
		ID  string `json:"id"`
		Run int    `json:"run"`
	}
	if json.Unmarshal(body, &r) != nil {
		r.ID = string(body) // nobody asked for that id: the audit will say so
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := runKey(r.ID, r.Run)
	if sequence == 0 {
		w.core[key]++
		return
	}
	w.last = max(w.last, sequence)
	if w.stored[key] == nil {
		w.stored[key] = map[uint64]bool{}
	}
	w.stored[key][sequence] = true
}

func runKey(id string, run int) string { return fmt.Sprintf("%s run %d", id, run) }

// inFlight is what a message may take from the stream to the subscriber: what is stored so shortly before
// the connection breaks may be lost on the way, as with any core subscription.
const inFlight = time.Second

func (w *witness) left() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = append(w.away, absence{from: time.Now().Add(-inFlight), to: time.Now().Add(time.Hour)})
}

func (w *witness) back() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.away); n > 0 {
		w.away[n-1].to = time.Now()
	}
}

// missed excuses a subscriber from what is stored around now.
func (w *witness) missed(around time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = append(w.away, absence{from: time.Now().Add(-around), to: time.Now().Add(around)})
}

func (w *witness) wasAway(at time.Time) bool {
	for _, s := range w.away {
		if at.After(s.from) && at.Before(s.to) {
			return true
		}
	}
	return false
}

func (w *witness) sequence() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// heardOf returns how often each subscriber got the result of a run.
func (w *witness) heardOf(id string, run int) (core, stored int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := runKey(id, run)
	return w.core[key], len(w.stored[key])
}
