package fakellm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Limit is how much the provider takes in. A call that exceeds one gets a 429 at once, before any fault or
// script has its turn, and is counted as OutcomeLimited. A call counts against every limit that is about
// its model, or, refused by one of them, against none. In JSON its keys are in snake_case, and the window
// is a string ("60s").
type Limit struct {
	// Model is whose calls count; "": those of all models together.
	Model string
	// Requests is how many calls are let in within any Window: a sliding one, exact to the nanosecond.
	// 0: any number.
	Requests int
	// Tokens is how many tokens are let in within any Window; 0: any number. The prompt's count when the
	// call arrives, and it is refused when they do not fit. The answer's count when its end is sent, so
	// they may exceed the limit; those of an answer that does not come to its end do not count.
	Tokens int
	// Concurrency is how many calls may be under way at once; 0: any number. One that exceeds it is not
	// told when to come again.
	Concurrency int
	// Window is what Requests and Tokens are counted in; 0: 60 s.
	Window time.Duration
	// Headers says the state of Requests and Tokens, as it is when an answer begins, in OpenAI's
	// x-ratelimit headers on every answer; the reset is when the window will be empty. Of several limits,
	// the one with the least left is said, and those without Headers are not. Calls that no limit is about
	// have headers of limits that are never reached.
	Headers bool
}

const defaultWindow = time.Minute

// wireLimit is Limit as JSON has it.
type wireLimit struct {
	Model       string `json:"model,omitempty"`
	Requests    int    `json:"requests,omitempty"`
	Tokens      int    `json:"tokens,omitempty"`
	Concurrency int    `json:"concurrency,omitempty"`
	Window      span   `json:"window,omitzero"`
	Headers     bool   `json:"headers,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (l Limit) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireLimit{l.Model, l.Requests, l.Tokens, l.Concurrency, span(l.Window), l.Headers})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown keys are refused.
func (l *Limit) UnmarshalJSON(data []byte) error {
	var w wireLimit
	if err := decodeStrictly(data, &w); err != nil {
		return fmt.Errorf("read a limit: %w", err)
	}
	*l = Limit{w.Model, w.Requests, w.Tokens, w.Concurrency, time.Duration(w.Window), w.Headers}
	return nil
}

// Validate returns everything that is wrong with the limit.
func (l Limit) Validate() error {
	if min(l.Requests, l.Tokens, l.Concurrency) < 0 || l.Window < 0 {
		return fmt.Errorf("the limit of model %q has a negative parameter", l.Model)
	}
	if max(l.Requests, l.Tokens, l.Concurrency) == 0 {
		return fmt.Errorf("the limit of model %q has none of requests, tokens and concurrency", l.Model)
	}
	return nil
}

func validateLimits(all []Limit) error {
	var errs []error
	for _, l := range all {
		errs = append(errs, l.Validate())
	}
	return errors.Join(errs...)
}

// limits are the limits that hold. Their user guards them.
type limits []*gauge

func newLimits(all []Limit) limits {
	l := make(limits, len(all))
	for i, one := range all {
		if one.Window == 0 {
			one.Window = defaultWindow
		}
		l[i] = &gauge{Limit: one}
	}
	return l
}

func (l limits) list() []Limit {
	all := make([]Limit, len(l))
	for i, g := range l {
		all[i] = g.Limit
	}
	return all
}

// admit counts a call and returns the gauges that it is to leave; or why it is refused, if it is: of
// several reasons, the one that lasts longest.
func (l limits) admit(model string, tokens int, now time.Duration) ([]*gauge, *refusal) {
	var concerned []*gauge
	var reasons []refusal
	for _, g := range l {
		if g.isAbout(model) {
			concerned = append(concerned, g)
			reasons = g.reasons(reasons, tokens, now)
		}
	}
	if len(reasons) > 0 {
		worst := slices.MaxFunc(reasons, func(a, b refusal) int { return cmp.Compare(a.wait, b.wait) })
		return nil, &worst
	}
	for _, g := range concerned {
		g.enter(tokens, now)
	}
	return concerned, nil
}

// gauge is one limit and what counts against it.
type gauge struct {
	Limit
	requests, tokens window
	running          int
}

func (g *gauge) isAbout(model string) bool { return g.Model == "" || g.Model == model }

// reasons appends why a call can not be let in.
func (g *gauge) reasons(to []refusal, tokens int, now time.Duration) []refusal {
	g.expire(now)
	if g.Concurrency > 0 && g.running >= g.Concurrency {
		to = append(to, refusal{on: onConcurrency, limit: g.Concurrency, used: g.running, wanted: 1})
	}
	outOf := func(on string, limit int, w *window, wanted int) {
		if limit > 0 && w.sum+wanted > limit {
			wait := w.wait(wanted, limit, g.Window, now)
			to = append(to, refusal{on: on, limit: limit, used: w.sum, wanted: wanted, window: g.Window, wait: wait})
		}
	}
	outOf(onRequests, g.Requests, &g.requests, 1)
	outOf(onTokens, g.Tokens, &g.tokens, tokens)
	return to
}

func (g *gauge) enter(tokens int, now time.Duration) {
	g.running++
	if g.Requests > 0 {
		g.requests.add(1, now)
	}
	g.addTokens(tokens, now)
}

func (g *gauge) expire(now time.Duration) {
	g.requests.expire(now - g.Window)
	g.tokens.expire(now - g.Window)
}

// leave ends a call that was let in, with the tokens of its answer.
func (g *gauge) leave(tokens int, now time.Duration) {
	g.running--
	g.addTokens(tokens, now)
}

func (g *gauge) addTokens(tokens int, now time.Duration) {
	if g.Tokens > 0 && tokens > 0 {
		g.tokens.add(tokens, now)
	}
}

// window is what was spent lately, oldest first.
type window struct {
	spent []spend
	// gone are the first ones in spent that do not count any more.
	gone, sum int
}

// spend is so many requests or tokens at a moment of the server's clock.
type spend struct {
	at time.Duration
	n  int
}

func (w *window) add(n int, now time.Duration) {
	w.spent = append(w.spent, spend{now, n})
	w.sum += n
}

// expire forgets what was spent at horizon or before it.
func (w *window) expire(horizon time.Duration) {
	for w.gone < len(w.spent) && w.spent[w.gone].at <= horizon {
		w.sum -= w.spent[w.gone].n
		w.gone++
	}
	if w.gone > len(w.spent)/2 { // seldom enough that a call costs the same however long the window
		w.spent = slices.Delete(w.spent, 0, w.gone)
		w.gone = 0
	}
}

// never is the wait for what a limit has no room for even when nothing else is counted.
const never = time.Duration(math.MaxInt64)

// wait returns how long it is until n more fit under the limit.
func (w *window) wait(n, limit int, width, now time.Duration) time.Duration {
	if n > limit {
		return never
	}
	left := w.sum
	for _, s := range w.spent[w.gone:] {
		if left -= s.n; left+n <= limit {
			return s.at + width - now
		}
	}
	return 0
}

// untilEmpty returns how long it is until nothing is counted: what OpenAI calls the reset.
func (w *window) untilEmpty(width, now time.Duration) time.Duration {
	if w.gone == len(w.spent) {
		return 0
	}
	return w.spent[len(w.spent)-1].at + width - now
}

// allowance is what the headers say of one limit.
type allowance struct {
	limit, remaining int
	reset            time.Duration
}

// allowances returns what the headers say to a call for the model, nil for nothing. When no limit is about
// the model, concerned is false.
func (l limits) allowances(model string, now time.Duration) (requests, tokens *allowance, concerned bool) {
	tighter := func(than *allowance, limit int, w *window, width time.Duration) *allowance {
		remaining := max(0, limit-w.sum)
		if limit == 0 || than != nil && than.remaining <= remaining {
			return than
		}
		return &allowance{limit, remaining, w.untilEmpty(width, now)}
	}
	for _, g := range l {
		if !g.isAbout(model) {
			continue
		}
		concerned = true
		if g.Headers {
			g.expire(now)
			requests = tighter(requests, g.Requests, &g.requests, g.Window)
			tokens = tighter(tokens, g.Tokens, &g.tokens, g.Window)
		}
	}
	return requests, tokens, concerned
}
