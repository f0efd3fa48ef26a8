package inference

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/task"
)

// fuzzed is a call whose stream is body.
func fuzzed(body string) *call {
	return &call{
		job: newJob(job.Batch), task: &task.Task{}, model: &task.Model{Name: "small", Stream: true}, provider: &provider{keys: &keys{}},
		pace: defaultPace, started: time.Now(), body: io.NopCloser(strings.NewReader(body)),
		watch: newWatch(time.Now(), time.Hour, task.Timeouts{}, func(error) {}),
	}
}

func TestEachPhaseOfACallEndsWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	limits := task.Timeouts{Connect: 3 * time.Second, FirstToken: 15 * time.Second, Silence: 10 * time.Second, Call: 30 * time.Second}
	tests := []struct {
		name   string
		left   time.Duration
		limits task.Timeouts
		play   func(w *watch)
		want   error
		after  time.Duration
	}{
		{"no connection", time.Minute, limits, func(*watch) {}, errConnect, 3 * time.Second},
		{"no first token", time.Minute, limits, func(w *watch) {
			<-time.After(time.Second)
			w.enter(time.Now(), limits.FirstToken, &errFirstToken)
		}, errFirstToken, 16 * time.Second},
		{"no further token", time.Minute, limits, func(w *watch) {
			for range 5 {
				<-time.After(2 * time.Second)
				w.enter(time.Now(), limits.Silence, &errSilence)
			}
		}, errSilence, 20 * time.Second},
		{"no end", time.Minute, limits, func(w *watch) {
			for range 14 {
				<-time.After(2 * time.Second)
				w.enter(time.Now(), limits.Silence, &errSilence)
			}
		}, errCall, 30 * time.Second},
		{"the deadline first", 2 * time.Second, limits, func(*watch) {}, errNoTime, 2 * time.Second},
		{"no limits but the deadline", time.Minute, task.Timeouts{}, func(*watch) {}, errNoTime, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(context.Background())
				started := time.Now()
				w := newWatch(started, tt.left, tt.limits, cancel)
				defer w.stop()
				tt.play(w)
				<-ctx.Done()
				if got := context.Cause(ctx); !errors.Is(got, tt.want) {
					t.Errorf("ended by %v, want %v", got, tt.want)
				}
				if took := time.Since(started); took != tt.after {
					t.Errorf("ended after %s, want %s", took, tt.after)
				}
			})
		})
	}
}

func TestTheSlowestPaceHoldsAfterItsGraceOnly(t *testing.T) {
	t.Parallel()
	tests := []struct {
		tokens int
		since  time.Duration
		want   bool
	}{
		{1, 0, true},
		{2, 10 * time.Second, true},
		{10, 10*time.Second + 1, false},
		{11, 11 * time.Second, true},
		{11, 12 * time.Second, false},
		{600, 10 * time.Minute, true},
		{599, 10 * time.Minute, false},
	}
	for _, tt := range tests {
		if got := defaultPace.allows(tt.tokens, tt.since); got != tt.want {
			t.Errorf("%d tokens in %s: %v, want %v", tt.tokens, tt.since, got, tt.want)
		}
	}
}

func TestTheLowerOfTwoTimeoutsHoldsAndZeroIsNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ a, b, want time.Duration }{{0, 0, 0}, {1, 0, 1}, {0, 2, 2}, {1, 2, 1}, {2, 1, 1}} {
		if got := lower(tt.a, tt.b); got != tt.want {
			t.Errorf("lower(%d, %d) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
