package contextbuilder

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

func TestThePromptShowsWhatWasAnsweredBefore(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	s.exchange("a", "first", say("one"))
	s.exchange("b", "second", say("two"))
	j := s.request("c", "third")
	want := []string{"u: first", `a: {"say":"one"}`, "u: second", `a: {"say":"two"}`, "u: third"}
	if got := spoken(s.build(j)); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	checkCount(t, s, j)
	r := s.record()
	if len(r.Turns) != 2 || len(r.Pending) != 1 || r.Pending[0].User != "third" || r.Totals.Turns != 2 || r.Totals.CostUSD != 1 || r.Totals.Usage.Calls != 2 {
		t.Errorf("%+v", r)
	}
	if r.Turns[0].Counts["o200k_base"] == 0 {
		t.Errorf("no count is kept: %+v", r.Turns[0])
	}
	// Another session, tenant or none shows none of it.
	for name, change := range map[string]func(*job.Job){
		"session": func(j *job.Job) { j.Session = "two" }, "tenant": func(j *job.Job) { j.Tenant = "other" }, "none": func(j *job.Job) { j.Session = "" },
	} {
		other := s.request("other-"+name, "alone")
		change(other)
		if got := spoken(s.build(other)); !slices.Equal(got, []string{"u: alone"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// checkCount counts the finished prompt anew.
func checkCount(t *testing.T, s *talk, j *job.Job) {
	t.Helper()
	n, err := s.handler.counter.CountMessages("o200k_base", messagesOf(t, j))
	if err != nil || n != j.PromptTokens {
		t.Errorf("%d tokens, counted as a whole %d, %v", j.PromptTokens, n, err)
	}
}

func TestTheNextInASessionWaitsForTheAnswerBeforeIt(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	a, b, c := s.request("a", "first"), s.request("b", "second"), s.request("c", "third")
	s.build(a)
	for range 2 { // it finds the same as often as it looks
		if err := s.refused(b); !err.Waits() || err.Message != "waits for a of its session" || err.After != waitLeast {
			t.Fatalf("%+v", err)
		}
	}
	if err := s.refused(c); err.Message != "waits for a of its session" {
		t.Fatalf("%+v", err)
	}
	s.answer(a, say("one"))
	if err := s.refused(c); err.Message != "waits for b of its session" {
		t.Fatalf("%+v", err)
	}
	if got := spoken(s.build(b)); !slices.Equal(got, []string{"u: first", `a: {"say":"one"}`, "u: second"}) {
		t.Errorf("%q", got)
	}
	s.answer(b, say("two"))
	if got := spoken(s.build(c)); len(got) != 5 || got[3] != `a: {"say":"two"}` {
		t.Errorf("%q", got)
	}
	if b.Attempts != 0 || s.value("spillway_session_waits_total", "task=sample") != 4 {
		t.Errorf("%d attempts, %v waits", b.Attempts, s.value("spillway_session_waits_total"))
	}
}

func TestAWaitGrowsWithWhatWasWaited(t *testing.T) {
	t.Parallel()
	for queued, want := range map[int64]time.Duration{0: 50 * time.Millisecond, 400: 100 * time.Millisecond, 60_000: time.Second} {
		j := &job.Job{History: []job.Event{{Kind: job.KindHop, Stage: broker.ContextBuilder, Fate: "retry", QueuedMS: queued, Detail: "waits for a of its session"}}}
		if id, waited := awaited(j); again(j) != want || !waited || id != "a" {
			t.Errorf("after %d ms: %s, for %q", queued, again(j), id)
		}
	}
	for name, e := range map[string]job.Event{
		"a fault":     {Kind: job.KindHop, Stage: broker.ContextBuilder, Fate: "retry", Code: fate.Internal, QueuedMS: 60_000},
		"another hop": {Kind: job.KindHop, Stage: broker.Ingest, QueuedMS: 60_000},
	} {
		if got := again(&job.Job{History: []job.Event{e}}); got != waitLeast {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The copy that comes back has the wait in its history: it looks for that one result alone, and now and then at all.
func TestWhoWaitsReadsTheRecordOnlyWhenItMayHaveChanged(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	a, b := s.request("a", "first"), s.request("b", "second")
	s.build(a)
	b.History = []job.Event{{Kind: job.KindHop, Stage: broker.ContextBuilder, Fate: "retry", Detail: "waits for a of its session"}}
	if _, err := s.store.Remove(t.Context(), "acme", "sample", "one"); err != nil {
		t.Fatal(err)
	}
	for n := range lookAnew - 1 {
		b.History[0].N = n
		if err := s.refused(b); err.Message != "waits for a of its session" {
			t.Fatalf("%d: %v", n, err)
		}
	}
	b.History[0].N = lookAnew - 1
	if got := spoken(s.build(b)); !slices.Equal(got, []string{"u: second"}) {
		t.Errorf("the session was forgotten: %q", got)
	}
}

func TestAFreshAnswerIsThatOfWhatTheSessionShows(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}\ncache: {serve: fresh}", nil)
	keep := func(key, output string) {
		body, err := json.Marshal(job.CachedAnswer{
			V: job.Version, Task: "sample", Tenant: "acme", Output: json.RawMessage(output), Model: "small", At: time.Now(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.conn.Publish(t.Context(), &nats.Msg{Subject: broker.CacheSubject(key), Data: body}); err != nil {
			t.Fatal(err)
		}
	}
	a := s.request("a", "first")
	s.build(a)
	keep(a.CacheKey, say("kept"))
	s.answer(a, say("one"))
	b := s.request("b", "first") // the same words, and another conversation
	if s.build(b); b.Outcome != nil {
		t.Fatalf("%+v", b.Outcome)
	}
	keep(b.CacheKey, say("also kept"))
	again := s.request("b", "first")
	again.RequestSeq = b.RequestSeq
	if err := handle(t, s.handler, again); err != nil || again.Outcome == nil || string(again.Outcome.Output) != say("also kept") || again.To != broker.ResultWriter {
		t.Fatalf("%v, %+v", err, again.Outcome)
	}
	s.end(again, *again.Outcome)
	if got := spoken(s.build(s.request("c", "third"))); len(got) != 5 || got[3] != "a: "+say("also kept") {
		t.Errorf("%q", got)
	}
}

func TestAsAcceptedNobodyWaits(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional, order: as_accepted}", nil)
	a, b, c := s.request("a", "first"), s.request("b", "second"), s.request("c", "third")
	s.build(a)
	if got := spoken(s.build(b)); !slices.Equal(got, []string{"u: second"}) {
		t.Errorf("%q", got)
	}
	s.answer(b, say("two"))
	if got := spoken(s.build(c)); !slices.Equal(got, []string{"u: second", `a: {"say":"two"}`, "u: third"}) {
		t.Errorf("%q", got)
	}
	s.answer(a, say("one"))
	s.answer(c, say("three"))
	d := s.request("d", "fourth")
	want := []string{"u: first", `a: {"say":"one"}`, "u: second", `a: {"say":"two"}`, "u: third", `a: {"say":"three"}`, "u: fourth"}
	if got := spoken(s.build(d)); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestAJobThatIsBuiltAgainSeesTheSame(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	s.exchange("a", "first", say("one"))
	b := s.request("b", "second")
	first := *b
	want := s.build(b)
	for name, change := range map[string]func(*job.Job){
		"delivered again after a kill": func(*job.Job) { s.restart() },
		"for another model": func(j *job.Job) {
			j.Model, j.Trouble = "abroad", &job.Trouble{Stage: broker.Inference, Code: fate.ProviderTimeout}
		},
	} {
		again := first
		change(&again)
		if got := s.build(&again); !slices.Equal(got, want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	s.answer(b, say("two"))
	s.exchange("c", "third", say("three"))
	s.exchange("d", "fourth", say("four"))
	before := s.record()
	replay := first
	replay.Run, replay.AcknowledgedAt, replay.Deadline = 2, time.Now(), time.Now().Add(time.Minute)
	if got := s.build(&replay); !slices.Equal(got, want) {
		t.Errorf("a replay: %+v", got)
	}
	s.answer(&replay, say("TWO"))
	e := s.request("e", "fifth")
	want5 := []string{"u: first", `a: {"say":"one"}`, "u: second", `a: {"say":"TWO"}`, "u: third", `a: {"say":"three"}`, "u: fourth", `a: {"say":"four"}`, "u: fifth"}
	if got := spoken(s.build(e)); !slices.Equal(got, want5) {
		t.Errorf("after the replay: %q", got)
	}
	if r := s.record(); r.Totals.Turns != 4 || len(r.Turns) != 4 || len(before.Turns) != 3 {
		t.Errorf("%+v", r)
	}
}

// A replay of a job that waits for nobody is answered though another is under way, and holds nobody up.
func TestReplaysHoldNobodyUpAndWaitForNobody(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	a := s.request("a", "first")
	s.build(a)
	s.end(a, job.Outcome{Status: job.Failed, Error: &job.Failure{Code: fate.ProviderTimeout}})
	b := s.request("b", "second")
	s.build(b)
	replay := *a
	replay.Run = 2
	s.build(&replay)
	s.answer(b, say("two"))
	c := s.request("c", "third")
	if got := spoken(s.build(c)); !slices.Equal(got, []string{"u: second", `a: {"say":"two"}`, "u: third"}) {
		t.Errorf("%q", got)
	}
	s.answer(&replay, say("one"))
	s.answer(c, say("three"))
	d := s.request("d", "fourth")
	if got := spoken(s.build(d)); len(got) != 7 || got[0] != "u: first" {
		t.Errorf("%q", got)
	}
}

func TestWhatHasNoOutputIsNotRemembered(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	for i, status := range []job.Status{job.Failed, job.Rejected, job.Cancelled} {
		j := s.request(fmt.Sprint("x", i), "lost")
		s.build(j)
		s.end(j, job.Outcome{Status: status})
	}
	stuck := s.request("never-built", "lost")
	s.end(stuck, job.Outcome{Status: job.Degraded, Source: job.FromCanned, Output: json.RawMessage(say("canned"))})
	overdue := s.stored("overdue", "lost")
	overdue.Deadline = time.Now().Add(-session.Grace - time.Second)
	s.join(overdue)
	if err := s.conn.Delete(t.Context(), broker.RequestsStream, overdue.RequestSeq); err != nil {
		t.Fatal(err)
	}
	j := s.request("y", "now")
	if got := spoken(s.build(j)); !slices.Equal(got, []string{"u: now"}) {
		t.Errorf("%q", got)
	}
	if r := s.record(); len(r.Pending) != 1 || r.Totals.Usage.Calls != 4 {
		t.Errorf("%+v", r)
	}
}

func TestARequestThatIsBeingAdmittedIsAwaited(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	early := s.stored("early", "first") // acknowledged, and ingest is at it
	late := s.request("late", "second")
	if err := s.refused(late); !err.Waits() || err.After != waitLeast || err.Message != fmt.Sprint("an earlier request of its session is being admitted, number ", early.RequestSeq) {
		t.Fatalf("%+v", err)
	}
	overdue := *late
	overdue.AcknowledgedAt = time.Now().Add(-earlyFor)
	s.build(&overdue)
	if e := overdue.History[0]; e.Kind != job.KindContext || !strings.Contains(e.Detail, "not admitted") {
		t.Errorf("%+v", e)
	}
	s.join(early)
	if err := s.conn.Delete(t.Context(), broker.RequestsStream, early.RequestSeq); err != nil {
		t.Fatal(err)
	}
	if err := s.refused(late); err.Message != "waits for early of its session" {
		t.Fatalf("%+v", err)
	}
}

// An ingest that died gives its requests back after seconds: who comes meanwhile does not read them all over and over.
func TestWhoIsBehindManyRequestsOfOthersLooksAtEachOnce(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	const others = 2*earlyReads + 10
	for range others {
		_, err := s.conn.Publish(t.Context(), &nats.Msg{Subject: broker.RequestSubject(job.Interactive, "sample"), Data: []byte(`{"session":"two","tenant":"acme"}`)})
		if err != nil {
			t.Fatal(err)
		}
	}
	mine := s.stored("mine", "first")
	late := s.request("late", "second")
	comesBack := func(why string) {
		late.History = []job.Event{{Kind: job.KindHop, Stage: broker.ContextBuilder, Fate: "retry", Detail: why}}
	}
	for looks := 1; ; looks++ {
		err := s.refused(late)
		comesBack(err.Message)
		if want := fmt.Sprint("an earlier request of its session is being admitted, number ", mine.RequestSeq); err.Message == want {
			break
		}
		if want := fmt.Sprint("many earlier requests are being admitted, number ", looks*earlyReads+1); err.Message != want || looks > 2 {
			t.Fatalf("look %d: %q", looks, err.Message)
		}
	}
	if err := s.conn.Delete(t.Context(), broker.RequestsStream, mine.RequestSeq); err != nil {
		t.Fatal(err)
	}
	if got := spoken(s.build(late)); !slices.Equal(got, []string{"u: second"}) {
		t.Errorf("%q", got)
	}
}

func TestOnlyRequestsOfTheSameSessionAreAwaited(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	j := &job.Job{ID: "mine", Session: "one", Tenant: "acme"}
	for body, want := range map[string]bool{
		`{"session":"one","tenant":"acme","id":"theirs"}`: true,
		`{"session":"one","tenant":"acme"}`:               true,
		`{"session":"one","tenant":"acme","id":"mine"}`:   false, // itself, repeated
		`{"session":"two","tenant":"acme"}`:               false,
		`{"session":"one","tenant":"other"}`:              false,
		`{"session":"one"}`:                               false,
		`{`:                                               false,
	} {
		if got := isOfSession(&broker.Stored{Data: []byte(body)}, j); got != want {
			s.Errorf("%s: %v", body, got)
		}
	}
}

func TestTextsAndAnswersByTheirTemplateAreTurnsToo(t *testing.T) {
	t.Parallel()
	text := converse(t, "model: small\noutput: {format: text}\ncontext: {session: optional}", map[string]string{"output.schema.json": ""})
	text.exchange("a", "first", `"One,\nand \"more\"."`)
	if got := spoken(text.build(text.request("b", "second"))); !slices.Equal(got, []string{"u: first", "a: One,\nand \"more\".", "u: second"}) {
		t.Errorf("%q", got)
	}
	mine := converse(t, "model: small\ncontext: {session: optional}", map[string]string{"prompt.tmpl": sessionText + `{{define "assistant"}}I said {{.Output.say}}.{{end}}`})
	mine.exchange("a", "first", say("one"))
	if got := spoken(mine.build(mine.request("b", "second"))); !slices.Equal(got, []string{"u: first", "a: I said one.", "u: second"}) {
		t.Errorf("%q", got)
	}
}

func TestHostileTurnsAndAnswersStayInTheirRoles(t *testing.T) {
	t.Parallel()
	for _, text := range hostile() {
		if text == "" || strings.Contains(text, "\x00") {
			continue // nothing was said; and JSON has no such letter in a text
		}
		s := converse(t, "model: wide\ncontext: {session: optional}", map[string]string{"prompt.tmpl": sessionText + `{{define "assistant"}}{{.Output.say}}{{end}}`})
		s.exchange("a", text, say(text))
		want := []job.Message{{Role: "system", Content: "Be kind."}, {Role: "user", Content: text}, {Role: "assistant", Content: text}, {Role: "user", Content: text}}
		if got := s.build(s.request("b", text)); !slices.Equal(got, want) {
			t.Errorf("%q became %+v", text, got)
		}
	}
}

func TestTheKeyOfCachedAnswersIsThatOfWhatThePromptShows(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional}", nil)
	plain := s.set.Tasks["sample"]
	input, err := task.Canonical(message("first"))
	if err != nil {
		t.Fatal(err)
	}
	a := s.request("a", "first")
	s.build(a)
	if a.CacheKey != plain.CacheKey("acme", input, "") {
		t.Error("a session that shows nothing has a key of its own")
	}
	s.answer(a, say("one"))
	keys := map[string]bool{a.CacheKey: true}
	b := s.request("b", "first")
	s.build(b)
	keys[b.CacheKey] = true
	s.answer(b, say("two"))
	c := s.request("c", "first")
	s.build(c)
	keys[c.CacheKey] = true
	if len(keys) != 3 || keys[""] {
		t.Errorf("%v", keys)
	}
	bypass := s.request("d", "first")
	bypass.CacheBypass = true
	s.answer(c, say("three"))
	s.build(bypass)
	if bypass.CacheKey != "" {
		t.Error(bypass.CacheKey)
	}
}
