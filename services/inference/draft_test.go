package inference

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/partial"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// noted collects the drafts that a handler publishes.
func (b *bundle) noted() *[]job.Draft {
	var drafts []job.Draft
	b.drafts.offer = func(d job.Draft) bool { drafts = append(drafts, d); return true }
	return &drafts
}

// told starts the drafts of a call for a task of a format, each of which is offered to offer.
func told(format string, offer func(job.Draft) bool) (*call, *drafts) {
	c := &call{
		job:  &job.Job{Task: "told", Run: 1, Stream: true, Arrival: job.Arrival{Deliveries: 1}},
		task: &task.Task{Name: "told", Output: task.Output{Format: format}},
	}
	h := &Handler{tasks: task.NewBook(&task.Set{Tasks: map[string]*task.Task{"told": c.task}}), drafts: &telling{offer: offer}}
	return c, h.draftsOf(c)
}

// The drafts of the process that died are not known of here, but their reader has them.
func TestACallThatIsMadeAgainAfterACrashSaysThatItRestarts(t *testing.T) {
	t.Parallel()
	for deliveries, want := range map[int]string{1: job.DraftPart, 2: job.DraftRestarted} {
		b := setup(t, fake(t, fakellm.Options{}).URL())
		drafts := b.noted()
		j := newJob(job.Interactive)
		j.Stream, j.Hop, j.Arrival.Deliveries = true, 3, deliveries
		if err := b.Handle(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if len(*drafts) == 0 || !j.Drafted {
			t.Fatalf("delivery %d: %+v", deliveries, *drafts)
		}
		if first := (*drafts)[0]; first.Event != want || first.N != 1 || first.Hop != 3 || first.Delivery != deliveries || first.Call != 1 {
			t.Errorf("delivery %d: %+v", deliveries, *drafts)
		}
	}
}

func TestWhatACrashedProcessShowedIsTakenBackWhereTheCallIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	for deliveries, want := range map[int]int{1: 0, 2: 1} {
		b := setup(t, "http://127.0.0.1:1/v1")
		drafts := b.noted()
		j := newJob(job.Interactive)
		j.Stream, j.Arrival.Deliveries = true, deliveries
		j.Calls = b.task.Retry.MaxCalls
		wantFate(t, b.Handle(t.Context(), j), fate.Divert, fate.CallsSpent)
		if len(*drafts) != want || want > 0 && ((*drafts)[0].Event != job.DraftRetracted || (*drafts)[0].Delivery != deliveries) {
			t.Errorf("delivery %d: %+v", deliveries, *drafts)
		}
	}
}

func TestAllDraftsOfAnAnswerAreFewTimesAsLongAsIt(t *testing.T) {
	t.Parallel()
	sent, total := 0, 0
	text := `{"text":"` + strings.Repeat("x", 64<<10) + `"}`
	c, d := told(task.FormatJSON, func(e job.Draft) bool { sent++; total += len(e.Partial); return true })
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

// A process publishes at most 10,000 drafts a second: with 5,000 calls each has two a second.
func TestManyCallsShareTheRateOfDrafts(t *testing.T) {
	t.Parallel()
	for calls, most := range map[int64]int{1: 20, 100: 20, 5000: 2} {
		sent := 0
		_, d := told(task.FormatText, func(job.Draft) bool { sent++; return true })
		d.telling.calls.Store(calls)
		start := time.Now()
		for ms := range 10_000 {
			d.heard(start.Add(time.Duration(ms)*time.Millisecond), []byte(strings.Repeat("x", ms+1)))
		}
		if sent != 10*most {
			t.Errorf("with %d calls %d drafts in 10 s, want %d", calls, sent, 10*most)
		}
	}
}

// What found no room is in a later draft: no piece of a text is missing.
func TestDraftsThatFindNoRoomAreToldLater(t *testing.T) {
	t.Parallel()
	for format, answer := range map[string]string{task.FormatText: "one two three four five", task.FormatJSON: `{"a":"one two three","b":[1,2,3]}`} {
		offered, shown := 0, job.Shown{}
		c, d := told(format, func(e job.Draft) bool {
			if offered++; offered%3 != 0 {
				return false
			}
			return shown.Take(e)
		})
		c.content = []byte(answer)
		for i := range answer {
			d.flush(c.content[:i+1])
		}
		for offered%3 != 0 {
			d.end(c, nil)
		}
		if got := shown.Text + string(shown.Partial); got != answer || shown.Gap {
			t.Errorf("%s: shown is %q (gap: %t)", format, got, shown.Gap)
		}
	}
}

// What a model thinks is taken away by the validator, so it is not shown before. An end whose beginning was
// swallowed makes a thought of what was shown.
func TestThoughtsAreNoDrafts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"<think>no</think>Hello": "", "<": "", "[thi": "", "  <|channel|>analysis": "  ", "<b>Hello": "<b>Hello",
		"Hello <think>no</think> you": "Hello ", "Hello <THINKING about=it>no": "Hello ", "1 < 2 [1] you": "1 < 2 [1] you", "Hello [think]no": "Hello ",
		"Hello <|channel|>analysis<|message|>no": "Hello ", "Hello <": "Hello ", "I think</think>Hello": "", "I think<|end_of_thought|>Hello": "",
		"I </ think": "I </ think", "a<s>b</s>": "a<s>b</s>", "◁think▷no◁/think▷Hello": "", "Hello ◁": "Hello ", "it’s ◁ so": "it’s ◁ so", "I think◁/think▷Hello": "",
		"<seed:think>no</seed:think>Hello": "", "<|START_THINKING|>no<|END_THINKING|>Hello": "", "I think</seed:think>": "",
	} {
		for _, step := range []int{1, len(text)} {
			var shown job.Shown
			c, d := told(task.FormatText, func(e job.Draft) bool {
				shown.Take(e)
				if strings.Contains(shown.Text, "no") {
					t.Errorf("%q shows %q", text, shown.Text)
				}
				return true
			})
			for i := step; i <= len(text); i += step {
				d.flush([]byte(text[:i]))
			}
			c.content = []byte(text)
			if d.end(c, nil); shown.Text != want {
				t.Errorf("%q, %d at a time, is shown as %q", text, step, shown.Text)
			}
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
		c, d := told(task.FormatText, func(e job.Draft) bool { last = e; return true })
		c.ended = row.ended
		d.flush([]byte("Hello"))
		d.end(c, &failure{code: fate.ProviderTimeout})
		if last.Event != job.DraftRetracted || last.Code != row.want {
			t.Errorf("%v: %+v", row.ended, last)
		}
	}
}

// The handler reads the shapes of its tasks: a choice is not shown before it is whole.
func TestAChoiceIsDraftedWhole(t *testing.T) {
	t.Parallel()
	b := setup(t, "http://127.0.0.1:1/v1")
	if b.drafts.shapeOf(b.tasks.Live().Tasks["greet"]) == nil {
		t.Fatal("the task's schema has no shape")
	}
	compiled, err := schema.Compile([]byte(`{"properties":{"intent":{"enum":["support"]},"say":{"type":"string"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	intents := map[string]bool{}
	c, d := told(task.FormatJSON, func(e job.Draft) bool {
		var v struct{ Intent, Say *string }
		if err := json.Unmarshal(e.Partial, &v); err != nil {
			t.Error(err)
		}
		if v.Intent != nil {
			intents[*v.Intent] = true
		}
		return true
	})
	d.value.Shape = partial.ShapeOf(compiled.Document())
	c.content = []byte(`{"say":"I will","intent":"support"}`)
	for i := range c.content {
		d.flush(c.content[:i+1])
	}
	if len(intents) != 1 || !intents["support"] {
		t.Errorf("the drafts show the intents %v", intents)
	}
}
