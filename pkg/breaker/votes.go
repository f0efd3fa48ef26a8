package breaker

import (
	"fmt"
	"math"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"spillway/pkg/task"
)

// votes counts what one replica sees of a model since the circuit's last change. It only ever votes to
// open; when it does, the record says what happens, and the votes start anew.
//
// A circuit breaker of failsafe-go holds one kind of threshold, hence two of them.
type votes struct {
	inARow, share circuitbreaker.CircuitBreaker[any]
	settings      task.Breaker
}

// newVotes counts by s. A rule without a number (0) never votes.
func newVotes(s task.Breaker) *votes {
	v := &votes{settings: s}
	if s.ConsecutiveFailures > 0 {
		v.inARow = circuitbreaker.NewBuilder[any]().WithFailureThreshold(uint(s.ConsecutiveFailures)).Build()
	}
	if s.FailureShare > 0 && s.Window >= time.Millisecond {
		v.share = circuitbreaker.NewBuilder[any]().
			WithFailureRateThreshold(wholePercent(s.FailureShare), uint(max(s.MinCalls, 1)), s.Window).Build()
	}
	return v
}

// wholePercent rounds a share as failsafe-go rounds the share that it compares with it: of 0.333 it would
// otherwise say that one of three (0.33) is less. 0 would turn the rule into another one.
func wholePercent(share float64) float64 {
	return min(max(math.Round(share*100)/100, 0.01), 1)
}

// worked notes a success and says why the circuit must open, or "": a success may be the call that makes
// the failures before it enough calls to judge by.
func (v *votes) worked() string {
	v.each(circuitbreaker.CircuitBreaker[any].RecordSuccess)
	return v.verdict("")
}

// failed notes a failure and says why the circuit must open, or "".
func (v *votes) failed(why string) string {
	v.each(circuitbreaker.CircuitBreaker[any].RecordFailure)
	return v.verdict(why)
}

func (v *votes) each(record func(circuitbreaker.CircuitBreaker[any])) {
	if v.inARow != nil {
		record(v.inARow)
	}
	if v.share != nil {
		record(v.share)
	}
}

func (v *votes) verdict(last string) string {
	var why string
	switch {
	case v.inARow != nil && v.inARow.IsOpen():
		why = fmt.Sprintf("%d failures in a row", v.settings.ConsecutiveFailures)
	case v.share != nil && v.share.IsOpen():
		m := v.share.Metrics()
		why = fmt.Sprintf("%d of %d calls failed within %s", m.Failures(), m.Executions(), v.settings.Window)
	default:
		return ""
	}
	if last != "" {
		why += ", the last: " + last
	}
	return why
}
