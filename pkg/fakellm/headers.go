package fakellm

import (
	"cmp"
	"net/http"
	"strconv"
	"time"
)

// setHeaders sets what OpenAI sends with every answer, and what the fault adds.
func (c *call) setHeaders() {
	h := c.w.Header()
	h["X-Request-Id"] = []string{"req_" + c.prefix + formatNonce(c.entry.n)}
	h["Openai-Processing-Ms"] = []string{strconv.FormatInt(time.Since(c.started).Milliseconds(), 10)}
	h["Openai-Version"] = []string{"2020-10-01"}
	requests, tokens, concerned := c.ledger.allowances(c.req.Model)
	if !concerned {
		requests, tokens = c.plenty()
	}
	requests.say(h, "Requests")
	tokens.say(h, "Tokens")
	for name, value := range c.fault.Header {
		if value == "" {
			h.Del(name)
		} else {
			h.Set(name, value)
		}
	}
}

// plenty returns the limits of a provider that never refuses, but for its faults.
func (c *call) plenty() (requests, tokens *allowance) {
	requests = &allowance{limit: 10_000, reset: 6 * time.Millisecond}
	requests.remaining = max(1, requests.limit-c.entry.inFlight)
	if c.fault.Kind == KindRateLimited {
		requests.remaining, requests.reset = 0, cmp.Or(c.fault.RetryAfter, requests.reset)
	}
	tokens = &allowance{limit: 2_000_000, reset: time.Millisecond}
	tokens.remaining = tokens.limit - min(tokens.limit/2, c.promptTokens)
	return requests, tokens
}

// say sets the three headers of a limit; none for nil.
func (a *allowance) say(h http.Header, on string) {
	if a == nil {
		return
	}
	h["X-Ratelimit-Limit-"+on] = []string{strconv.Itoa(a.limit)}
	h["X-Ratelimit-Remaining-"+on] = []string{strconv.Itoa(a.remaining)}
	h["X-Ratelimit-Reset-"+on] = []string{roundUp(a.reset, time.Millisecond).String()}
}
