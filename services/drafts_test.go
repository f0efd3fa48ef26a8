package services_test

import (
	"encoding/json"
	"io/fs"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/schemas"
)

// draftFolder has models that may be as slow as these tests want them.
func draftFolder(first, second string) fstest.MapFS {
	fs := folder(first, second)
	const patient = "timeouts: {connect: 10s, first_token: 15s, silence: 15s, call: 15s}"
	fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(patient, small("small", "one", first), large("large", "two", second)))}
	addCanned(fs, "silent", taskYAML+"output: {stream: never}\n"+ladderWhole)
	addCanned(fs, "fresh", taskYAML+"cache: {serve: fresh, fresh_for: 1h}\n"+ladderCanned)
	return fs
}

// draftRig has models that take a second and more for an answer, and a subscriber to drafts.
func draftRig(t *testing.T) (*rig, *drafted) {
	t.Helper()
	r := setupWith(t, brokertest.Server(t).URL(), 1, draftFolder)
	d := r.hearDrafts()
	r.run()
	return r, d
}

// hearDrafts makes answers slow, and subscribes to drafts with nothing of the pipeline but its message schema.
func (r *rig) hearDrafts() *drafted {
	t := r.t
	t.Helper()
	text, err := fs.ReadFile(schemas.FS(), "messages/draft.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	valid, err := schema.Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	slow := fakellm.Latency{PerToken: 20 * time.Millisecond}
	r.first.SetLatency(slow)
	r.second.SetLatency(slow)
	d := &drafted{byID: map[string][]job.Draft{}}
	nc, err := nats.Connect(r.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe("llm.delta.*.*", func(m *nats.Msg) {
		var draft job.Draft
		if err := json.Unmarshal(m.Data, &draft); err != nil || m.Subject != "llm.delta."+draft.Task+"."+draft.ID {
			t.Errorf("on %s: %s, %v", m.Subject, m.Data, err)
		}
		if value, err := schema.Decode(m.Data); err != nil || valid.Validate(value) != nil {
			t.Errorf("%s is not as the schema says: %v, %v", m.Data, err, valid.Validate(value))
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.byID[draft.ID] = append(d.byID[draft.ID], draft)
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return d
}

// drafted is what a subscriber heard.
type drafted struct {
	mu   sync.Mutex
	byID map[string][]job.Draft
}

func (d *drafted) of(id string) []job.Draft {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]job.Draft(nil), d.byID[id]...)
}

// shown is what a reader has seen of a request.
func (d *drafted) shown(id string) *job.Shown {
	s := &job.Shown{}
	for _, draft := range d.of(id) {
		s.Take(draft)
	}
	return s
}

func streaming(text string) map[string]any {
	return asking(text, map[string]any{"stream": true, "deadline": "1m"})
}

// told is the sequence of events, those that repeat once.
func told(drafts []job.Draft) string {
	var events []string
	for _, d := range drafts {
		what := d.Event
		if d.Code != "" {
			what += " " + string(d.Code)
		}
		if len(events) == 0 || events[len(events)-1] != what {
			events = append(events, what)
		}
	}
	return strings.Join(events, ", ")
}

func TestDraftsShowTheObjectAsFarAsItIsWritten(t *testing.T) {
	t.Parallel()
	r, heard := draftRig(t)
	began := time.Now()
	result := r.result(r.publish(job.Interactive, "toy", "", streaming("Tell me a long story, please.")), 1)
	took := time.Since(began)
	check(t, "streamed", result, succeeded("strict"))
	drafts := heard.of(result.ID)
	if len(drafts) < 3 || len(drafts) > int(took/(50*time.Millisecond))+2 {
		t.Fatalf("%d drafts in %s", len(drafts), took)
	}
	var last map[string]any
	for i, d := range drafts {
		var value map[string]any
		if err := json.Unmarshal(d.Partial, &value); err != nil || d.Event != job.DraftPart || d.N != i+1 || d.Call != 1 || d.Run != 1 || d.Holder == "" {
			t.Fatalf("draft %d: %+v, %v", i, d, err)
		}
		for name, was := range last {
			is, _ := value[name].(string)
			if !strings.HasPrefix(is, was.(string)) {
				t.Fatalf("%q became %q", was, is)
			}
		}
		last = value
	}
	var output map[string]any
	if err := json.Unmarshal(result.Output, &output); err != nil || !reflect.DeepEqual(last, output) {
		t.Errorf("the last draft is %v, the output %s", last, result.Output)
	}
	// Who comes later finds them stored.
	c, err := r.conn.JS.OrderedConsumer(t.Context(), "LLM_DELTAS", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"llm.delta.toy." + result.ID}})
	if err != nil {
		t.Fatal(err)
	}
	for range drafts {
		if _, err := c.Next(jetstream.FetchMaxWait(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDraftsOfATextAreItsPieces(t *testing.T) {
	t.Parallel()
	r, heard := draftRig(t)
	const text = "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals – ☂ – when it was checked."
	r.first.SetAnswer("small-1", text)
	result := r.result(r.publish(job.Interactive, "plain", "", streaming("Begin.")), 1)
	check(t, "streamed", result, succeeded("strict"))
	said := ""
	drafts := heard.of(result.ID)
	for _, d := range drafts {
		said += d.Text
	}
	if said != text || len(drafts) < 3 {
		t.Errorf("%d drafts say %q", len(drafts), said)
	}
}

func TestDraftsOfAnAnswerThatIsNoneAreRetracted(t *testing.T) {
	t.Parallel()
	r, heard := draftRig(t)
	for _, row := range []struct {
		name  string
		fault fakellm.Fault
		want  ending
		told  string
	}{
		{"corrected", fakellm.Fault{Kind: "off_schema_once_told"}, succeeded("corrected"), "draft, retracted output_invalid, restarted, draft"},
		{"cut once", fakellm.Fault{Kind: "cut", First: 1}, succeeded("strict"), "draft, retracted provider_cut, restarted, draft"},
		{"cut at its limit", fakellm.Fault{Kind: "length"}, byOtherModel, "draft, retracted output_truncated, restarted, draft, retracted output_truncated, restarted, draft"},
		{"no call succeeds", fakellm.Fault{Kind: "400"}, byOtherModel, "draft"},
	} {
		r.first.SetFaults(row.fault)
		result := r.result(r.publish(job.Interactive, "toy", "", streaming(row.name)), 1)
		check(t, row.name, result, row.want)
		brokertest.Eventually(t, 5*time.Second, "all drafts are heard", func() bool { return len(told(heard.of(result.ID))) >= len(row.told) })
		if got := told(heard.of(result.ID)); got != row.told {
			t.Errorf("%s: %s, want %s", row.name, got, row.told)
		}
	}
}

func TestDraftsAreForThoseWhoAskedAlone(t *testing.T) {
	t.Parallel()
	r, heard := draftRig(t)
	unasked := r.result(r.ask(job.Interactive, "toy", "A story."), 1)
	never := r.result(r.publish(job.Interactive, "silent", "", streaming("A story.")), 1)
	asked := r.result(r.publish(job.Interactive, "toy", "", streaming("Another story.")), 1)
	for _, result := range []*job.Result{unasked, never} {
		if n := len(heard.of(result.ID)); n != 0 {
			t.Errorf("%d drafts of %s", n, result.Task)
		}
	}
	if len(heard.of(asked.ID)) == 0 {
		t.Error("no drafts for who asked")
	}
}

// A refusal after drafts, and nobody else who answers: what is shown must not stand beside the failure.
func TestDraftsAreTakenBackWhereTheRunFails(t *testing.T) {
	t.Parallel()
	r, heard := draftRig(t)
	fault := fakellm.Fault{Kind: "content_filter"}
	r.first.SetFaults(fault)
	result := r.result(r.publish(job.Interactive, "bare", "", streaming("Something bad.")), 1)
	check(t, "filtered", result, ending{status: job.Failed})
	if got := told(heard.of(result.ID)); got != "draft, retracted refused" || result.Error.Code != fate.Refused {
		t.Errorf("%s; failed because of %s", got, result.Error.Code)
	}
}
