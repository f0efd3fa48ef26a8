package services_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/stage"
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

// requestOf is the n-th request of an ordeal. A fifth goes over the batch lane, a quarter needs the ladder.
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

// traffic publishes requests at a steady pace until stop is called, but so many at least; stop waits for
// the last PubAck.
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
	if n%100 == 0 {
		x.readCalls()
	}
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

func (x *ordeal) heldByAll() int {
	n := 0
	for _, name := range x.stageNames() {
		n += x.held(name)
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
			inboxes := d.Inboxes
			if len(inboxes) == 0 {
				inboxes = stage.Lanes(name, 0)
			}
			for _, in := range inboxes {
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

// A process that drained may live on, for the sake of another stage that has not: what is published then
// belongs to those who still pull, at once and not after a lease's time.
func TestAStageThatLeftHoldsNothingBack(t *testing.T) {
	t.Parallel()
	const jobs = 20
	r := setup(t, brokertest.Server(t).URL())
	r.runWithout(r.run, broker.Ingest)
	leave := r.run(broker.Ingest)
	r.result(r.ask(job.Interactive, "toy", "before"), 1)
	leave()
	r.run(broker.Ingest)
	for n := range jobs {
		r.ask(job.Interactive, "toy", fmt.Sprintf("after, %d", n))
	}
	brokertest.Eventually(t, broker.AckWait/2, "all are answered", func() bool { return r.heard.distinct() == 1+jobs })
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

func TestTheCallsOfAKilledProcessAreTakenUpWithinTenSeconds(t *testing.T) {
	const jobs = 100
	r := setup(t, brokertest.Server(t).URL())
	x := &ordeal{rig: r}
	p := newProcesses(r)
	// Calls that last longer than it takes to start them all; no silence within is long enough for a timeout.
	r.first.SetLatency(fakellm.Latency{FirstToken: 200 * time.Millisecond, PerToken: 150 * time.Millisecond})
	r.runAllBut(broker.Inference)
	inference := p.mustStart(broker.Inference)
	ids := map[string]string{}
	for n := range jobs {
		text := fmt.Sprintf("question %d", n)
		ids[r.publish(job.Interactive, "toy", "", withDeadline(text, "2m"))] = text
	}
	brokertest.Eventually(t, startTimeout, "the process makes all calls", func() bool { return r.first.Counts().InFlight == jobs })
	inference.end(t, syscall.SIGKILL)
	killed := time.Now()
	if n := x.held(broker.Inference); n < jobs*9/10 {
		t.Errorf("the killed process held %d of %d jobs", n, jobs)
	}
	r.first.SetLatency(fakellm.Latency{})
	p.mustStart(broker.Inference)
	brokertest.Eventually(t, 10*time.Second-time.Since(killed), "all its jobs have results", func() bool { return r.heard.distinct() == jobs })
	t.Logf("all %d results %s after the kill", jobs, time.Since(killed).Round(10*time.Millisecond))
	for id, text := range ids {
		if heard := r.heard.of(id); len(heard) != 1 || !answersTo(&heard[0], text) {
			t.Errorf("%s: %d results", id, len(heard))
		}
		if n := r.first.Counts().Nonces[fakellm.Nonce(text)]; n > 2 {
			t.Errorf("%s: %d calls, one kill", id, n)
		}
	}
}

func TestRandomKillsOfStagesAndOfTheServerLoseNothing(t *testing.T) {
	s := startServer(t)
	x := newOrdeal(t, s.url(), 1)
	p := newProcesses(x.rig)
	rng := rand.New(rand.NewPCG(x.seed, 0))
	names := x.stageNames()
	running := map[string]*child{}
	for _, name := range names {
		running[name] = p.mustStart(name)
	}
	stopTraffic := x.traffic(25, requests())
	end := time.NewTimer(randomTime())
	for killing := true; killing; {
		// The subject of the test: moments that nothing in the pipeline decides.
		pause := time.NewTimer(time.Duration(100+rng.IntN(900)) * time.Millisecond)
		select {
		case <-pause.C:
			x.killOne(s, p, running, rng)
		case <-end.C:
			killing = false
		}
		pause.Stop()
	}
	stopTraffic()
	x.revive(p, running)
	x.quiet(2 * time.Minute)
	x.audit(func(kill) bool { return true }).report(t)
	p.drain(slices.Collect(maps.Values(running)))
}

func randomTime() time.Duration {
	if testing.Short() {
		return 12 * time.Second
	}
	return 25 * time.Second
}

// killOne kills the server, or one stage, and starts it again.
func (x *ordeal) killOne(s *natsProcess, p *processes, running map[string]*child, rng *rand.Rand) {
	x.t.Helper()
	x.revive(p, running)
	x.readCalls()
	names := x.stageNames()
	victim := rng.IntN(len(names) + 1)
	if victim == len(names) {
		held := x.heldByAll()
		s.kill()
		x.killed("nats-server", held)
		s.start()
		return
	}
	name := names[victim]
	running[name].end(x.t, syscall.SIGKILL)
	x.killed(name, x.held(name))
	running[name] = p.mustStart(name)
}

// revive starts the stages again that ended by themselves: one that finds no server when it starts gives up.
func (x *ordeal) revive(p *processes, running map[string]*child) {
	x.t.Helper()
	for name, c := range running {
		select {
		case <-c.exited:
			x.t.Logf("%s ended by itself: %s", name, c.cmd.ProcessState)
			running[name] = p.mustStart(name)
		default:
		}
	}
}
