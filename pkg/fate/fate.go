// Package fate names what becomes of a job when a handler could not do its stage's work.
//
// A handler returns nil, or an error that carries a Fate. It decides nothing else: package stage reads
// the fate in one switch and moves the job. Errors without a fate are infrastructure faults (the
// broker did not answer a read, say) and are treated as a Retry with code Internal.
package fate

import (
	"errors"
	"fmt"
	"time"
)

// Fate is what a handler's error decides.
type Fate uint8

// The fates. Their zero value is not a fate.
const (
	// Retry hands a copy of the job to the stage's own inbox, not to be started before a moment.
	Retry Fate = iota + 1
	// Park hands the job to the parked subject of its model, where inference finds it again.
	Park
	// Divert hands the job to fallback, which answers from the task's ladder.
	Divert
	// Reject ends the run with status rejected: the request itself is at fault.
	Reject
	// Elsewhere drops this copy: the run has its result already, or another process has the job.
	Elsewhere
)

var names = [...]string{"none", "retry", "park", "divert", "reject", "elsewhere"}

// String returns the word used in logs, metrics and histories.
func (f Fate) String() string {
	if int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("fate(%d)", uint8(f))
}

// Reason is one fault of a request and where it is.
type Reason struct {
	// Pointer is a JSON pointer (RFC 6901) into the request; "" means the whole of it.
	Pointer string `json:"pointer"`
	Message string `json:"message"`
}

// Error is a failure that carries its fate. Code and Message reach the client; Cause is logged once,
// where the fate is carried out, and never leaves the process.
type Error struct {
	Fate    Fate
	Code    Code
	Message string
	// Reasons lists every fault that was found, for Reject; the first one's pointer leads.
	Reasons []Reason
	// After is how long a Retry or a Park waits at least. 0: no wait.
	After time.Duration
	// AsItCame says of a Park that nothing was done for the job: if it was parked before, its message is
	// handed back instead of being stored anew.
	AsItCame bool
	Cause    error
}

// Error implements error: for logs, not for clients.
func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s (%s): %s: %v", e.Code, e.Fate, e.Message, e.Cause)
	}
	return fmt.Sprintf("%s (%s): %s", e.Code, e.Fate, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is matches another *Error by its code, so that errors.Is(err, &fate.Error{Code: c}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Fate == 0 || t.Fate == e.Fate)
}

// RetryAfter returns an error whose job is tried again by the same stage, wait later.
func RetryAfter(wait time.Duration, code Code, message string, cause error) *Error {
	return &Error{Fate: Retry, Code: code, Message: message, After: wait, Cause: cause}
}

// WaitFor returns an error whose job comes back wait later, though nothing failed: it has no code.
func WaitFor(wait time.Duration, message string) *Error {
	return &Error{Fate: Retry, Message: message, After: wait}
}

// Waits reports whether the job only waits for something else, without a try that failed.
func (e *Error) Waits() bool { return e.Fate == Retry && e.Code == "" }

// ParkFor returns an error whose job waits, at least for wait, behind the others of its model.
func ParkFor(wait time.Duration, code Code, message string, cause error) *Error {
	return &Error{Fate: Park, Code: code, Message: message, After: wait, Cause: cause}
}

// ParkAgain does for a job that nothing was done for since it came.
func ParkAgain(wait time.Duration, code Code, message string) *Error {
	return &Error{Fate: Park, Code: code, Message: message, After: wait, AsItCame: true}
}

// DivertTo fallback: this stage can do no more for the job.
func DivertTo(code Code, message string, cause error) *Error {
	return &Error{Fate: Divert, Code: code, Message: message, Cause: cause}
}

// Rejection returns an error that ends the run as rejected, with every reason that was found.
func Rejection(code Code, message string, reasons ...Reason) *Error {
	return &Error{Fate: Reject, Code: code, Message: message, Reasons: reasons}
}

// DoneElsewhere returns an error that drops this copy of the job.
func DoneElsewhere(message string) *Error {
	return &Error{Fate: Elsewhere, Message: message}
}

// Of returns the fate in err's chain. An error without one is a Retry with code Internal.
func Of(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Fate: Retry, Code: Internal, Message: "a part of the pipeline did not answer", After: time.Second, Cause: err}
}
