package services_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// starter runs the named stages, all when none is named, until stop is called: in this process or as
// processes of their own.
type starter func(names ...string) (stop func())

// invariant is a rule about identity. It holds for one server, for a cluster, and whatever the stages are.
type invariant struct {
	name string
	hold func(r *rig, run starter)
}

func invariants() []invariant {
	return []invariant{
		{"one id is one job", (*rig).oneIDIsOneJob},
		{"a late duplicate is told the stored result", (*rig).aLateDuplicateIsToldTheResult},
		{"another body under a known id harms nothing", (*rig).anotherBodyHarmsNothing},
		{"a request without an id survives a redelivery as one job", (*rig).aRequestWithoutAnIDIsOneJob},
		{"the first write of a run wins", (*rig).theFirstWriteWins},
		{"a replay supersedes, and a second one is refused", (*rig).oneReplayIsOneRun},
	}
}

func TestOneIDIsOneJob(t *testing.T) {
	t.Parallel()
	onOneServer(t, (*rig).oneIDIsOneJob)
}

func TestALateDuplicateIsToldTheStoredResult(t *testing.T) {
	t.Parallel()
	onOneServer(t, (*rig).aLateDuplicateIsToldTheResult)
}

func TestAnotherBodyUnderAKnownIDHarmsNothing(t *testing.T) {
	t.Parallel()
	onOneServer(t, (*rig).anotherBodyHarmsNothing)
}

func TestARequestWithoutAnIDSurvivesARedeliveryAsOneJob(t *testing.T) {
	t.Parallel()
	onOneServer(t, (*rig).aRequestWithoutAnIDIsOneJob)
}

func TestTheFirstWriteOfARunWins(t *testing.T) {
	t.Parallel()
	onOneServer(t, (*rig).theFirstWriteWins)
}

func TestASecondReplayIsRefused(t *testing.T) {
	t.Parallel()
	onOneServer(t, (*rig).oneReplayIsOneRun)
}

func onOneServer(t *testing.T, hold func(*rig, starter)) {
	t.Helper()
	r := setup(t, brokertest.Server(t).URL())
	hold(r, r.run)
}

// on is the rig for a subtest.
func (r *rig) on(t *testing.T) *rig {
	t.Helper()
	own := *r
	own.t = t
	return &own
}

// runWithout runs all stages but one.
func (r *rig) runWithout(run starter, missing string) {
	run(slices.DeleteFunc(r.stageNames(), func(name string) bool { return name == missing })...)
}

func bodyOf(id, text string) []byte {
	body, _ := json.Marshal(map[string]any{"id": id, "input": map[string]string{"text": text}}) // strings: no error
	return body
}

// beingStored is how a cluster refuses a message id that another message is being stored under.
const beingStored jetstream.ErrorCode = 10158

// storm publishes one body n times at once from two clients, half of it with the id as message id, and
// returns how often it was stored.
func (r *rig) storm(id string, body []byte, n int) int {
	r.t.Helper()
	var clients [2]jetstream.JetStream
	for i := range clients {
		nc, err := nats.Connect(r.url)
		if err != nil {
			r.t.Fatal(err)
		}
		defer nc.Close()
		if clients[i], err = jetstream.New(nc); err != nil {
			r.t.Fatal(err)
		}
	}
	var stored atomic.Int64
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			m := &nats.Msg{Subject: "llm.request.toy", Data: body, Header: nats.Header{}}
			if i/2%2 == 0 {
				m.Header.Set("Nats-Msg-Id", id)
			}
			ack, err := clients[i%2].PublishMsg(r.t.Context(), m)
			refused, _ := errors.AsType[*jetstream.APIError](err)
			switch {
			case refused != nil && refused.ErrorCode == beingStored:
			case err != nil:
				r.t.Errorf("publish %s: %v", id, err)
			case !ack.Duplicate:
				stored.Add(1)
			}
		})
	}
	all.Wait()
	return int(stored.Load())
}

// send publishes a request that the server does not compare with earlier ones, and returns its sequence.
func (r *rig) send(subject string, body []byte) uint64 {
	r.t.Helper()
	ack, err := r.conn.JS.Publish(r.t.Context(), subject, body)
	if err != nil {
		r.t.Fatal(err)
	}
	return ack.Sequence
}

// told waits for the n-th event of a kind about an id.
func (r *rig) told(id, event string, n int, within time.Duration) stage.Progress {
	r.t.Helper()
	brokertest.Eventually(r.t, within, fmt.Sprintf("event %d %s of %s", n, event, id), func() bool { return len(r.heard.events(id, event)) >= n })
	return r.heard.events(id, event)[n-1]
}

// stored is the result of an id as the stream's leader has it.
func (r *rig) stored(task, id string) *broker.Stored {
	r.t.Helper()
	s, err := r.conn.Last(r.t.Context(), "LLM_RESULTS", "llm.result."+task+"."+id)
	if err != nil {
		r.t.Fatalf("result of %s: %v", id, err)
	}
	return s
}

// unchanged checks that a result is still the one that was stored first.
func (r *rig) unchanged(first *broker.Stored) {
	r.t.Helper()
	now := r.stored(broker.Token(first.Subject, 2), broker.Token(first.Subject, 3))
	if now.Sequence != first.Sequence || !bytes.Equal(now.Data, first.Data) {
		r.t.Errorf("%s was replaced: %s", first.Subject, now.Data)
	}
}

// once checks that an id's run was told once to each kind of subscriber.
func (r *rig) once(w *witness, id string, run int) {
	r.t.Helper()
	brokertest.Eventually(r.t, 5*time.Second, "both subscribers have the result of "+id, func() bool {
		core, stored := w.heardOf(id, run)
		return core > 0 && stored > 0
	})
	if core, stored := w.heardOf(id, run); core != 1 || stored != 1 {
		r.t.Errorf("run %d of %s: %d messages on its subject, %d from the consumer", run, id, core, stored)
	}
}

// paidFor checks what both providers counted for a text.
func (r *rig) paidFor(text string, calls int) {
	r.t.Helper()
	nonce := fakellm.Nonce(text)
	if n := r.first.Counts().Nonces[nonce] + r.second.Counts().Nonces[nonce]; n != calls {
		r.t.Errorf("%q: the providers counted %d calls, want %d", text, n, calls)
	}
}

func (r *rig) oneIDIsOneJob(run starter) {
	const id, text = "storm", "asked a hundred times"
	w := watch(r.t, r.url)
	r.runWithout(run, broker.Ingest)
	stop := run(broker.Ingest)
	body := bodyOf(id, text)
	copies := r.storm(id, body, 100)
	if copies < 50 {
		r.t.Errorf("only %d copies were stored, the test needs many", copies)
	}
	check(r.t, id, r.result(id, 1), succeeded("strict"))
	r.told(id, "duplicate", copies-1, 10*time.Second)
	first := r.stored("toy", id)
	stop()
	run(broker.Ingest)
	copies += r.storm(id, body, 20)
	r.told(id, "duplicate", copies-1, 20*time.Second)
	r.emptied(20 * time.Second)
	if n := len(r.heard.events(id, "duplicate")); n != copies-1 {
		r.t.Errorf("%d copies, %d of them called duplicates", copies, n)
	}
	r.unchanged(first)
	r.once(w, id, 1)
	r.paidFor(text, 1)
}

func (r *rig) aLateDuplicateIsToldTheResult(run starter) {
	const id, text = "late", "asked again much later"
	w := watch(r.t, r.url)
	run()
	r.send("llm.request.toy", bodyOf(id, text))
	r.result(id, 1)
	first := r.stored("toy", id)
	// The same request: white space between tokens and the lane do not make it another.
	again := bytes.ReplaceAll(bodyOf(id, text), []byte(","), []byte(" ,\n"))
	for n, subject := range []string{"llm.request.toy", "llm.batch.toy"} {
		r.send(subject, again)
		p := r.told(id, "duplicate", n+1, time.Second)
		var want job.Result
		if err := json.Unmarshal(first.Data, &want); err != nil {
			r.t.Fatal(err)
		}
		if p.Result == nil || p.Status != want.Status || !bytes.Equal(p.Result.Output, want.Output) || !p.Result.FinishedAt.Equal(want.FinishedAt) {
			r.t.Errorf("told %+v on %s, stored is %s", p, subject, first.Data)
		}
	}
	r.emptied(10 * time.Second)
	r.unchanged(first)
	r.once(w, id, 1)
	r.paidFor(text, 1)
}

func (r *rig) anotherBodyHarmsNothing(run starter) {
	w := watch(r.t, r.url)
	run()
	for name, first := range map[string][]byte{
		"answered": bodyOf("answered", "the first question"),
		// A rejected request holds its id like any other.
		"refused": []byte(`{"id":"refused","input":{"txt":"no such field"}}`),
	} {
		r.send("llm.request.toy", first)
		r.result(name, 1)
		kept := r.stored("toy", name)
		other := "another question under the id " + name
		r.send("llm.request.toy", bodyOf(name, other))
		r.send("llm.request.bare", first) // another task is another request
		p := r.told(name, "id_conflict", 2, 10*time.Second)
		if p.Code != fate.IDConflict || p.Result != nil || p.Message == "" {
			r.t.Errorf("%s: told %+v", name, p)
		}
		r.emptied(10 * time.Second)
		r.unchanged(kept)
		r.once(w, name, 1)
		r.paidFor(other, 0)
		if _, err := r.conn.Last(r.t.Context(), "LLM_RESULTS", "llm.result.bare."+name); !errors.Is(err, broker.ErrNotFound) {
			r.t.Errorf("%s has a result of the other task too: %v", name, err)
		}
	}
	r.paidFor("the first question", 1)
}

func (r *rig) aRequestWithoutAnIDIsOneJob(run starter) {
	w := watch(r.t, r.url)
	r.runWithout(run, broker.Ingest)
	p := newProcesses(r)
	points := []string{"after-marker", "before-publish", "published-before-ack"}
	texts, sequences := map[string]string{}, map[uint64]int{}
	for _, point := range points {
		texts[point] = "nameless, with ingest killed at " + point
		body, _ := json.Marshal(map[string]any{"input": map[string]string{"text": texts[point]}, "metadata": point}) // strings: no error
		sequences[r.send("llm.request.toy", body)] = 0
		c := p.mustStart(broker.Ingest, "SPILLWAY_KILLPOINT="+point+":1")
		c.wait(r.t)
		if !c.wasKilled() {
			r.t.Fatalf("ingest was not killed at %s: %s", point, c.cmd.ProcessState)
		}
	}
	run(broker.Ingest)
	for _, point := range points {
		var results []job.Result
		brokertest.Eventually(r.t, 30*time.Second, "the request of "+point+" is answered", func() bool {
			results = r.heard.about(point)
			return len(results) > 0
		})
		check(r.t, point, &results[0], succeeded("strict"))
	}
	r.emptied(20 * time.Second)
	for _, point := range points {
		results := r.heard.about(point)
		if len(results) != 1 || !regexp.MustCompile(`^[0-9A-Z]{26}$`).MatchString(results[0].ID) || !answersTo(&results[0], texts[point]) {
			r.t.Errorf("%s: results %+v", point, results)
			continue
		}
		r.once(w, results[0].ID, 1)
		r.paidFor(texts[point], 1)
	}
	for sequence, n := range r.admissions(sequences) {
		if n != 1 {
			r.t.Errorf("request %d was admitted under %d ids", sequence, n)
		}
	}
}

// about returns the results that carry a metadata string.
func (h *heard) about(metadata string) []job.Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []job.Result
	for _, results := range h.results {
		for _, r := range results {
			if string(r.Metadata) == fmt.Sprintf("%q", metadata) {
				found = append(found, r)
			}
		}
	}
	return found
}

// admissions counts the markers that name each of the requests.
func (r *rig) admissions(sequences map[uint64]int) map[uint64]int {
	r.t.Helper()
	s, err := r.conn.JS.Stream(r.t.Context(), "LLM_ADMITTED")
	if err != nil {
		r.t.Fatal(err)
	}
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		var marker struct {
			Stream   string `json:"request_stream"`
			Sequence uint64 `json:"request_seq"`
		}
		m, err := s.GetMsg(r.t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			r.t.Fatal(err)
		}
		if err := json.Unmarshal(m.Data, &marker); err != nil {
			r.t.Fatal(err)
		}
		if _, ok := sequences[marker.Sequence]; ok && marker.Stream == "LLM_REQUESTS" {
			sequences[marker.Sequence]++
		}
	}
	return sequences
}
