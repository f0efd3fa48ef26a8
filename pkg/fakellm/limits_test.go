package fakellm_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/pkg/fakellm"
)

// message is an input of so many tokens.
func message(tokens int) string { return strings.Repeat("four", tokens) }

// limited returns the message of a 429 that a limit gave.
func (r reply) limited(t *testing.T, kind string) string {
	t.Helper()
	equal(t, "status", r.status, http.StatusTooManyRequests)
	equal(t, "code", r.errorCode(t), any("rate_limit_exceeded"))
	var e struct {
		Error struct{ Type, Message string }
	}
	if err := json.Unmarshal([]byte(r.body), &e); err != nil {
		t.Fatal(err)
	}
	equal(t, "type", e.Error.Type, kind)
	return e.Error.Message
}

func (r reply) number(t *testing.T, header string) int {
	t.Helper()
	n, err := strconv.Atoi(r.header.Get(header))
	if err != nil {
		t.Fatalf("%s: %v", header, err)
	}
	return n
}

func TestARequestLimitIsASlidingWindowOverTheCallsThatWereLetIn(t *testing.T) {
	t.Parallel()
	const most, window = 7, 40 * time.Millisecond
	b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Requests: most, Window: window}}})
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for range 200 {
				b.chat(t, ask("x", object{"model": fmt.Sprint("m", i%2)}))
			}
		})
	}
	clients.Wait()

	arrivals := b.Arrivals("")
	requests := b.Requests("")
	equal(t, "arrivals", len(arrivals), 800)
	equal(t, "requests", len(requests), 800)
	var letIn []time.Time
	for i, r := range requests {
		if !r.At.Equal(arrivals[i]) {
			t.Fatalf("call %d arrived at %v, was recorded at %v", i, arrivals[i], r.At)
		}
		before := 0
		for _, at := range letIn {
			if r.At.Sub(at) < window {
				before++
			}
		}
		want := "ok"
		if before >= most {
			want = fakellm.OutcomeLimited
		} else {
			letIn = append(letIn, r.At)
		}
		if r.Kind != want {
			t.Fatalf("call %d with %d in its window is %s, want %s", i, before, r.Kind, want)
		}
	}
	c := b.Counts()
	equal(t, "let in", c.Outcomes["ok"], len(letIn))
	equal(t, "refused", c.Outcomes[fakellm.OutcomeLimited], 800-len(letIn))
	equal(t, "refused by model", c.Models["m0"].Outcomes[fakellm.OutcomeLimited]+c.Models["m1"].Outcomes[fakellm.OutcomeLimited], 800-len(letIn))
	equal(t, "counted as 429", c.Outcomes["429"], 0)
	equal(t, "calls of the input", c.Nonces[fakellm.Nonce("x")], len(letIn))
	if len(letIn) == 800 || len(letIn) <= most {
		t.Errorf("%d of 800 calls were let in: the window did not slide", len(letIn))
	}
}

func TestAClientThatWaitsAsLongAsItIsToldIsLetIn(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Requests: 2, Window: 300 * time.Millisecond}}})
	b.chat(t, ask("x", nil))
	b.chat(t, ask("x", nil))
	r := b.chat(t, ask("x", nil))
	now := time.Now()
	contains(t, "message", r.limited(t, "requests"), "Rate limit reached for m in organization org-simulated on requests per 300ms: Limit 2, Used 2, Requested 1. Please try again in ")
	wait := time.Duration(r.number(t, "Retry-After-Ms")) * time.Millisecond
	arrivals := b.Arrivals("m")
	want := arrivals[0].Add(300 * time.Millisecond).Sub(arrivals[2])
	if wait < want || wait >= want+time.Millisecond {
		t.Errorf("told to wait %v, the oldest leaves after %v", wait, want)
	}
	equal(t, "Retry-After", r.header.Get("Retry-After"), "1")
	select {
	case <-time.After(time.Until(now.Add(wait))):
	case <-b.ctx.Done():
	}
	equal(t, "after the wait", b.statusOf(t, "x", "m"), 200)
	if got := b.Arrivals("m"); got[3].Sub(got[0]) < 300*time.Millisecond {
		t.Errorf("let in %v after the oldest", got[3].Sub(got[0]))
	}
}

func TestATokenLimitCountsThePromptAtItsArrivalAndTheAnswerAtItsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Tokens: 100, Window: time.Hour, Headers: true}}})
	b.SetAnswer("m", message(30))
	for _, stream := range []bool{false, true} {
		b.SetLimits(fakellm.Limit{Tokens: 100, Window: time.Hour, Headers: true})
		r := b.chat(t, ask(message(40), object{"stream": stream}))
		equal(t, "remaining when the answer begins", r.number(t, "X-Ratelimit-Remaining-Tokens"), 100-40)
		r = b.chat(t, ask(message(31), object{"stream": stream}))
		contains(t, "one too many", r.limited(t, "tokens"), "on tokens per 1h0m0s: Limit 100, Used 70, Requested 31. Please try again in ")
		equal(t, "remaining", r.number(t, "X-Ratelimit-Remaining-Tokens"), 30)
		if wait := r.number(t, "Retry-After"); wait < 3500 || wait > 3600 {
			t.Errorf("Retry-After %d", wait)
		}
		equal(t, "as many as are left", b.chat(t, ask(message(30), object{"stream": stream})).status, 200)
		r = b.chat(t, ask("x", nil))
		contains(t, "answers exceed it", r.limited(t, "tokens"), "Limit 100, Used 130, Requested 1.")
		equal(t, "none is left", r.number(t, "X-Ratelimit-Remaining-Tokens"), 0)
	}
}

func TestAPromptThatNeverFitsIsNotToldToComeAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Tokens: 100}}})
	r := b.chat(t, ask(message(101), nil))
	equal(t, "message", r.limited(t, "tokens"), "Request too large for m in organization org-simulated on tokens per min (TPM): Limit 100, Requested 101. The input or output tokens must be reduced in order to run successfully.")
	equal(t, "Retry-After", r.header.Get("Retry-After")+r.header.Get("Retry-After-Ms"), "")
	equal(t, "the whole limit", b.chat(t, ask(message(100), nil)).status, 200)
}

func TestAnAnswerThatDoesNotEndCountsOnlyItsPrompt(t *testing.T) {
	t.Parallel()
	for _, fault := range []fakellm.Fault{{Kind: "503"}, {Kind: "cut"}, {Kind: "reset", After: 1}, {Kind: "error_chunk"}} {
		b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Tokens: 100}}})
		b.SetAnswer("m", message(90))
		b.Script("m", fault)
		b.chat(t, ask(message(20), object{"stream": true}))
		contains(t, fault.Kind, b.chat(t, ask(message(81), nil)).limited(t, "tokens"), "Used 20, Requested 81.")
	}
}

func TestAConcurrencyLimitRefusesWhatIsBeyondItAndLetsInTheNextAfterAnEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Concurrency: 3}}, Faults: []fakellm.Fault{{Kind: "hang", Match: "hold"}}})
	leave := b.holdCalls(t, 3, "m")
	r := b.chat(t, ask("x", object{"stream": true}))
	equal(t, "message", r.limited(t, "requests"), "Rate limit reached for m in organization org-simulated on concurrent requests: Limit 3, Used 3, Requested 1.")
	equal(t, "Retry-After", r.header.Get("Retry-After")+r.header.Get("Retry-After-Ms"), "")
	leave()
	b.left(t, 3)
	equal(t, "afterwards", b.statusOf(t, "x", "m"), 200)
	equal(t, "limited", b.Counts().Outcomes[fakellm.OutcomeLimited], 1)
}

func TestAClientThatHasItsAnswerIsNotRefusedBecauseTheServerIsNotYetDoneWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Concurrency: 1}}})
	// Both are one write, of more than net/http keeps back until the call is over.
	b.SetAnswer("plain", message(5000))
	b.SetAnswer("stream", message(100))
	for i := range 400 {
		model := []string{"stream", "plain"}[i%2]
		response, err := b.send(t, b.ctx, ask("x", object{"model": model, "stream": model == "stream"}))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		equal(t, "status", response.StatusCode, http.StatusOK)
		if model == "stream" {
			lines := bufio.NewScanner(response.Body)
			for lines.Scan() && lines.Text() != "data: [DONE]" {
			}
		} else if err := json.NewDecoder(response.Body).Decode(&object{}); err != nil {
			t.Fatal(err)
		}
	}
}

// holdCalls has n calls for a model in flight, until leave.
func (b *bundle) holdCalls(t *testing.T, n int, model string) (leave func()) {
	t.Helper()
	var held sync.WaitGroup
	ctx, cancel := context.WithCancel(b.ctx)
	for range n {
		held.Go(func() {
			response, err := b.send(t, ctx, ask("hold", object{"model": model}))
			if err == nil {
				response.Body.Close()
				t.Error("a held call was answered")
			}
		})
	}
	if err := b.Await(b.ctx, func(c fakellm.Counts) bool { return c.Models[model].InFlight == n }); err != nil {
		t.Fatal(err)
	}
	return func() {
		cancel()
		held.Wait()
	}
}

func TestALimitIsOfItsModelOrOfAllTogetherAndBothHold(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Model: "small", Requests: 2}, {Requests: 4}}})
	for i, want := range []int{200, 200, 429, 429} {
		equal(t, fmt.Sprint("small, call ", i+1), b.statusOf(t, "x", "small"), want)
	}
	for i, want := range []int{200, 200, 429} {
		equal(t, fmt.Sprint("large, call ", i+1), b.statusOf(t, "x", "large"), want)
	}
	equal(t, "small", b.Counts().Models["small"].Outcomes["limited"], 2)
	equal(t, "large", b.Counts().Models["large"].Outcomes["limited"], 1)
	equal(t, "arrivals of small", len(b.Arrivals("small")), 4)
	equal(t, "arrivals", len(b.Arrivals("")), 7)
	equal(t, "arrivals of a model without calls", len(b.Arrivals("none")), 0)
}

func TestACallThatALimitRefusesUsesUpNoScriptAndNoFirstCall(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Requests: 1, Window: time.Hour}}, Faults: []fakellm.Fault{{Kind: "500", First: 2}}})
	b.Script("m", fakellm.Fault{Kind: "503"})
	b.SetLimits(fakellm.Limit{Tokens: 1})
	equal(t, "refused", b.statusOf(t, message(2), "m"), 429)
	equal(t, "rejected", b.chat(t, object{"model": "m"}).status, 400)
	b.SetLimits()
	for i, want := range []int{503, 500, 200} {
		equal(t, fmt.Sprint("call ", i+1), b.statusOf(t, message(2), "m"), want)
	}
	b.Reset()
	for i, want := range []int{500, 429} {
		equal(t, fmt.Sprint("after the reset, call ", i+1), b.statusOf(t, "x", "m"), want)
	}
}

func TestTheHeadersOfALimitStandOnEveryAnswer(t *testing.T) {
	t.Parallel()
	limits := []fakellm.Limit{{Requests: 4, Tokens: 1000, Headers: true}, {Requests: 3, Headers: true}, {Requests: 2, Model: "other"}}
	b := setup(t, fakellm.Options{Limits: limits})
	b.Script("m", fakellm.Fault{Kind: "503"})
	for i, more := range []object{nil, {"stream": true}, nil, nil} {
		r := b.chat(t, ask(message(10), more))
		equal(t, "status", r.status, []int{503, 200, 200, 429}[i])
		equal(t, "limit", r.number(t, "X-Ratelimit-Limit-Requests"), 3)
		equal(t, "remaining", r.number(t, "X-Ratelimit-Remaining-Requests"), []int{2, 1, 0, 0}[i])
		equal(t, "limit of tokens", r.number(t, "X-Ratelimit-Limit-Tokens"), 1000)
		for _, name := range []string{"X-Ratelimit-Reset-Requests", "X-Ratelimit-Reset-Tokens"} {
			reset, err := time.ParseDuration(r.header.Get(name))
			if err != nil || reset <= 30*time.Second || reset > time.Minute || reset != reset.Truncate(time.Millisecond) {
				t.Errorf("%s: %q", name, r.header.Get(name))
			}
		}
	}
	b.SetLimits(fakellm.Limit{Requests: 4, Model: "m"})
	for header := range b.chat(t, ask("x", nil)).header {
		if strings.HasPrefix(header, "X-Ratelimit-") {
			t.Errorf("%s, of a limit without headers", header)
		}
	}
	equal(t, "a model without limits", b.chat(t, ask("x", object{"model": "free"})).header.Get("X-Ratelimit-Limit-Requests"), "10000")
}

func TestALimitThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	for name, l := range map[string]fakellm.Limit{
		"nothing":  {Model: "m", Headers: true},
		"negative": {Requests: 1, Tokens: -1},
		"window":   {Requests: 1, Window: -time.Second},
	} {
		if s, err := fakellm.Start(fakellm.Options{Limits: []fakellm.Limit{l}}); err == nil {
			t.Errorf("%s: Start takes %+v", name, l)
			_ = s.Close()
		}
		mustPanic(t, name, func() { b.SetLimits(l) })
	}
	mustPanic(t, "usage", func() { b.SetUsage("m", fakellm.Usage{Input: -1}) })
}
