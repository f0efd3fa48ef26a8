package inference

import (
	"context"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// noted collects the drafts that a handler publishes.
func (b *bundle) noted() *[]job.Draft {
	var drafts []job.Draft
	b.publish = func(d job.Draft) { drafts = append(drafts, d) }
	return &drafts
}

// The drafts of the process that died are not known of here, but their reader has them.
func TestACallThatIsMadeAgainAfterACrashSaysThatItRestarts(t *testing.T) {
	t.Parallel()
	for deliveries, want := range map[int]string{1: job.DraftPart, 2: job.DraftRestarted} {
		b := setup(t, fake(t, fakellm.Options{}).URL())
		drafts := b.noted()
		j := newJob(job.Interactive)
		j.Stream, j.Arrival.Deliveries = true, deliveries
		if err := b.Handle(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if len(*drafts) == 0 || (*drafts)[0].Event != want || (*drafts)[0].N != 1 || !j.Drafted {
			t.Errorf("delivery %d: %+v", deliveries, *drafts)
		}
	}
}

func TestAllDraftsOfAnAnswerAreFewTimesAsLongAsIt(t *testing.T) {
	t.Parallel()
	sent, total := 0, 0
	text := `{"text":"` + strings.Repeat("x", 64<<10) + `"}`
	c := &call{
		job: &job.Job{Stream: true, Arrival: job.Arrival{Deliveries: 1}}, task: &task.Task{Output: task.Output{Format: task.FormatJSON}},
	}
	d := (&Handler{publish: func(e job.Draft) { sent++; total += len(e.Partial) }}).draftsOf(c)
	now := time.Now()
	for i := 4; i < len(text); i += 4 { // a token each 60 ms
		now = now.Add(60 * time.Millisecond)
		d.heard(now, []byte(text[:i]))
	}
	c.content = []byte(text)
	d.end(c, nil)
	if sent < 30 || total > 12*len(text) {
		t.Errorf("%d drafts with %d bytes of an answer with %d", sent, total, len(text))
	}
}

// What a model thinks is taken away by the validator, so it is not shown before.
func TestThoughtsAreNoDrafts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"<think>no</think>Hello": "", "<": "", "[thi": "", "  <|channel|>analysis": "", "<b>Hello": "<b>Hello", "Hello <think>": "Hello <think>",
	} {
		said := ""
		c := &call{job: &job.Job{Stream: true, Arrival: job.Arrival{Deliveries: 1}}, task: &task.Task{Output: task.Output{Format: task.FormatText}}}
		d := (&Handler{publish: func(e job.Draft) { said += e.Text }}).draftsOf(c)
		c.content = []byte(text)
		d.end(c, nil)
		if said != want {
			t.Errorf("%q is shown as %q", text, said)
		}
	}
}

func TestWhatIsCancelledIsRetractedWithoutACode(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		ended error
		want  fate.Code
	}{{errCancelled, ""}, {context.Canceled, ""}, {errSilence, fate.ProviderTimeout}, {nil, fate.ProviderTimeout}} {
		var last job.Draft
		c := &call{job: &job.Job{Stream: true, Arrival: job.Arrival{Deliveries: 1}}, task: &task.Task{Output: task.Output{Format: task.FormatText}}, ended: row.ended}
		d := (&Handler{publish: func(e job.Draft) { last = e }}).draftsOf(c)
		d.flush([]byte("Hello"))
		d.end(c, &failure{code: fate.ProviderTimeout})
		if last.Event != job.DraftRetracted || last.Code != row.want {
			t.Errorf("%v: %+v", row.ended, last)
		}
	}
}
