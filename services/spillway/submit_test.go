package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/stage"
	"spillway/services"
)

func TestSubmit(t *testing.T) {
	r := pipeline(t)

	t.Run("a single request prints its output for a person", func(t *testing.T) {
		r.spillway(t, "submit", "analyze", `{"text":"a fine day"}`).
			with(exitOK, "succeeded", "simulated", "1 call", `"sentiment":`, fakellm.Nonce("a fine day"))
	})
	t.Run("json prints the stored result as it is", func(t *testing.T) {
		out := r.spillway(t, "submit", "analyze", `{"text":"raw"}`, "--id=raw-1", "--json").with(exitOK)
		if got := out.one(); got["status"] != "succeeded" || got["id"] != "raw-1" {
			t.Errorf("%v", got)
		}
		if stored := r.stored(t, broker.ResultSubject("analyze", "raw-1")); strings.TrimSpace(out.out) != string(stored) {
			t.Errorf("printed %s\nstored %s", out.out, stored)
		}
	})
	t.Run("a rejected request prints every reason with its pointer", func(t *testing.T) {
		r.spillway(t, "submit", "analyze", `{"txt":5}`).
			with(exitNotAnswered, "rejected", "input_invalid", "/input/text", "/input/txt")
	})
	t.Run("a failed request names its dead letter", func(t *testing.T) {
		r.provider.Script("", fakellm.Fault{Kind: fakellm.KindUnauthorized})
		r.spillway(t, "submit", "bare", `{"text":"no key"}`, "--id=fails").
			with(exitNotAnswered, "failed", "provider_auth", "llm.dead.inference.bare.fails", "spillway dead show fails")
	})
	t.Run("the flags become fields of the request", func(t *testing.T) {
		got := r.spillway(t, "submit", "onboarding", `{"message":"my card"}`, "--id=flags", "--session=s-1", "--deadline=9m", "--tenant=acme", "--batch", "--cache-bypass", "--json").with(exitOK).one()
		if got["tenant"] != "acme" || got["session"] != "s-1" {
			t.Errorf("tenant %v, session %v", got["tenant"], got["session"])
		}
		m, _, err := r.conn.Marker(t.Context(), "flags")
		if err != nil || m.Lane != "batch" || m.CacheKey != "" || m.Deadline.Sub(m.AcknowledgedAt) != 9*time.Minute {
			t.Errorf("marker %+v: %v", m, err)
		}
	})
	t.Run("the same request under the same id is answered by the first result", func(t *testing.T) {
		first := r.spillway(t, "submit", "analyze", `{"text":"a < b"}`, "--id=twice", "--json").with(exitOK)
		calls := r.provider.Counts().Calls
		// The body of a client that spells the request itself is the same body.
		second := r.spillway(t, "submit", "analyze", `{ "input": {"text":"a < b"} }`, "--request", "--id=twice", "--json").with(exitOK)
		if first.out != second.out || r.provider.Counts().Calls != calls {
			t.Errorf("%d calls more\n%s\n%s", r.provider.Counts().Calls-calls, first.out, second.out)
		}
	})
	t.Run("another body under a used id is a conflict and not the old result", func(t *testing.T) {
		r.spillway(t, "submit", "analyze", `{"text":"first"}`, "--id=used").with(exitOK)
		r.spillway(t, "submit", "analyze", `{"text":"second"}`, "--id=used").with(exitFailed, "id_conflict", "use a new id").without("succeeded")
	})
	t.Run("an id that JetStream saw a moment ago reaches ingest all the same", func(t *testing.T) {
		r.spillway(t, "submit", "analyze", `{"text":"quick"}`, "--id=quick", "--no-wait").with(exitOK, "acknowledged", "quick")
		r.spillway(t, "submit", "analyze", `{"text":"slow"}`, "--id=quick").with(exitFailed, "id_conflict")
	})
	t.Run("without waiting the receipt is printed", func(t *testing.T) {
		got := r.spillway(t, "submit", "analyze", `{"text":"later"}`, "--id=later", "--no-wait", "--json").with(exitOK).one()
		if got["status"] != "acknowledged" || got["result_subject"] != "llm.result.analyze.later" {
			t.Errorf("%v", got)
		}
		r.spillway(t, "result", "later", "--wait").with(exitOK, "succeeded")
	})
	t.Run("interrupted, it says how to fetch the result, which is made all the same", func(t *testing.T) {
		r.provider.Script("", fakellm.Fault{Kind: fakellm.KindDrip, Every: time.Millisecond})
		c := r.start(t, "submit", "analyze", `{"text":"patience"}`, "--id=patience")
		if err := r.provider.Await(t.Context(), func(n fakellm.Counts) bool { return n.Nonces[fakellm.Nonce("patience")] > 0 }); err != nil {
			t.Fatal(err)
		}
		c.cancel()
		c.wait().with(exitInterrupted, "stays acknowledged", "spillway result patience --wait")
		r.spillway(t, "result", "patience", "--wait").with(exitOK, "succeeded")
	})
}

func TestSubmitOfLines(t *testing.T) {
	r := pipeline(t)

	t.Run("every line gets its result and a bad line is named", func(t *testing.T) {
		var in strings.Builder
		want := map[float64]bool{}
		for n := 1; n <= 40; n++ {
			switch n {
			case 7:
				in.WriteString("{bad\n")
			case 9:
				in.WriteString("\n")
			case 11:
				fmt.Fprintf(&in, `{"text":%q}`+"\n", strings.Repeat("a", maxLineBytes))
			default:
				fmt.Fprintf(&in, `{"text":"line %d"}`+"\r\n", n)
				want[float64(n)] = true
			}
		}
		typed(t, in.String())
		out := r.spillway(t, "submit", "analyze").with(exitFailed, "line 7: not JSON", "line 11: longer than 1.0 MiB", "37 succeeded", "2 without a result", "2 of 39 lines")
		got := map[float64]bool{}
		for _, line := range out.lines() {
			n := line["metadata"].(map[string]any)["line"].(float64)
			text, _ := json.Marshal(line["output"])
			if !strings.Contains(string(text), fakellm.Nonce(fmt.Sprintf("line %.0f", n))) {
				t.Errorf("line %.0f has the output of another: %s", n, text)
			}
			got[n] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("results of %d lines, not %d", len(got), len(want))
		}
	})
	t.Run("whole requests keep their ids, lanes and sessions", func(t *testing.T) {
		typed(t, strings.Join([]string{
			`{"input":{"message":"one"},"id":"w-1","session":"w","lane":"batch"}`,
			`{"input":{"message":"two"},"id":"w-2","session":"w","lane":"batch"}`,
			`{"input":{"message":"three"},"id":"w-1"}`,
			`{"input":{"message":"four"},"id":"not an id"}`,
			`{"input":{"message":"five"},"extra":true}`,
			`[1]`,
		}, "\n"))
		out := r.spillway(t, "submit", "onboarding", "-", "--request", "--json").
			with(exitFailed, "line 3: line 1 has the same id w-1", "line 4:", "line 6:", `"rejected":1`, `"succeeded":2`)
		ids := map[any]any{}
		for _, line := range out.lines() {
			ids[line["id"]] = line["status"]
		}
		if ids["w-1"] != "succeeded" || ids["w-2"] != "succeeded" {
			t.Errorf("%v", ids)
		}
		first, _, err1 := r.conn.Marker(t.Context(), "w-1")
		second, _, err2 := r.conn.Marker(t.Context(), "w-2")
		if err := errors.Join(err1, err2); err != nil || first.RequestSeq > second.RequestSeq || first.Lane != "batch" {
			t.Errorf("the turns of a session changed places: %+v, %+v: %v", first, second, err)
		}
	})
	t.Run("runs without an output decide the exit code when no line was bad", func(t *testing.T) {
		typed(t, "{\"text\":\"good\"}\n{\"text\":5}\n")
		r.spillway(t, "submit", "analyze").with(exitNotAnswered, "1 succeeded, 1 rejected", "1 of 2 requests without an output")
	})
	t.Run("without waiting each line gets its receipt", func(t *testing.T) {
		typed(t, strings.Repeat("{\"text\":\"many\"}\n", 20))
		if got := r.spillway(t, "submit", "analyze", "--no-wait", "--in-flight=3").with(exitOK, "20 acknowledged").lines(); len(got) != 20 {
			t.Errorf("%d receipts", len(got))
		}
	})
	t.Run("empty input is no failure", func(t *testing.T) {
		typed(t, "")
		r.spillway(t, "submit", "analyze").with(exitOK, "0 requests")
	})
	t.Run("a reader that leaves ends it quietly", func(t *testing.T) {
		typed(t, strings.Repeat("{\"text\":\"many\"}\n", 20))
		var stderr buffer
		if code := run(t.Context(), []string{"submit", "analyze", "--nats=" + r.url}, noEnv, closedPipe{}, &stderr); code != exitOK || stderr.String() != "" {
			t.Errorf("exit code %d, %s", code, stderr.String())
		}
	})
	t.Run("interrupted, it says what is open", func(t *testing.T) {
		r.provider.SetFaults(fakellm.Fault{Kind: fakellm.KindHang})
		defer r.provider.SetFaults()
		typed(t, "{\"text\":\"h 1\"}\n{\"text\":\"h 2\"}\n")
		c := r.start(t, "submit", "analyze")
		if err := r.provider.Await(t.Context(), func(n fakellm.Counts) bool {
			return n.Nonces[fakellm.Nonce("h 1")] > 0 && n.Nonces[fakellm.Nonce("h 2")] > 0
		}); err != nil {
			t.Fatal(err)
		}
		c.cancel()
		c.wait().with(exitInterrupted, "2 requests without a result yet")
	})
}

// closedPipe is a standard output that nobody reads.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestSubmitRefusesWrongCommandLines(t *testing.T) {
	r := serve(t)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no JSON":                  {[]string{"analyze", "hello"}, "not JSON"},
		"a task with dots":         {[]string{"a.b", "{}"}, "not the name of a task"},
		"a wildcard as task":       {[]string{"*", "{}"}, "not the name of a task"},
		"an id with blanks":        {[]string{"analyze", "{}", "--id=a b"}, "not an id"},
		"an id for many":           {[]string{"analyze", "-", "--id=a"}, "--id is for a single request"},
		"flags beside requests":    {[]string{"analyze", "{}", "--request", "--session=s"}, "--request the body says all"},
		"no time":                  {[]string{"analyze", "{}", "--timeout=0s"}, "--timeout"},
		"no lines in flight":       {[]string{"analyze", "-", "--in-flight=0"}, "--in-flight"},
		"a request that is a list": {[]string{"analyze", "[]", "--request"}, "not a request"},
	} {
		t.Run(name, func(t *testing.T) {
			r.spillway(t, append([]string{"submit"}, c.args...)...).with(exitUsage, c.says)
		})
	}
	s, err := r.conn.JS.Stream(t.Context(), broker.RequestsStream)
	if err != nil || s.CachedInfo().State.LastSeq != 0 {
		t.Errorf("something was published: %v", err)
	}
}

func TestSubmitSaysWhoIsMissing(t *testing.T) {
	t.Run("nobody takes requests", func(t *testing.T) {
		r := serve(t)
		r.spillway(t, "submit", "analyze", `{"text":"?"}`, "--timeout=3500ms").with(exitNotFound, "no ingest takes requests", "no result of", "--wait")
	})
	t.Run("the streams", func(t *testing.T) {
		url := brokertest.Server(t).URL()
		spillway(t, "submit", "analyze", "{}", "--nats="+url).with(exitFailed, "the streams are not there", "spillway broker init")
	})
	t.Run("the server", func(t *testing.T) {
		spillway(t, "submit", "analyze", "{}", "--nats=nats://127.0.0.1:1").with(exitFailed, "connect to NATS")
	})
}

// An application has the rights that deploy/nats gives one: it reads no markers and sees no other stream.
func TestAnApplicationMaySubmitWithTheRightsOfOne(t *testing.T) {
	all, app := brokertest.Restricted(t, server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			"llm.request.*", "llm.batch.*", "llm.submit.*", "llm.cancel.*", "$JS.API.STREAM.INFO.LLM_RESULTS", "$JS.API.STREAM.MSG.GET.LLM_RESULTS",
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>", "llm.result.>", "llm.progress.>"}},
	})
	r := &rig{url: all, conn: brokertest.Connect(t, all)}
	brokertest.Ensure(t, r.conn, stage.Topology(services.Pipeline(), broker.DefaultSizing()))
	r.runPipeline(t, folder(t))
	theirs := &rig{url: app}
	theirs.spillway(t, "submit", "analyze", `{"text":"mine"}`).with(exitOK, "succeeded")
	theirs.spillway(t, "submit", "analyze", `{"text":"mine"}`, "--id=app-1").with(exitOK, "succeeded")
	theirs.spillway(t, "submit", "analyze", `{"text":"another"}`, "--id=app-1").with(exitFailed, "id_conflict")
	theirs.spillway(t, "result", "app-1").with(exitOK, "succeeded")
}

func TestALineReaderGoesOnAfterALongLine(t *testing.T) {
	in := newLineReader(strings.NewReader("\xef\xbb\xbfone\n\n  \n" + strings.Repeat("x", maxLineBytes+1) + "\n" + strings.Repeat("y", maxLineBytes-1) + "\nlast"))
	type line struct {
		length, n int
		err       error
	}
	for _, want := range []line{{3, 1, nil}, {0, 4, errLineTooLong}, {maxLineBytes - 1, 5, nil}, {4, 6, nil}, {0, 7, io.EOF}} {
		text, n, err := in.next()
		if len(text) != want.length || n != want.n || !errors.Is(err, want.err) {
			t.Errorf("%d bytes, line %d, %v; not %+v", len(text), n, err, want)
		}
	}
}

// stored reads what the results' stream holds on a subject, by the client's own means.
func (r *rig) stored(t *testing.T, subject string) []byte {
	t.Helper()
	s, err := r.conn.JS.Stream(t.Context(), broker.ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(m.Data)
}
