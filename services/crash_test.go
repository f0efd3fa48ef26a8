package services_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// findings are what an audit found wrong, by kind.
type findings map[string][]string

// The kinds of findings.
const (
	lost     = "acknowledged, and no result is stored"
	doubled  = "more than one result of a run"
	unheard  = "a result that a connected subscriber did not get"
	foreign  = "a result that is not the request's own"
	overpaid = "more calls than policy and kills explain"
	overdue  = "answered at a deadline that was far away"
	unasked  = "a result that nobody asked for"
)

func (f findings) add(kind, format string, args ...any) {
	f[kind] = append(f[kind], fmt.Sprintf(format, args...))
}

// report fails the test with what was found, a few of each kind.
func (f findings) report(t *testing.T) {
	t.Helper()
	for _, kind := range slices.Sorted(maps.Keys(f)) {
		found := f[kind]
		t.Errorf("%s: %d\n\t%s", kind, len(found), strings.Join(found[:min(len(found), 5)], "\n\t"))
	}
}

// storedResult is a result as the stream has it.
type storedResult struct {
	job.Result
	stored time.Time
}

// results reads what LLM_RESULTS holds, and the number of messages that it ever took.
func (x *ordeal) results() (byID map[string]storedResult, ever uint64) {
	x.t.Helper()
	s, err := x.conn.JS.Stream(x.t.Context(), "LLM_RESULTS")
	if err != nil {
		x.t.Fatal(err)
	}
	byID, ever = map[string]storedResult{}, s.CachedInfo().State.LastSeq
	for seq := s.CachedInfo().State.FirstSeq; seq <= ever; seq++ {
		m, err := s.GetMsg(x.t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // superseded
		}
		if err != nil {
			x.t.Fatalf("read result %d: %v", seq, err)
		}
		r := storedResult{stored: m.Time}
		if err := json.Unmarshal(m.Data, &r.Result); err != nil {
			x.t.Fatalf("result %d is no JSON: %v", seq, err)
		}
		byID[r.ID] = r
	}
	return byID, ever
}

// readCalls fetches the providers' records before they are forgotten.
func (x *ordeal) readCalls() {
	records := [2][]fakellm.Request{x.first.Requests(""), x.second.Requests("")}
	x.mu.Lock()
	defer x.mu.Unlock()
	for provider, calls := range records {
		for _, c := range calls {
			x.calls[fmt.Sprintf("%d/%d", provider, c.N)] = c
		}
	}
}

// audit compares what was asked with what is stored, what was heard and what was paid. blamed says which
// kills may have cost a call.
func (x *ordeal) audit(blamed func(kill) bool) findings {
	x.t.Helper()
	x.readCalls()
	results, ever := x.results()
	x.mu.Lock()
	defer x.mu.Unlock()
	f := findings{}
	calls := x.callTimes()
	repeated, caught := 0, 0
	for id := range x.acknowledged {
		r, ok := results[id]
		if !ok {
			f.add(lost, "%s %q", id, x.tried[id].text)
			continue
		}
		f.delivered(x.witness, r)
		f.own(x.tried[id], r)
		repeated += f.paid(r, calls[fakellm.Nonce(x.tried[id].text)], x.kills, blamed)
	}
	for id := range results {
		if _, ok := x.tried[id]; !ok {
			f.add(unasked, "%s", id)
		}
	}
	if ever != uint64(len(results)) {
		f.add(doubled, "the stream took %d results of %d ids", ever, len(results))
	}
	if caught = x.caught(blamed); repeated > caught {
		f.add(overpaid, "%d calls repeated, at most %d were caught by kills", repeated, caught)
	}
	x.t.Logf("%d requests, %d acknowledged, %d results, %d calls of which %d repeated, %d kills, which caught %d calls at most",
		len(x.tried), len(x.acknowledged), len(results), len(x.calls), repeated, len(x.kills), caught)
	return f
}

// callTimes are the moments of the calls for each nonce. It fails the test when records are missing.
func (x *ordeal) callTimes() map[string][]time.Time {
	times := map[string][]time.Time{}
	for _, c := range x.calls {
		times[c.Nonce] = append(times[c.Nonce], c.At)
	}
	for _, at := range times {
		slices.SortFunc(at, time.Time.Compare)
	}
	if n := x.first.Counts().Calls + x.second.Counts().Calls; n != len(x.calls) {
		x.t.Errorf("the providers counted %d calls, the test has the records of %d", n, len(x.calls))
	}
	return times
}

// delivered checks that each kind of subscriber got the result of run 1 once.
func (f findings) delivered(w *witness, r storedResult) {
	if r.Run != 1 {
		f.add(doubled, "%s has run %d", r.ID, r.Run)
	}
	core, stored := w.heardOf(r.ID, 1)
	if core > 1 || stored > 1 {
		f.add(doubled, "%s: %d messages on the subject, %d from the consumer", r.ID, core, stored)
	}
	if stored == 0 || core == 0 && !w.wasAway(r.stored) {
		f.add(unheard, "%s, stored %s: %d messages on the subject, %d from the consumer", r.ID, r.stored.Format(time.StampMilli), core, stored)
	}
}

// own checks that the result is this request's and nobody else's.
func (f findings) own(q asked, r storedResult) {
	switch {
	case string(r.Metadata) != fmt.Sprint(q.n):
		f.add(foreign, "%s: metadata %s of request %d", r.ID, r.Metadata, q.n)
	case r.Source == job.FromModel && !answersTo(&r.Result, q.text):
		f.add(foreign, "%s: output %s for %q", r.ID, r.Output, q.text)
	case r.Status == job.Succeeded && r.Source != job.FromModel, r.Status == job.Cancelled, r.Status == job.Rejected:
		f.add(foreign, "%s: %s from %q", r.ID, r.Status, r.Source)
	case r.Error != nil && r.Error.Code == fate.Deadline, r.Degraded != nil && r.Degraded.Reason == fate.Deadline:
		f.add(overdue, "%s: %s, finished %s", r.ID, r.Status, r.FinishedAt.Format(time.StampMilli))
	}
}

// maxCalls is max_calls of the rig's tasks.
const maxCalls = 6

// paid compares the calls that the providers counted with those that the result accounts for, and returns
// how many more they are. A call is repeated only after a kill: between it and an earlier one. The copy of
// the job that comes back from a kill may go the whole way that the policy allows, not knowing of the other.
func (f findings) paid(r storedResult, calls []time.Time, kills []kill, blamed func(kill) bool) int {
	copies := 1
	for i := 1; i < len(calls); i++ {
		if slices.ContainsFunc(kills, func(k kill) bool { return blamed(k) && k.at.After(calls[i-1]) && k.at.Before(calls[i]) }) {
			copies++
		}
	}
	repeated := len(calls) - r.Usage.Calls
	if r.Usage.Calls > maxCalls || len(calls) > maxCalls*copies || repeated > 0 && copies == 1 {
		f.add(overpaid, "%s: %d calls counted by the providers, %d in its account, %d kills between them", r.ID, len(calls), r.Usage.Calls, copies-1)
	}
	return max(repeated, 0)
}

// caught bounds the calls that kills can have made worthless: those made since the same thing was killed
// before, and no more than the messages held at the kill.
func (x *ordeal) caught(blamed func(kill) bool) int {
	n := 0
	last := map[string]time.Time{}
	for _, k := range x.kills {
		if !blamed(k) {
			continue
		}
		made := 0
		for _, c := range x.calls {
			if c.At.After(last[k.what]) && c.At.Before(k.at) {
				made++
			}
		}
		n += min(made, k.held)
		last[k.what] = k.at
	}
	return n
}

// callsOf says for which kills calls are repeated while the server lives: those of inference.
func callsOf(k kill) bool { return k.what == broker.Inference }

// deaths is how often a stage dies at a point.
const deaths = 20

// dieAt runs the pipeline with the named stages as processes that die at a kill point again and again, the
// others in this process, until all of them died so often and the traffic is answered.
func (x *ordeal) dieAt(p *processes, names []string, deaths int, env func(stage string, rng *rand.Rand) []string) {
	x.t.Helper()
	var others []string
	for _, name := range x.stageNames() {
		if !slices.Contains(names, name) {
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		x.run(others...)
	}
	var left atomic.Int64
	left.Store(int64(len(names) * deaths))
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(x.t.Context())
	stopAll := func() { stop(); all.Wait() }
	x.t.Cleanup(stopAll)
	for _, name := range names {
		all.Go(func() { x.supervise(ctx, p, name, deaths, &left, env) })
	}
	stopTraffic := x.traffic(30, requests())
	brokertest.Eventually(x.t, 2*time.Minute, "all stages died as often as they should", func() bool { return left.Load() <= 0 })
	stopTraffic()
	x.quiet(time.Minute)
	stopAll()
}

func requests() int {
	if testing.Short() {
		return 120
	}
	return 300
}

// supervise starts a stage again at once whenever it dies, as an operator's machinery would. It has to
// die by the environment's kill points; then it runs without them until ctx ends, and drains.
func (x *ordeal) supervise(ctx context.Context, p *processes, name string, deaths int, left *atomic.Int64, env func(string, *rand.Rand) []string) {
	hash := fnv.New64a()
	hash.Write([]byte(name))
	rng := rand.New(rand.NewPCG(x.seed, hash.Sum64()))
	for died := 0; ; {
		var with []string
		if died < deaths {
			with = env(name, rng)
		}
		c, err := p.start(name, with...)
		if err != nil {
			x.t.Error(err)
			return
		}
		select {
		case <-c.exited:
		case <-ctx.Done():
			p.drain([]*child{c})
			return
		}
		if !c.wasKilled() {
			x.t.Errorf("%s ended by itself: %s", name, c.cmd.ProcessState)
			return
		}
		x.killed(name, x.held(name))
		if name == broker.Inference {
			x.readCalls()
		}
		died++
		left.Add(-1)
	}
}

// passes is how far into its life a stage dies at most: the ladder is taken by a quarter of the requests.
func passes(name string) int {
	if name == broker.Fallback {
		return 3
	}
	return 8
}

func TestAKillAtAnyPointLosesNothingAndRepeatsNoResult(t *testing.T) {
	all := []string{broker.Ingest, broker.ContextBuilder, broker.Inference, broker.Validator, broker.Fallback, broker.ResultWriter}
	for _, round := range []struct {
		what, point string
		stages      []string
	}{
		{"ingest between the marker and the verdict", "after-marker", []string{broker.Ingest}},
		// At inference this is between the call and the hand-over.
		{"every stage between its work and the hand-over", "before-publish", all},
		{"every stage between the hand-over and the ack", "published-before-ack", all},
		{"result-writer between the result and the ack", "result-written", []string{broker.ResultWriter}},
	} {
		t.Run(round.what, func(t *testing.T) {
			x := newOrdeal(t, brokertest.Server(t).URL(), 1)
			x.dieAt(newProcesses(x.rig), round.stages, deaths, func(name string, rng *rand.Rand) []string {
				return []string{fmt.Sprintf("SPILLWAY_KILLPOINT=%s:%d", round.point, 1+rng.IntN(passes(name)))}
			})
			x.audit(callsOf).report(t)
		})
	}
}

// What a call brought is lost with its process until it is handed over, and is paid for once more then; what
// was handed over is not, though the message comes again.
func TestACallIsRepeatedOnlyWhenItsAnswerIsLost(t *testing.T) {
	t.Parallel()
	for point, calls := range map[string]int{"before-publish": 2, "published-before-ack": 1} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			r := setup(t, brokertest.Server(t).URL())
			r.runAllBut(broker.Inference)
			dying := newProcesses(r).mustStart(broker.Inference, "SPILLWAY_KILLPOINT="+point+":1")
			text := "killed at " + point
			id := r.ask(job.Interactive, "toy", text)
			dying.wait(t)
			r.run(broker.Inference)
			check(t, point, r.result(id, 1), succeeded("strict"))
			r.emptied(20 * time.Second)
			r.paidFor(text, calls)
		})
	}
}

// The audit itself is put to the test: of two pipelines that die in the same moment, it must find that the
// one that acknowledges first loses jobs.
func TestTheAuditFindsWhatAnEarlyAckLoses(t *testing.T) {
	for name, c := range map[string]struct {
		env   []string
		loses bool
	}{
		"acknowledges last":  {[]string{"SPILLWAY_KILLPOINT=before-publish:25"}, false},
		"acknowledges first": {[]string{"SPILLWAY_KILLPOINT=acked-before-publish:25", "SPILLWAY_PLANT=ack-before-publish"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			x := newOrdeal(t, brokertest.Server(t).URL(), 1)
			x.run(broker.Ingest, broker.Validator, broker.Fallback, broker.ResultWriter)
			// What cannot be handed over makes the moment between the two acts a long one.
			x.bound(broker.StageStream(broker.Inference), 1)
			victim := newProcesses(x.rig).mustStart(broker.ContextBuilder, c.env...)
			x.traffic(30, 40)()
			victim.wait(t)
			if !victim.wasKilled() {
				t.Fatalf("it was not killed: %s", victim.cmd.ProcessState)
			}
			x.bound(broker.StageStream(broker.Inference), -1)
			x.run(broker.ContextBuilder, broker.Inference)
			x.quiet(time.Minute)
			f := x.audit(callsOf)
			if !c.loses {
				f.report(t)
			} else if n := len(f[lost]); n < 10 {
				t.Errorf("24 jobs were acknowledged before they were handed over, and killed; %d of them are missed", n)
			}
		})
	}
}

// bound sets how many messages a stream takes; -1: any number.
func (x *ordeal) bound(stream string, messages int64) {
	x.t.Helper()
	s, err := x.conn.JS.Stream(x.t.Context(), stream)
	if err != nil {
		x.t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgs = messages
	if _, err := x.conn.JS.UpdateStream(x.t.Context(), cfg); err != nil {
		x.t.Fatal(err)
	}
}
