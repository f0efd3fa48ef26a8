package inference

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"spillway/pkg/task"
)

const (
	// leastTime is the shortest time that a call is started for: less is left to the ladder.
	leastTime = 500 * time.Millisecond
	// tailTime is how long an answer that is complete waits for the usage report and the end mark.
	tailTime = time.Second
	// drainTime is how long a stream that sent its end mark may take to close, so that its connection
	// can serve the next call.
	drainTime = 100 * time.Millisecond
)

// pace is the slowest stream that is waited for: after the first grace of the answer, it must have
// brought at least rate tokens a second on average.
type pace struct {
	grace time.Duration
	rate  float64
}

// defaultPace is far below what any model does that works, and far above a connection that is kept
// alive by a byte now and then.
var defaultPace = pace{grace: 10 * time.Second, rate: 1}

// allows reports whether so many tokens in the time since the first are enough.
func (p pace) allows(tokens int, since time.Duration) bool {
	return since <= p.grace || float64(tokens) >= p.rate*since.Seconds()
}

// The ends of a call that are ours, as causes of its context.
var (
	errConnect    = errors.New("no connection within the connect timeout")
	errFirstToken = errors.New("no first token within the first_token timeout")
	errSilence    = errors.New("no further token within the silence timeout")
	errCall       = errors.New("no end of the answer within the call timeout")
	errDrip       = errors.New("the answer comes too slowly")
	errTail       = errors.New("no end mark after the finish reason")
	errNoTime     = errors.New("the deadline, less its reserve, came during the call")
)

// isTimeout reports whether a call ended for one of them.
func isTimeout(cause error) bool {
	return slices.ContainsFunc([]error{errConnect, errFirstToken, errSilence, errCall, errDrip, errTail, errNoTime}, func(own error) bool {
		return errors.Is(cause, own)
	})
}

// watch ends a call that its provider lets hang. One timer serves all phases: connect, first token,
// silence, tail; it is reset once a token and never runs beyond the end of the call.
type watch struct {
	cancel context.CancelCauseFunc
	timer  *time.Timer
	// end is when the call is over at the latest; atEnd is what it is then said to have died of.
	end   time.Time
	atEnd error
	// due is what the phase at hand dies of.
	due atomic.Pointer[error]
}

// newWatch starts the connect phase. left is what the deadline leaves, less its reserve.
func newWatch(now time.Time, left time.Duration, limits task.Timeouts, cancel context.CancelCauseFunc) *watch {
	w := &watch{cancel: cancel, end: now.Add(left), atEnd: errNoTime}
	if limits.Call > 0 && limits.Call < left {
		w.end, w.atEnd = now.Add(limits.Call), errCall
	}
	w.due.Store(&errConnect)
	w.timer = time.AfterFunc(w.within(now, limits.Connect), w.fire)
	return w
}

// enter begins a phase that may last limit; 0: as long as the call.
func (w *watch) enter(now time.Time, limit time.Duration, cause *error) {
	w.due.Store(cause)
	w.timer.Reset(w.within(now, limit))
}

// within cuts limit to what is left of the call.
func (w *watch) within(now time.Time, limit time.Duration) time.Duration {
	left := w.end.Sub(now)
	if limit > 0 && limit < left {
		return limit
	}
	return left
}

func (w *watch) fire() {
	if time.Now().Before(w.end) {
		w.cancel(*w.due.Load())
		return
	}
	w.cancel(w.atEnd)
}

func (w *watch) stop() { w.timer.Stop() }

// timeLeft is what the deadline leaves to calls of this model: less the reserve for the ladder's answer, and
// less what its models may need that come after this one.
func (c *call) timeLeft(now time.Time) time.Duration {
	j := c.job
	rungs := 0
	for _, rung := range c.task.Ladder[min(j.Rung, len(c.task.Ladder)):] {
		if rung.Kind == task.RungModel {
			rungs++
		}
	}
	return task.CallTime(j.Left(now, c.task.ReserveOf(j.Deadline.Sub(j.AcknowledgedAt))), rungs)
}

// timeouts returns the model's timeouts, where the task does not lower them.
func timeouts(m, t *task.Timeouts) task.Timeouts {
	return task.Timeouts{
		Connect:    lower(m.Connect, t.Connect),
		FirstToken: lower(m.FirstToken, t.FirstToken),
		Silence:    lower(m.Silence, t.Silence),
		Call:       lower(m.Call, t.Call),
	}
}

// lower returns the lower limit; 0 is none.
func lower(a, b time.Duration) time.Duration {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}
