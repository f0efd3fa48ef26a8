package inference

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

const (
	expected = "model-1-2026-01-01"
	newer    = "model-1-2026-11-01"
)

// meet makes one call for a new job, and returns its event.
func (b *bundle) meet(t *testing.T) job.Event {
	t.Helper()
	j := newJob(job.Interactive)
	if err := b.Handle(context.Background(), j); err != nil {
		t.Fatal(err)
	}
	return calls(j)[0]
}

// warnings are the lines of the log that warn.
func (b *bundle) warnings() (lines []string) {
	for line := range strings.Lines(b.log.String()) {
		if strings.Contains(line, `"level":"warn"`) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestAModelThatAnswersUnderAnotherNameIsCountedWarnedOfAndRemarked(t *testing.T) {
	t.Parallel()
	for _, streams := range []bool{true, false} {
		provider := fake(t, fakellm.Options{})
		b := setup(t, provider.URL())
		b.model.AnswersAs, b.model.Stream = expected, streams
		provider.SetName("model-1", expected)
		if e := b.meet(t); e.Detail != "" || b.value(t, "spillway_answered_by_another_total") != 0 || b.warnings() != nil {
			t.Fatalf("the model that was expected: %+v, log %s", e, b.log)
		}
		provider.SetName("model-1", newer)
		for range 3 {
			if e := b.meet(t); e.Outcome != "ok" || e.Detail != newer+" answered, models.yaml names "+expected+" (answers_as)" {
				t.Errorf("the event is %+v", e)
			}
		}
		if n := b.value(t, "spillway_answered_by_another_total", "model=small"); n != 3 || provider.Counts().Calls != 4 {
			t.Errorf("%v calls are counted, want 3", n)
		}
		if w := b.warnings(); len(w) != 1 || !strings.Contains(w[0], `"answered_by":"`+newer+`"`) || !strings.Contains(w[0], `"answers_as":"`+expected+`"`) {
			t.Errorf("the warnings: %s", w)
		}
	}
}

func TestADatedNameIsAnotherOne(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{})
	b := setup(t, provider.URL())
	b.model.AnswersAs = "model-1"
	if e := b.meet(t); e.Detail != "" {
		t.Errorf("its own name: %s", e.Detail)
	}
	provider.SetName("model-1", newer)
	if e := b.meet(t); !strings.HasPrefix(e.Detail, newer+" answered") {
		t.Errorf("a dated name: %q", e.Detail)
	}
}

func TestWithoutAnExpectedNameAnyModelMayAnswer(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{})
	provider.SetName("model-1", newer)
	b := setup(t, provider.URL())
	if e := b.meet(t); e.Detail != "" || b.value(t, "spillway_answered_by_another_total") != 0 || b.warnings() != nil {
		t.Errorf("%+v, log %s", e, b.log)
	}
}

func TestAStrangerIsToldAgainAfterAnHourAndNoProviderFillsTheMemory(t *testing.T) {
	t.Parallel()
	var s strangers
	now := time.Now()
	for _, step := range []struct {
		model, name string
		after       time.Duration
		news        bool
	}{
		{"small", newer, 0, true},
		{"small", newer, time.Hour - 1, false},
		{"small", "another", time.Minute, true},
		{"large", newer, time.Minute, true},
		{"small", newer, time.Hour, true},
		{"small", newer, time.Hour + 1, false},
	} {
		if got := s.isNews(step.model, step.name, now.Add(step.after)); got != step.news {
			t.Errorf("%+v: %v", step, got)
		}
	}
	for n := range 10 * maxStrangers {
		s.isNews("small", fmt.Sprint(n), now)
	}
	if len(s.told) > maxStrangers {
		t.Errorf("%d names are remembered", len(s.told))
	}
}
