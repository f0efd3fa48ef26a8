package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// bury lays a dead letter by hand.
func (r *rig) bury(t *testing.T, stage, task, id string, code fate.Code, degraded bool) {
	t.Helper()
	now := time.Now().UTC()
	r.put(t, broker.DeadSubject(stage, task, id), job.Letter{
		V: job.Version, Stage: stage, Code: code, Message: "the message of " + id, At: now, Degraded: degraded,
		Job: &job.Job{
			V: job.Version, ID: id, Task: task, Lane: job.Interactive, Run: 1, Model: "small", AcknowledgedAt: now, Deadline: now.Add(time.Minute),
			Input: json.RawMessage(`{"text":"private words"}`), Prompt: job.NewPrompt(job.Message{Role: "user", Content: "private prompt"}),
			Answer: &job.Answer{Content: "private answer", FinishReason: "stop"}, Usage: job.Usage{Calls: 3, InputTokens: 100, OutputTokens: 20}, CostUSD: 0.25,
			History: []job.Event{{Kind: job.KindHop, Stage: "ingest", At: now}, {Kind: job.KindCall, Stage: "inference", Model: "small", N: 1, At: now, TookMS: 1500, Outcome: string(code)}},
		},
	})
}

func (r *rig) put(t *testing.T, subject string, v any) {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.conn.Publish(t.Context(), &nats.Msg{Subject: subject, Data: body}); err != nil {
		t.Fatal(err)
	}
}

// admitted lays the marker of a run by hand.
func (r *rig) admitted(t *testing.T, id string, run int) {
	t.Helper()
	now := time.Now().UTC()
	if _, err := r.conn.Admit(t.Context(), &job.Marker{V: job.Version, ID: id, Task: "analyze", Lane: job.Interactive, Run: run, AcknowledgedAt: now, Deadline: now.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) messages(t *testing.T, stream string) int {
	t.Helper()
	s, err := r.conn.JS.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

func ids(list []map[string]any) string {
	var names []string
	for _, l := range list {
		names = append(names, fmt.Sprint(l["id"]))
	}
	return strings.Join(names, " ")
}

func TestDeadLettersAreListedAndPicked(t *testing.T) {
	r := serve(t)
	r.spillway(t, "dead", "ls").with(exitOK, "no dead letters")
	r.bury(t, "inference", "analyze", "a1", fate.ProviderTimeout, false)
	r.bury(t, "inference", "onboarding", "b1", fate.ProviderTimeout, true)
	r.bury(t, "validator", "analyze", "a2", fate.OutputInvalid, false)
	r.put(t, broker.DeadSubject("fallback", broker.RawTask, "x1"), job.Letter{V: 1, Stage: "fallback", Code: fate.Undecodable, Message: "no \x1b[31mjob\nat all", Raw: []byte("{")})

	r.spillway(t, "dead", "ls").with(exitOK, "AGE", "provider_timeout", "the message of a1", "output_invalid", `no \u001b[31mjob at all`).without("private")
	for want, args := range map[string][]string{
		"a1 b1 a2 x1": {},
		"a1 a2":       {"--task=analyze"},
		"a2":          {"--task=analyze", "--stage=validator"},
		"b1 a2":       {"--stage=inference,validator", "--task=onboarding,analyze", "--limit=2"},
		"a1 b1":       {"--code=provider_timeout", "--since=1h"},
		"b1":          {"--degraded"},
		"a1 a2 x1":    {"--no-degraded"},
		"a2 x1":       {"--limit=2"},
		"":            {"--older-than=1h"},
	} {
		if got := ids(r.spillway(t, append([]string{"dead", "ls", "--json"}, args...)...).with(exitOK).lines()); got != want {
			t.Errorf("dead ls %v: %q, not %q", args, got, want)
		}
	}
	if got := ids(r.spillway(t, "dead", "ls", "--limit=0", "--json").with(exitOK).lines()); got != "a1 b1 a2 x1" {
		t.Errorf("streamed %q", got)
	}
	r.spillway(t, "dead", "ls", "--limit=1").with(exitOK, "the newest 1 of 4")
	r.spillway(t, "dead", "ls", "--by=code").with(exitOK, "CODE", "provider_timeout  2")
	if got := r.spillway(t, "dead", "ls", "--by=task", "--json").with(exitOK).lines(); len(got) != 3 || got[0]["key"] != "analyze" || got[0]["count"] != 2.0 {
		t.Errorf("%v", got)
	}
	r.spillway(t, "dead", "ls", "--code=timeout").with(exitUsage, "there is no code", "provider_timeout")
	r.spillway(t, "dead", "ls", "--stage=model").with(exitUsage, "there is no stage", "inference")
	r.spillway(t, "dead", "ls", "--limit=-1").with(exitUsage)
}

func TestManyDeadLettersAreReadInPieces(t *testing.T) {
	r := serve(t)
	for n := range 3 * pullMessages {
		r.put(t, broker.DeadSubject("inference", "analyze", fmt.Sprintf("m%d", n)), job.Letter{V: 1, Stage: "inference", Code: fate.Internal, Message: strings.Repeat("m", 300)})
	}
	if got := r.spillway(t, "dead", "ls", "--limit=0", "--json").with(exitOK).lines(); len(got) != 3*pullMessages {
		t.Errorf("%d letters, not %d", len(got), 3*pullMessages)
	}
	r.spillway(t, "dead", "ls", "--by=stage").with(exitOK, "inference  768")
}

func TestADeadLetterIsShownWithoutItsContent(t *testing.T) {
	r := serve(t)
	r.bury(t, "inference", "analyze", "a1", fate.ProviderTimeout, true)
	r.spillway(t, "dead", "show", "a1").
		with(exitOK, "llm.dead.inference.analyze.a1", "provider_timeout: the message of a1", "Replay after the outage", "degraded", "input 24 bytes",
			"prompt 14 bytes in 1 message", "$0.25000 (3 calls", "inference small #1", "1.5s", "spillway dead replay a1").
		without("private")
	r.spillway(t, "dead", "show", "a1", "--content").with(exitOK, "private words", "private prompt", "private answer")
	if got := r.spillway(t, "dead", "show", "a1", "--json").with(exitOK).one(); got["job"].(map[string]any)["id"] != "a1" {
		t.Errorf("%v", got)
	}
	r.put(t, broker.DeadSubject("validator", "analyze", "a1"), job.Letter{V: 1, Stage: "validator", Code: fate.Crashed, Stack: "goroutine 1", Raw: []byte("{")})
	r.spillway(t, "dead", "show", "a1").with(exitOK, "crashed", "goroutine 1", "1 byte that are no job", "an older letter of this id is kept too: llm.dead.inference.analyze.a1")
	r.spillway(t, "dead", "show", "unknown").with(exitNotFound, "no dead letter of unknown is kept", "spillway result unknown")
}

func TestDeadLettersAreRemoved(t *testing.T) {
	r := serve(t)
	for n := range 4 {
		r.bury(t, "inference", "analyze", fmt.Sprintf("a%d", n), fate.ProviderTimeout, n == 3)
	}
	r.spillway(t, "dead", "rm").with(exitUsage, "--all")
	r.spillway(t, "dead", "rm", "--since=1h").with(exitUsage, "--all")
	r.spillway(t, "dead", "rm", "a1", "--task=analyze").with(exitUsage, "exclude each other")
	r.spillway(t, "dead", "rm", "--all").with(exitUsage, "4 dead letters", "--yes")
	r.spillway(t, "dead", "rm", "--all", "--degraded", "--dry-run").with(exitOK, "a3", "1 dead letter would be removed").without("a1")
	if got := r.spillway(t, "dead", "rm", "a1", "--json").with(exitOK).one(); got["event"] != "removed" || got["id"] != "a1" {
		t.Errorf("%v", got)
	}
	r.spillway(t, "dead", "rm", "a1").with(exitNotFound, "no dead letter of a1 is kept")
	r.spillway(t, "dead", "rm", "--all", "--no-degraded", "--yes").with(exitOK, "2 dead letters removed")
	if got := ids(r.spillway(t, "dead", "ls", "--json").with(exitOK).lines()); got != "a3" {
		t.Errorf("left: %q", got)
	}
}

// No fallback runs, so that the orders can be counted in its inbox.
func TestAReplayIsRefusedOrOrderedOnce(t *testing.T) {
	r := serve(t)
	for _, id := range []string{"good", "done", "flying"} {
		r.bury(t, "inference", "analyze", id, fate.ProviderTimeout, false)
	}
	r.put(t, broker.DeadSubject("fallback", broker.RawTask, "raw-1"), job.Letter{V: 1, Stage: "fallback", Code: fate.Undecodable, Raw: []byte("{")})
	r.admitted(t, "good", 1)
	r.admitted(t, "flying", 2)
	r.admitted(t, "alive", 1)
	if _, err := r.conn.Publish(t.Context(), &nats.Msg{
		Subject: broker.WriteSubject("analyze", "done"), Data: []byte(`{"id":"done","run":1,"status":"succeeded"}`),
		Header: nats.Header{broker.RunHeader: {"1"}, broker.StatusHeader: {"succeeded"}},
	}); err != nil {
		t.Fatal(err)
	}
	inbox := broker.StageStream(broker.Fallback)

	r.spillway(t, "dead", "replay", "done").with(exitFailed, "run 1 ended as succeeded")
	r.spillway(t, "dead", "replay", "flying").with(exitFailed, "run 2 is under way")
	r.spillway(t, "dead", "replay", "alive").with(exitFailed, "run 1 is under way")
	r.spillway(t, "dead", "replay", "raw-1").with(exitFailed, "no job with an input")
	r.spillway(t, "dead", "replay", "unheard-of").with(exitNotFound, "nothing is known")
	r.spillway(t, "dead", "replay").with(exitUsage, "--all", "--degraded")
	r.spillway(t, "dead", "replay", "--rate=20/s", "--wait").with(exitUsage, "--all")
	r.spillway(t, "dead", "replay", "good", "--since=1h").with(exitUsage, "exclude each other")
	r.spillway(t, "dead", "replay", "good", "--rate=fast").with(exitUsage, "20/s")
	r.spillway(t, "dead", "replay", "--all", "--dry-run").
		with(exitOK, "done  refused", "flying  refused", "raw-1  refused", "1 job would be replayed (their last runs took 3 calls, $0.25000), 3 refused")
	if n := r.messages(t, inbox); n != 0 {
		t.Fatalf("%d orders before the first", n)
	}
	r.spillway(t, "dead", "replay", "good", "--model=large").with(exitOK, "run 2 is ordered", "fallback has not taken the order up")
	r.spillway(t, "dead", "replay", "good").with(exitOK, "the same order was given")
	if n := r.messages(t, inbox); n != 1 {
		t.Errorf("%d orders for two times Enter", n)
	}
	s, err := r.conn.JS.Stream(t.Context(), inbox)
	if err != nil {
		t.Fatal(err)
	}
	order, err := s.GetLastMsgForSubject(t.Context(), "llm.replay.good")
	if err != nil || string(order.Data) != `{"model":"large"}` {
		t.Errorf("the order: %v %v", order, err)
	}
	out := r.spillway(t, "dead", "replay", "good", "done", "--json").with(exitFailed)
	if got := out.lines(); len(got) != 2 || got[0]["event"] != "refused" && got[1]["event"] != "refused" {
		t.Errorf("%v", got)
	}
}

func TestReplaysEndInNewResults(t *testing.T) {
	r := pipeline(t)
	fail := func(t *testing.T, n int, prefix string) {
		t.Helper()
		r.provider.SetFaults(fakellm.Fault{Kind: fakellm.KindBadRequest})
		for i := range n {
			id := fmt.Sprintf("%s%d", prefix, i)
			r.spillway(t, "submit", "bare", `{"text":"`+id+`"}`, "--id="+id).with(exitNotAnswered, "provider_refused_request")
		}
		r.provider.SetFaults()
		brokertest.Eventually(t, 10*time.Second, "the dead letters are there", func() bool { return r.messages(t, broker.DeadStream) == n })
	}

	t.Run("a single one says that it has started", func(t *testing.T) {
		fail(t, 1, "s")
		r.spillway(t, "dead", "replay", "s0").with(exitOK, "run 2 is ordered", "run 2 has started")
		r.spillway(t, "result", "s0", "--wait", "--run=2").with(exitOK, "succeeded", "run 2")
		r.spillway(t, "dead", "replay", "s0").with(exitFailed, "run 2 ended as succeeded")
	})
	t.Run("fallback's own refusal is heard", func(t *testing.T) {
		fail(t, 1, "r")
		r.spillway(t, "dead", "replay", "r0", "--model=unknown").with(exitFailed, "there is no model")
		r.spillway(t, "dead", "rm", "r0").with(exitOK)
	})
	t.Run("in bulk they are waited for and summed up", func(t *testing.T) {
		fail(t, 5, "b")
		out := r.spillway(t, "dead", "replay", "--all", "--task=bare", "--rate=0", "--wait").with(exitOK, "5 succeeded", "b4")
		if n := strings.Count(out.out, "succeeded  bare"); n != 5 {
			t.Errorf("%d results", n)
		}
		if n := r.messages(t, broker.DeadStream); n != 0 {
			t.Errorf("%d dead letters are left", n)
		}
		r.spillway(t, "dead", "replay", "--all").with(exitOK, "0 requests")
	})
	t.Run("a filter says which, without --all", func(t *testing.T) {
		fail(t, 2, "u")
		r.spillway(t, "dead", "replay", "--degraded", "--since=2h", "--rate=20/s").with(exitOK, "0 requests")
		r.spillway(t, "dead", "replay", "--older-than=1h").with(exitOK, "0 requests")
		for _, filter := range []string{"--task=bare", "--stage=inference", "--code=provider_refused_request", "--no-degraded"} {
			r.spillway(t, "dead", "replay", filter, "--since=2h", "--dry-run").with(exitOK, "2 jobs would be replayed")
		}
		r.spillway(t, "dead", "replay", "--since=2h", "--wait").with(exitOK, "2 succeeded")
	})
	t.Run("as after an outage: those whose client got a degraded answer", func(t *testing.T) {
		fail(t, 1, "n") // has none
		r.provider.SetFaults(fakellm.Fault{Kind: fakellm.KindBadRequest})
		for _, id := range []string{"d0", "d1"} {
			r.spillway(t, "submit", "analyze", `{"text":"`+id+`"}`, "--id="+id, "--json").with(exitOK, `"status":"degraded"`)
		}
		r.provider.SetFaults()
		brokertest.Eventually(t, 10*time.Second, "the dead letters are there", func() bool { return r.messages(t, broker.DeadStream) == 3 })
		r.spillway(t, "dead", "replay", "--degraded", "--since=2h", "--rate=20/s", "--wait").with(exitOK, "2 succeeded", "d0", "d1")
		r.spillway(t, "dead", "rm", "n0").with(exitOK)
	})
	t.Run("a run that fails again has its exit code and its event", func(t *testing.T) {
		fail(t, 1, "f")
		r.provider.SetFaults(fakellm.Fault{Kind: fakellm.KindBadRequest})
		defer r.provider.SetFaults()
		out := r.spillway(t, "dead", "replay", "f0", "--wait", "--json").with(exitNotAnswered)
		// The order is told by another goroutine than the result.
		if !slices.ContainsFunc(out.lines(), func(line map[string]any) bool {
			result, ok := line["result"].(map[string]any)
			return ok && line["event"] == "result" && result["run"] == 2.0
		}) {
			t.Errorf("%v", out.lines())
		}
	})
}
