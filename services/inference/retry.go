package inference

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// maxWait bounds what a provider can ask for before the number is compared with anything.
const maxWait = 365 * 24 * time.Hour

// unixFrom is where a number of seconds is no longer a wait but a moment: 2001, in seconds since 1970.
const unixFrom = 1e9

// milliFrom is the same for milliseconds.
const milliFrom = 1e12

// retry decides what becomes of a job after a failed call: another try at the same model after a wait, if
// one may help and fits, else fallback.
func (h *Handler) retry(c *call, f *failure) error {
	j, policy := c.job, &c.task.Retry
	text := "model " + c.model.Name + ": " + f.text
	divert := func(why string) error { return fate.DivertTo(f.code, text+why, f.cause) }
	if c.otherKey && (policy.MaxCalls == 0 || j.Calls < policy.MaxCalls) {
		return fate.RetryAfter(0, f.code, text+"; another key is tried", f.cause)
	}
	if j.Attempts >= attempts(f.code, policy, j.Lane) || c.header.Get("X-Should-Retry") == "false" {
		return divert("")
	}
	if policy.MaxCalls > 0 && j.Calls >= policy.MaxCalls {
		return divert("; no call is left for another try")
	}
	now := time.Now()
	if h.breakers != nil {
		if open := h.breakers.Look(c.model.Name).Open; open != nil {
			return h.cutOut(c, f, open)
		}
	}
	room := c.timeLeft(now) - leastTime
	wait, asked := c.asked(f.code, now)
	switch {
	case asked && policy.RetryAfterMax > 0 && wait > policy.RetryAfterMax:
		return divert(fmt.Sprintf("; it asks to wait %s, longer than retry_after_max", wait.Round(time.Millisecond)))
	case asked && wait > room:
		return divert(fmt.Sprintf("; it asks to wait %s, longer than the deadline leaves", wait.Round(time.Millisecond)))
	case asked:
		// Above what was asked for, never below, and within the room: many jobs were told the same.
		wait += min(time.Duration(h.random()*float64(wait)/10), room-wait)
	default:
		if wait = h.backoff(policy, j.Attempts, j.Lane); wait > room {
			return divert("; another try does not fit before the deadline")
		}
	}
	if !h.budgets[c.model.Name].grant(now, c.model.RetryShare) {
		h.metrics.unretried.WithLabelValues(c.model.Name).Inc()
		return divert("; too many of the model's calls are retries already")
	}
	return fate.RetryAfter(wait, f.code, text, f.cause)
}

// cutOut decides about a job whose call failed and whose model's breaker is open by now: it waits for the
// model, or leaves at once, and does not wait only to find it shut.
func (h *Handler) cutOut(c *call, f *failure, open *breaker.OpenError) error {
	text := "model " + c.model.Name + ": " + f.text + "; " + refusal(open)
	if !c.mayWait() {
		return fate.DivertTo(f.code, text, f.cause)
	}
	wait, err := h.waitFor(c, open)
	if err != nil {
		return err
	}
	return fate.ParkFor(wait, f.code, text, f.cause)
}

// attempts is how often a job may try one model in a row when its calls fail with code. What waiting does
// not change is tried once; a model that hangs has cost a timeout each time, so it gets fewer tries.
func attempts(code fate.Code, policy *task.Retry, lane string) int {
	most := policy.Attempts
	interactive := lane == job.Interactive
	if interactive && policy.InteractiveAttempts > 0 {
		most = policy.InteractiveAttempts
	}
	switch code {
	case fate.ProviderRateLimited, fate.ProviderUnavailable, fate.ProviderUnreachable, fate.ProviderCut, fate.ProviderEmpty:
		return most
	case fate.ProviderTimeout:
		if interactive {
			return min(most, 1)
		}
		return min(most, 2)
	}
	return 1
}

// backoff is the wait before the try after the n-th failure, from 1: it grows by the factor up to its
// maximum, and is spread to both sides.
func (h *Handler) backoff(policy *task.Retry, n int, lane string) time.Duration {
	first := policy.FirstDelay
	if lane == job.Interactive && policy.InteractiveFirstDelay > 0 {
		first = policy.InteractiveFirstDelay
	}
	wait := float64(first) * math.Pow(max(policy.Factor, 1), float64(n-1))
	if policy.MaxDelay > 0 {
		wait = min(wait, float64(policy.MaxDelay))
	}
	wait *= 1 + policy.Jitter*(2*h.random()-1)
	return time.Duration(min(max(wait, 0), float64(maxWait)))
}

// asked returns how long the provider wants the next call to wait; false: it does not say. Retry-After is
// obeyed from everybody; x-ratelimit headers only on a rate limit, and where models.yaml believes them.
func (c *call) asked(code fate.Code, now time.Time) (time.Duration, bool) {
	if wait, ok := retryAfter(c.header, now); ok {
		return wait, true
	}
	if code == fate.ProviderRateLimited && c.provider.obeysLimits {
		return rateLimitReset(c.header, now)
	}
	return 0, false
}

// retryAfter reads retry-after-ms (OpenAI, Azure), then Retry-After as RFC 9110 section 10.2.3 has it:
// seconds or a date. Fractions of seconds are taken as well. A wait that is over says nothing.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	if ms, ok := number(h.Get("Retry-After-Ms")); ok && ms > 0 {
		return positive(ms, time.Millisecond)
	}
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, ok := number(value); ok {
		return positive(seconds, time.Second)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	// The date is one of the provider's clock, and so is its Date header.
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	wait := at.Sub(now)
	return min(wait, maxWait), wait > 0
}

// rateLimitReset reads when the limits are open again: the latest of those that can be what was hit. A
// limit on requests of which some remain was not.
func rateLimitReset(h http.Header, now time.Time) (time.Duration, bool) {
	var latest time.Duration
	for _, name := range []string{"Requests", "Tokens", ""} {
		suffix := ""
		if name != "" {
			suffix = "-" + name
		}
		if left, ok := number(h.Get("X-Ratelimit-Remaining" + suffix)); ok && left > 0 && name == "Requests" {
			continue
		}
		if wait, ok := resetTime(h.Get("X-Ratelimit-Reset"+suffix), now); ok {
			latest = max(latest, wait)
		}
	}
	return latest, latest > 0
}

// resetTime reads the forms in use: a Go duration (6m0s, 20ms), seconds, seconds or milliseconds since 1970.
// 0 and negative numbers mean that it is unknown.
func resetTime(value string, now time.Time) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	n, ok := number(value)
	switch {
	case !ok:
		wait, err := time.ParseDuration(value)
		return min(wait, maxWait), err == nil && wait > 0
	case n >= milliFrom:
		wait := time.UnixMilli(int64(n)).Sub(now)
		return min(wait, maxWait), wait > 0
	case n >= unixFrom:
		wait := time.Unix(int64(n), 0).Sub(now)
		return min(wait, maxWait), wait > 0
	}
	return positive(n, time.Second)
}

// number reads a finite decimal number.
func number(s string) (float64, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
}

func positive(n float64, unit time.Duration) (time.Duration, bool) {
	if n <= 0 {
		return 0, false
	}
	return time.Duration(min(math.Ceil(n*float64(unit)), float64(maxWait))), true
}
