package services_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
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

// nodes are a cluster, as addresses for clients.
func nodes(t *testing.T) ([]*embedded.Server, string) {
	t.Helper()
	servers := brokertest.Cluster(t)
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
	var all sync.WaitGroup
	for round := range rounds {
		for range copies {
			all.Go(func() {
				id := fmt.Sprintf("twice-%d", round)
				if _, err := r.client.Publish(t.Context(), job.Interactive, "toy", id, bodyOf(id, "asked twice")); err != nil {
					t.Errorf("a copy of %s: %v", id, err)
				}
			})
		}
		all.Wait()
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
		reply, err := x.conn.NC.Request(subject, nil, 2*time.Second)
		if err != nil && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, nats.ErrNoResponders) {
			x.t.Errorf("%s: %v", subject, err)
		}
		if strings.HasSuffix(subject, "LLM_RESULTS") {
			x.witness.missed(leaderless)
		}
		if reply != nil && strings.Contains(string(reply.Data), `"error"`) {
			x.t.Logf("%s: %s", subject, reply.Data)
		}
	}
}

func (x *ordeal) heldByAll() int {
	n := 0
	for _, name := range x.stageNames() {
		n += x.held(name)
	}
	return n
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
