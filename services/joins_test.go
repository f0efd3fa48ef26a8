package services_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/session"
)

// sessionFiles has two tasks more: talk, whose requests may be of a session, and chat, whose requests are.
func sessionFiles(first, second string) fstest.MapFS {
	fs := folder(first, second)
	addTask(fs, "talk", taskYAML+ladderNone+"context: {session: optional}\nretention: {session: 48h}\n")
	addTask(fs, "chat", taskYAML+ladderNone+"context: {session: required}\n")
	return fs
}

// say is the body of a request of a session. tenant may be "".
func say(tenant, session, text string) []byte {
	if tenant != "" {
		tenant = fmt.Sprintf(`"tenant":%q,`, tenant)
	}
	return fmt.Appendf(nil, `{%s"session":%q,"input":{"text":%q}}`, tenant, session, text)
}

// record reads what is remembered of a session.
func (r *rig) record(tenant, task, name string) *session.Session {
	r.t.Helper()
	s, _, err := session.NewStore(r.conn).Load(r.t.Context(), tenant, task, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// handedOver waits for n jobs in an inbox that nobody pulls from, and returns their first lines by id.
func (r *rig) handedOver(stage string, n int) map[string]map[string]any {
	r.t.Helper()
	stream := broker.StageStream(stage)
	brokertest.Eventually(r.t, 60*time.Second, fmt.Sprintf("%d jobs wait for %s", n, stage), func() bool {
		s, err := r.conn.JS.Stream(r.t.Context(), stream)
		return err == nil && s.CachedInfo().State.Msgs >= uint64(n)
	})
	s, err := r.conn.JS.Stream(r.t.Context(), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	jobs := map[string]map[string]any{}
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(m.Data), "\n")
		var j map[string]any
		if err := json.Unmarshal([]byte(line), &j); err != nil {
			r.t.Fatal(err)
		}
		jobs[fmt.Sprint(j["id"])] = j
	}
	return jobs
}

func TestARequestOfASessionIsNotedWithItBeforeItGoesOn(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, sessionFiles)
	r.run(broker.Ingest)
	sequences := map[string]uint64{}
	send := func(subject, id string, body []byte) {
		t.Helper()
		ack, err := r.conn.Publish(t.Context(), &nats.Msg{Subject: subject, Data: body, Header: nats.Header{"Nats-Msg-Id": {id}}})
		if err != nil {
			t.Fatal(err)
		}
		sequences[id] = ack.Sequence
	}
	send("llm.request.toy", "unasked", say("acme", "s", "a task without a memory"))
	send("llm.request.toy", "unasked-2", say("acme", "s2", "a task without a memory"))
	send("llm.request.talk", "first", say("acme", "s", "hello"))
	send("llm.batch.talk", "slow", say("acme", "s", "take your time"))
	send("llm.request.talk", "other", say("other", "s", "hello"))
	send("llm.request.talk", "nobody", say("", "s", "hello"))
	send("llm.request.talk", "single", []byte(`{"input":{"text":"no session"}}`))
	send("llm.request.talk", "second", say("acme", "s", "hello again"))
	jobs := r.handedOver(broker.ContextBuilder, 8)
	for id, sequence := range sequences {
		if jobs[id]["request_seq"] != float64(sequence) {
			t.Errorf("%s travels with request_seq %v, JetStream acknowledged %d", id, jobs[id]["request_seq"], sequence)
		}
		m, _, err := r.conn.Marker(t.Context(), id)
		hasKey := id == "unasked" || id == "unasked-2" || id == "single"
		if err != nil || (m.CacheKey != "") != hasKey || (jobs[id]["cache_key"] != nil) != hasKey {
			t.Errorf("%s: key %q in the marker, %v in the job, %v", id, m.CacheKey, jobs[id]["cache_key"], err)
		}
	}
	if one, two := jobs["unasked"]["cache_key"], jobs["unasked-2"]["cache_key"]; one != two {
		t.Errorf("two sessions of a task without a memory have the keys %v and %v", one, two)
	}
	for of, want := range map[[3]string][]string{
		{"acme", "talk", "s"}: {"first", "slow", "second"}, {"other", "talk", "s"}: {"other"}, {"", "talk", "s"}: {"nobody"},
		{"acme", "toy", "s"}: nil, {"", "talk", ""}: nil,
	} {
		s := r.record(of[0], of[1], of[2])
		if len(s.Pending) != len(want) {
			t.Errorf("%v: %d wait, want %v", of, len(s.Pending), want)
			continue
		}
		for i, p := range s.Pending {
			deadline, err := time.Parse(time.RFC3339Nano, fmt.Sprint(jobs[p.ID]["deadline"]))
			if p.ID != want[i] || p.Run != 1 || p.Seq != sequences[p.ID] || p.Lane != jobs[p.ID]["lane"] || err != nil || !p.Deadline.Equal(deadline) {
				t.Errorf("%v: in place %d waits %+v, want %s", of, i, p, want[i])
			}
		}
	}
	stored, err := r.conn.Last(t.Context(), "KV_llm_sessions", "$KV.llm_sessions."+session.KeyOf("acme", "talk", "s"))
	if err != nil || stored.Header["Nats-TTL"][0] != "172800" {
		t.Errorf("kept for %v seconds, want the task's 48 h, %v", stored.Header["Nats-TTL"], err)
	}
}

func TestASessionWhoseRecordCanNotBeReadHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, sessionFiles)
	r.run()
	for name, record := range map[string]string{"broken": `{"v":`, "later": `{"v":99}`} {
		key := session.KeyOf("acme", "talk", name)
		if _, err := r.conn.Swap(t.Context(), broker.SessionsBucket, key, []byte(record), 0); err != nil {
			t.Fatal(err)
		}
		result := r.result(r.publish(job.Interactive, "talk", "", say("acme", name, "hello")), 1)
		isTold := slices.ContainsFunc(result.History, func(e job.Event) bool {
			return e.Kind == job.KindContext && strings.Contains(e.Detail, "can not be read, nothing is remembered")
		})
		if result.Status != job.Succeeded || result.Session != name || !isTold {
			t.Errorf("%s: %s, %+v", name, result.Status, result.History)
		}
		if kept, err := r.conn.Record(t.Context(), broker.SessionsBucket, key); err != nil || string(kept.Data) != record {
			t.Errorf("%s: the record is %s now, %v", name, kept.Data, err)
		}
	}
}

func TestATaskThatNeedsASessionTakesNoRequestWithoutOne(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, sessionFiles)
	r.run()
	for _, body := range []string{`{"input":{"text":"hello"}}`, `{"input":{"text":"hello"},"session":""}`} {
		result := r.result(r.publish(job.Interactive, "chat", "", []byte(body)), 1)
		if result.Status != job.Rejected || result.Error.Code != fate.InvalidRequest || result.Error.Pointer != "/session" {
			t.Errorf("%s: %s, %+v", body, result.Status, result.Error)
		}
		receipt, err := r.client.Submit(t.Context(), "chat", []byte(body))
		if err != nil || receipt.Error == nil || receipt.Error.Code != fate.InvalidRequest || receipt.Error.Pointer != "/session" {
			t.Errorf("%s: receipt %+v, %v", body, receipt, err)
		}
	}
	check(t, "with a session", r.result(r.publish(job.Interactive, "chat", "", say("", "s", "hello")), 1), succeeded("strict"))
}

func TestTheRequestThatIsOneTooManyForItsSessionIsRejected(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, sessionFiles)
	now := time.Now()
	_, err := session.NewStore(r.conn).Update(t.Context(), "acme", "talk", "s", time.Hour, func(s *session.Session) (bool, error) {
		for i := range 1000 {
			p := session.Pending{ID: fmt.Sprint("waits-", i), Run: 1, Deadline: now.Add(time.Hour), Place: session.Place{Lane: job.Interactive, Seq: uint64(i + 1), At: now}}
			if _, err := s.Join(p); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.run(broker.Ingest, broker.ResultWriter)
	result := r.result(r.publish(job.Interactive, "talk", "", say("acme", "s", "one more")), 1)
	if result.Status != job.Rejected || result.Error.Code != fate.SessionCrowded || result.Usage.Calls != 0 {
		t.Errorf("%s, %+v", result.Status, result.Error)
	}
	r.publish(job.Interactive, "talk", "apart", say("other", "s", "the same name"))
	if r.handedOver(broker.ContextBuilder, 1)["apart"] == nil {
		t.Error("another tenant's session is crowded too")
	}
}

// A thousand requests of one session come at once, to two processes: each joins once and goes on.
func TestAThousandRequestsOfASessionAreAllNoted(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, sessionFiles)
	const n = 1000
	var senders sync.WaitGroup
	for i := range n {
		senders.Go(func() {
			m := &nats.Msg{Subject: "llm.request.talk", Data: fmt.Appendf(nil, `{"session":"s","deadline":"5m","input":{"text":"%d"}}`, i)}
			if _, err := r.conn.Publish(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	r.run(broker.Ingest)
	r.run(broker.Ingest)
	jobs := r.handedOver(broker.ContextBuilder, n)
	s := r.record("", "talk", "s")
	if len(s.Pending) != n || len(jobs) != n {
		t.Fatalf("%d wait in the session, %d jobs went on", len(s.Pending), len(jobs))
	}
	for i, p := range s.Pending {
		if p.Seq != uint64(i+1) || jobs[p.ID]["request_seq"] != float64(p.Seq) {
			t.Fatalf("in place %d stands the request %d, whose job says %v", i+1, p.Seq, jobs[p.ID]["request_seq"])
		}
	}
}

// Ingest is killed before it notes a request with its session, behind that, and behind the hand-over.
func TestARequestIsNotedOnceThoughIngestIsKilled(t *testing.T) {
	t.Parallel()
	r := setupWith(t, brokertest.Server(t).URL(), 1, sessionFiles)
	p := newProcesses(r)
	points := []string{"after-marker", "after-join", "before-publish", "published-before-ack"}
	for _, point := range points {
		dying := p.mustStart(broker.Ingest, "SPILLWAY_KILLPOINT="+point+":1")
		r.publish(job.Interactive, "talk", point, say("", "s", "killed at "+point))
		dying.wait(t)
		if !dying.wasKilled() {
			t.Fatalf("ingest was not killed at %s: %s", point, dying.cmd.ProcessState)
		}
	}
	p.mustStart(broker.Ingest)
	r.handedOver(broker.ContextBuilder, len(points))
	brokertest.Eventually(t, 60*time.Second, "ingest has settled the requests", func() bool {
		s, err := r.conn.JS.Stream(t.Context(), broker.RequestsStream)
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
	var noted []string
	for _, waiting := range r.record("", "talk", "s").Pending {
		noted = append(noted, waiting.ID)
	}
	if got := strings.Join(noted, " "); got != strings.Join(points, " ") {
		t.Errorf("noted: %s", got)
	}
	if jobs := r.handedOver(broker.ContextBuilder, len(points)); len(jobs) != len(points) {
		t.Errorf("%d jobs", len(jobs))
	}
}
