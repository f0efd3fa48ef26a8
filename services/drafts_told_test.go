package services_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// Nobody writes these answers, so there is nothing to show of them.
func TestAnswersThatNoModelWritesHaveNoDrafts(t *testing.T) {
	t.Parallel()
	r, heard := draftRig(t)
	check(t, "live", r.result(r.publish(job.Interactive, "fresh", "", streaming("Kept.")), 1), succeeded("strict"))
	brokertest.Eventually(t, 10*time.Second, "the answer is kept", func() bool {
		_, err := r.conn.Last(t.Context(), broker.CacheStream, broker.AllCached)
		return err == nil
	})
	for _, row := range []struct {
		name, task, text string
		fault            string
		want             ending
	}{
		{"cached", "fresh", "Kept.", "", ending{status: job.Succeeded, source: job.FromCache, model: "small"}},
		{"canned", "fresh", "Not kept.", fakellm.KindBadRequest, byCanned},
		{"refused before a word", "bare", "Bad.", fakellm.KindPromptFiltered, ending{status: job.Failed}},
		{"refused in a field of its own", "bare", "Bad.", fakellm.KindRefusal, ending{status: job.Failed}},
		{"rejected", "toy", "", "", ending{status: job.Rejected}},
	} {
		r.first.SetFaults()
		if row.fault != "" {
			r.first.SetFaults(fakellm.Fault{Kind: row.fault})
		}
		result := r.result(r.publish(job.Interactive, row.task, "", streaming(row.text)), 1)
		check(t, row.name, result, row.want)
		if drafts := heard.of(result.ID); len(drafts) != 0 {
			t.Errorf("%s: %d drafts, of which the first is %+v", row.name, len(drafts), drafts[0])
		}
	}
}

// What is shown of a text is the beginning of what the validator lets through, or is taken back.
func TestDraftsOfATextShowNothingOfWhatIsThought(t *testing.T) {
	t.Parallel()
	r, heard := draftRig(t)
	const secret = "SECRET plans of mine"
	for i, row := range []struct{ answer, told, output string }{
		{"It is a fine day today, and not " + "a <b>cold</b> one.", "draft", "It is a fine day today, and not a <b>cold</b> one."},
		{"<think>" + secret + "</think>It is a fine day.", "", "It is a fine day."},
		{"It is a fine day today.\n<thinking about=\"it\">" + secret + "</thinking>\nIt rains.", "draft", "It is a fine day today.\n\nIt rains."},
		{"[THINK]" + secret + "[/THINK]It is a fine day.", "", "It is a fine day."},
		{"<|channel|>analysis<|message|>" + secret + "<|end|><|start|>assistant<|channel|>final<|message|>It is a fine day.", "", "It is a fine day."},
		// Only its end says that all before it was a thought: it was shown, and is taken back.
		{"so the user asks for the day.\n</think>It is a fine day.", "draft, retracted", "It is a fine day."},
	} {
		r.first.SetAnswer("small-1", row.answer)
		result := r.result(r.publish(job.Interactive, "plain", "", streaming(fmt.Sprint("Day ", i))), 1)
		var output string
		if err := json.Unmarshal(result.Output, &output); err != nil || output != row.output {
			t.Errorf("%q became %q: %v", row.answer, result.Output, err)
		}
		drafts := heard.of(result.ID)
		if got := told(drafts); got != row.told {
			t.Errorf("%q: %s, want %s", row.answer, got, row.told)
		}
		for _, d := range drafts {
			if strings.Contains(d.Text, "S") {
				t.Errorf("%q: the draft %q", row.answer, d.Text)
			}
		}
		if shown := heard.shown(result.ID); !strings.HasPrefix(output, strings.TrimSpace(shown.Text)) || shown.Gap {
			t.Errorf("%q is shown beside %q", shown.Text, output)
		}
	}
}

// A process dies in the middle of a call: the next one makes it again, and its drafts take the place of those
// that stand.
func TestDraftsOfAKilledProcessAreReplaced(t *testing.T) {
	t.Parallel()
	r := setupWith(t, startServer(t).url(), 1, draftFolder)
	heard := r.hearDrafts()
	r.first.SetLatency(fakellm.Latency{PerToken: 50 * time.Millisecond})
	r.runAllBut(broker.Inference)
	p := newProcesses(r)
	dying := p.mustStart(broker.Inference)
	id := r.publish(job.Interactive, "toy", "", streaming("Tell me a long story, please."))
	brokertest.Eventually(t, startTimeout, "a draft is heard", func() bool { return len(heard.of(id)) > 0 })
	dying.end(t, syscall.SIGKILL)
	before := len(heard.of(id))
	p.run(broker.Inference)
	result := r.result(id, 1)
	check(t, "taken up", result, succeeded("strict"))
	if !dying.wasKilled() {
		t.Fatal("the process was not killed in its call")
	}
	brokertest.Eventually(t, 5*time.Second, "the whole is drafted", func() bool { return sameJSON(heard.shown(id).Partial, result.Output) })
	drafts := heard.of(id)
	first, again := drafts[0], drafts[before]
	if again.Event != job.DraftRestarted || again.Delivery != first.Delivery+1 || again.Hop != first.Hop || again.Call != first.Call || again.Holder == first.Holder {
		t.Errorf("after %+v came %+v", first, again)
	}
	var late job.Shown
	late.Take(again)
	if late.Take(first) {
		t.Error("a late draft of the killed process is news")
	}
}

// A process dies when it has handed a refused answer over: it is judged again, and its drafts are taken back
// twice. The second says nothing about the drafts of the correction, which came between them.
func TestASecondRetractionIsKnownAsTheSame(t *testing.T) {
	t.Parallel()
	r := setupWith(t, startServer(t).url(), 1, draftFolder)
	heard := r.hearDrafts()
	r.runAllBut(broker.Validator)
	p := newProcesses(r)
	dying := p.mustStart(broker.Validator, "SPILLWAY_KILLPOINT=published-before-ack:1")
	r.first.SetFaults(fakellm.Fault{Kind: fakellm.KindOffSchemaOnceTold})
	id := r.publish(job.Interactive, "toy", "", streaming("Tell me a long story, please."))
	dying.wait(t)
	if !dying.wasKilled() {
		t.Fatal("the validator was not killed")
	}
	p.run(broker.Validator)
	result := r.result(id, 1)
	check(t, "corrected", result, succeeded("corrected"))
	taken := func() (all []job.Draft) {
		for _, d := range heard.of(id) {
			if d.Event == job.DraftRetracted {
				all = append(all, d)
			}
		}
		return all
	}
	brokertest.Eventually(t, exitTimeout, "it is taken back twice", func() bool { return len(taken()) == 2 })
	one, two := taken()[0], taken()[1]
	if one.Run != two.Run || one.Hop != two.Hop || one.Holder != two.Holder || one.Call != two.Call || two.Delivery != one.Delivery+1 {
		t.Errorf("taken back are\n%+v\n%+v", one, two)
	}
	if shown := heard.shown(id); !sameJSON(shown.Partial, result.Output) {
		t.Errorf("shown is %s, the output %s", shown.Partial, result.Output)
	}
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

// A server that lets nobody publish drafts costs the drafts, and nothing else.
func TestWithoutLeaveToPublishDraftsJobsEndWell(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{
		Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), MaxPayload: 8 << 20,
		JetStreamMaxStore: 1 << 44, // no share of the disk that happens to be free
		Users:             []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"llm.delta.>"}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(startTimeout) {
		t.Fatal("the server is not ready")
	}
	r := setupWith(t, "nats://u:p@"+s.Addr().String(), 1, draftFolder)
	heard := r.hearDrafts()
	r.run()
	for range 3 {
		result := r.result(r.publish(job.Interactive, "toy", "", streaming("Tell me a long story, please.")), 1)
		check(t, "streamed", result, succeeded("strict"))
		if n := len(heard.of(result.ID)); n != 0 {
			t.Errorf("%d drafts were heard", n)
		}
	}
	if n := r.counted(broker.Inference, "spillway_drafts_lost_total"); n < 3 {
		t.Errorf("%v drafts are counted as lost", n)
	}
}

// What a plain NATS client without the library reads of a request that it comes late to.
func TestALateReaderFindsTheDraftsInTheStream(t *testing.T) {
	t.Parallel()
	r, heard := draftRig(t)
	result := r.result(r.publish(job.Interactive, "toy", "", streaming("Tell me a long story, please.")), 1)
	nc, err := nats.Connect(r.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	brokertest.Eventually(t, 10*time.Second, "a late reader is shown the output", func() bool {
		return sameJSON(lateReader(t, nc, result.ID).Partial, result.Output)
	})
	brokertest.Eventually(t, 10*time.Second, "who listened is shown it too", func() bool { return sameJSON(heard.shown(result.ID).Partial, result.Output) })
}

func lateReader(t *testing.T, nc *nats.Conn, id string) *job.Shown {
	t.Helper()
	late := &job.Shown{}
	for seq := 0; ; {
		m, err := nc.Request("$JS.API.DIRECT.GET.LLM_DELTAS", fmt.Appendf(nil, `{"seq":%d,"next_by_subj":"llm.delta.toy.%s"}`, seq+1, id), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("Status") == "404" {
			return late
		}
		var d job.Draft
		if err := json.Unmarshal(m.Data, &d); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(m.Header.Get("Nats-Sequence"), &seq); err != nil {
			t.Fatal(err)
		}
		late.Take(d)
	}
}
