package services_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

func (r *rig) theFirstWriteWins(run starter) {
	const id, text = "written", "answered once"
	w := watch(r.t, r.url)
	run()
	r.send("llm.request.toy", bodyOf(id, text))
	check(r.t, id, r.result(id, 1), succeeded("strict"))
	first := r.stored("toy", id)
	// A stale writer, which believes that the run has no result.
	_, err := r.conn.JS.Publish(r.t.Context(), "llm.write.toy."+id, []byte(`{"id":"written","run":1}`), jetstream.WithExpectLastSequencePerSubject(0))
	refused, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || refused.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence && refused.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequenceConstant {
		r.t.Errorf("a stale write was not refused: %v", err)
	}
	r.end(id, 5)
	r.unchanged(first)
	r.once(w, id, 1)
	// Nothing is there yet, and ten come at once.
	r.end("raced", 10)
	r.once(w, "raced", 1)
	heard := r.heard.of("raced")
	if stored := r.stored("toy", "raced"); len(heard) != 1 || !strings.Contains(string(stored.Data), string(heard[0].Output)) {
		r.t.Errorf("heard %+v, stored %s", heard, stored.Data)
	}
}

// end hands result-writer n different outcomes for the first run of an id, and waits until it is done.
func (r *rig) end(id string, n int) {
	r.t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			j := &job.Job{
				V: job.Version, ID: id, Task: "toy", Lane: job.Interactive, Run: 1, AcknowledgedAt: time.Now(), Deadline: time.Now().Add(time.Minute),
				Outcome: &job.Outcome{Status: job.Succeeded, Source: job.FromModel, Output: json.RawMessage(fmt.Sprintf(`{"says":"late %d","mood":"good"}`, i))},
			}
			if err := stage.HandIn(r.t.Context(), r.conn, j, fmt.Sprintf(".late%d", i)); err != nil {
				r.t.Errorf("hand in %s: %v", id, err)
			}
		})
	}
	all.Wait()
	r.emptied(20 * time.Second)
}

func (r *rig) oneReplayIsOneRun(run starter) {
	const id, text, orders = "replayed", "answered at the second go", 10
	w := watch(r.t, r.url)
	r.first.SetFaults(fakellm.Fault{Kind: "400", Match: text})
	run()
	r.send("llm.request.bare", bodyOf(id, text))
	if failed := r.result(id, 1); failed.Status != job.Failed {
		r.t.Fatalf("run 1 ended as %s", failed.Status)
	}
	first := r.stored("bare", id)
	brokertest.Eventually(r.t, 10*time.Second, "the job is a dead letter", func() bool {
		_, _, err := r.conn.Dead(r.t.Context(), id)
		return err == nil
	})
	r.first.SetFaults()
	var all sync.WaitGroup
	for range orders {
		all.Go(func() { r.send("llm.replay."+id, nil) })
	}
	all.Wait()
	second := r.result(id, 2)
	check(r.t, "run 2", second, succeeded("strict"))
	if second.Supersedes == nil || *second.Supersedes != first.Sequence || !answersTo(second, text) {
		r.t.Errorf("run 2 supersedes %v, want %d; output %s", second.Supersedes, first.Sequence, second.Output)
	}
	r.told(id, "replay_refused", orders-1, 20*time.Second)
	r.emptied(20 * time.Second)
	kept := r.stored("bare", id)
	// Much later: there is nothing to replay any more.
	r.send("llm.replay."+id, nil)
	if p := r.told(id, "replay_refused", orders, 10*time.Second); p.Code != fate.NotReplayable {
		r.t.Errorf("a replay of what succeeded: %+v", p)
	}
	r.emptied(10 * time.Second)
	r.unchanged(kept)
	r.once(w, id, 1)
	r.once(w, id, 2)
	if n := len(r.heard.of(id)); n != 2 {
		r.t.Errorf("%d results were heard, of two runs", n)
	}
	r.paidFor(text, 2)
}

// nodes are a cluster whose leader has heard of all, and their addresses for clients.
func nodes(t *testing.T) ([]*embedded.Server, string) {
	t.Helper()
	servers := brokertest.Cluster(t)
	brokertest.Eventually(t, startTimeout, "the leader knows its peers", func() bool {
		return slices.ContainsFunc(servers, func(s *embedded.Server) bool {
			return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers)
		})
	})
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.URL())
	}
	return servers, strings.Join(urls, ",")
}

func TestTheIdentityRulesHoldOnThreeReplicas(t *testing.T) {
	_, url := nodes(t)
	r := setupReplicas(t, url, 3)
	for _, rule := range invariants() {
		t.Run(rule.name, func(t *testing.T) {
			own := r.on(t)
			rule.hold(own, own.run)
		})
	}
}

// A client that lost its patience, or its connection, publishes again while the first try is under way.
func TestARequestThatIsPublishedTwiceAtOnceIsAcknowledgedTwice(t *testing.T) {
	_, url := nodes(t)
	r := setupReplicas(t, url, 3)
	const rounds, copies = 10, 20
	var refused atomic.Pointer[error]
	// A copy that comes too soon after another is sent again later: the rounds need not wait for each other's.
	var all sync.WaitGroup
	for round := range rounds {
		for range copies {
			all.Go(func() {
				id := fmt.Sprintf("twice-%d", round)
				if _, err := r.client.Publish(t.Context(), job.Interactive, "toy", id, bodyOf(id, "asked twice")); err != nil {
					refused.Store(&err)
				}
			})
		}
	}
	all.Wait()
	if err := refused.Load(); err != nil {
		t.Errorf("a copy was refused: %v", *err)
	}
}

// The leader that stores a result need not be leader any more when it is to republish it. Who waits for the
// result must learn it all the same.
func TestAWaitingClientLearnsAResultThatIsNotRepublished(t *testing.T) {
	t.Parallel()
	r := setup(t, brokertest.Server(t).URL())
	s, err := r.conn.JS.Stream(t.Context(), "LLM_RESULTS")
	if err != nil {
		t.Fatal(err)
	}
	silent := s.CachedInfo().Config
	silent.RePublish = nil
	if _, err := r.conn.JS.UpdateStream(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	r.runAllBut(broker.ResultWriter)
	id := r.ask(job.Interactive, "toy", "is anybody there?")
	subscriptions := r.conn.NC.NumSubscriptions()
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := r.client.Wait(ctx, "toy", id, 1)
		ended <- err
	}()
	brokertest.Eventually(t, 5*time.Second, "the client waits", func() bool { return r.conn.NC.NumSubscriptions() > subscriptions })
	r.run(broker.ResultWriter)
	if err := <-ended; err != nil {
		t.Errorf("the result is stored, and who waited for it was told: %v", err)
	}
}

func TestElectionsAndAnAbsentNodeLoseNothing(t *testing.T) {
	servers, url := nodes(t)
	x := newOrdeal(t, url, 3)
	rng := rand.New(rand.NewPCG(x.seed, 0))
	x.run()
	stopTraffic := x.traffic(20, requests())
	x.stepDownFor(electionTime(), rng)
	again := restartable(t, servers, 2)
	x.killed("a node that leaves", x.heldByAll())
	x.witness.missed(leaderless)
	servers[2].Stop()
	x.stepDownFor(electionTime()/2, rng)
	x.witness.missed(leaderless)
	brokertest.StartServer(t, again)
	x.stepDownFor(electionTime()/2, rng)
	stopTraffic()
	x.quiet(time.Minute)
	x.audit(func(kill) bool { return true }).report(t)
}

// leaderless is how long around an election a core subscriber may miss a result: the leader that stored
// it was none any more when it was to republish it. The consumer misses none.
const leaderless = 5 * time.Second

func electionTime() time.Duration {
	if testing.Short() {
		return 4 * time.Second
	}
	return 8 * time.Second
}

// stepDownFor makes a stream, or one of its consumers, elect another leader again and again.
func (x *ordeal) stepDownFor(d time.Duration, rng *rand.Rand) {
	x.t.Helper()
	var subjects []string
	for _, s := range stage.Topology(x.defs, broker.DefaultSizing()).Streams {
		subjects = append(subjects, "$JS.API.STREAM.LEADER.STEPDOWN."+s.Name)
	}
	for _, name := range x.stageNames() {
		for stream, consumer := range x.consumersOf(name) {
			subjects = append(subjects, "$JS.API.CONSUMER.LEADER.STEPDOWN."+stream+"."+consumer)
		}
	}
	end := time.NewTimer(d)
	defer end.Stop()
	// The subject of the test: elections often enough that some are under way at any time.
	pace := time.NewTicker(300 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-end.C:
			return
		case <-pace.C:
		}
		subject := subjects[rng.IntN(len(subjects))]
		_, err := x.conn.NC.Request(subject, nil, 2*time.Second)
		if err != nil && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, nats.ErrNoResponders) {
			x.t.Errorf("%s: %v", subject, err)
		}
		if strings.HasSuffix(subject, "LLM_RESULTS") {
			x.witness.missed(leaderless)
		}
	}
}

// restartable says how node i is started again as the one it was.
func restartable(t *testing.T, servers []*embedded.Server, i int) embedded.Options {
	t.Helper()
	var routes []string
	for _, s := range servers {
		routes = append(routes, "nats://"+s.ClusterAddr().String())
	}
	s := servers[i]
	return embedded.Options{
		Port: portOf(t, s.URL()), Store: filepath.Dir(s.StoreDir()), Sync: time.Second, Name: s.Name(), Log: zerolog.Nop(),
		Cluster: &embedded.Cluster{Port: s.ClusterAddr().Port, Routes: routes},
	}
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
