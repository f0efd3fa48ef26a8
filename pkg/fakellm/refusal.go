package fakellm

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// What a limit is on.
const (
	onRequests    = "requests"
	onTokens      = "tokens"
	onConcurrency = "concurrent requests"
)

// refusal is why a limit does not let a call in.
type refusal struct {
	on                  string
	limit, used, wanted int
	window              time.Duration
	// wait is how long it is until the call would be let in, as far as the provider knows; 0: it does not
	// know, never: not at all.
	wait time.Duration
}

// error returns the answer, in OpenAI's words.
func (r *refusal) error(model string) *apiError {
	kind, what := r.on, r.on
	switch {
	case r.on == onConcurrency:
		kind = onRequests
	case r.window == time.Minute && r.on == onRequests:
		what = "requests per min (RPM)"
	case r.window == time.Minute:
		what = "tokens per min (TPM)"
	default:
		what = r.on + " per " + r.window.String()
	}
	e := &apiError{status: http.StatusTooManyRequests, Type: kind, Code: "rate_limit_exceeded"}
	if r.wait == never {
		e.Message = fmt.Sprintf("Request too large for %s in organization org-simulated on %s: Limit %d, Requested %d. The input or output tokens must be reduced in order to run successfully.",
			model, what, r.limit, r.wanted)
		return e
	}
	e.Message = fmt.Sprintf("Rate limit reached for %s in organization org-simulated on %s: Limit %d, Used %d, Requested %d.",
		model, what, r.limit, r.used, r.wanted)
	if r.wait > 0 {
		e.Message += " Please try again in " + roundUp(r.wait, time.Millisecond).String() + "."
	}
	return e
}

// sayRetryAfter says the wait in both units, rounded up: a client that waits as long as it is told is not
// refused for the same reason again.
func (r *refusal) sayRetryAfter(h http.Header) {
	if r.wait > 0 && r.wait != never {
		h["Retry-After"] = []string{strconv.FormatInt(int64(roundUp(r.wait, time.Second)/time.Second), 10)}
		h["Retry-After-Ms"] = []string{strconv.FormatInt(roundUp(r.wait, time.Millisecond).Milliseconds(), 10)}
	}
}

func roundUp(d, unit time.Duration) time.Duration { return (d + unit - 1).Truncate(unit) }
