package fakellm

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// These tests move the clock themselves: over HTTP nobody arrives at the very end of a window.

func TestALimitAgreesWithASearchOverAllThatWasLetIn(t *testing.T) {
	t.Parallel()
	const most, mostTokens, width = 5, 60, 40 * time.Nanosecond
	random := rand.New(rand.NewPCG(1, 2))
	l := newLimits([]Limit{{Requests: most, Tokens: mostTokens, Window: width}})
	var let []spend     // of requests
	var counted []spend // of tokens
	sum := func(all []spend, now time.Duration) (n int) {
		for _, s := range all {
			if s.at > now-width {
				n += s.n
			}
		}
		return n
	}
	fits := func(tokens int, now time.Duration) bool {
		return sum(let, now)+1 <= most && sum(counted, now)+tokens <= mostTokens
	}
	now, refused := time.Duration(0), 0
	for range 20_000 {
		now += time.Duration(random.IntN(12))
		tokens := 1 + random.IntN(40)
		gauges, reason := l.admit("m", tokens, now)
		if (reason == nil) != fits(tokens, now) {
			t.Fatalf("at %d, with %d requests and %d tokens in the window, %d more: %+v", now, sum(let, now), sum(counted, now), tokens, reason)
		}
		if reason == nil {
			answer := random.IntN(20)
			let = append(let, spend{now, 1})
			counted = append(counted, spend{now, tokens}, spend{now, answer})
			gauges[0].leave(answer, now)
			continue
		}
		refused++
		if fits(tokens, now+reason.wait-1) || !fits(tokens, now+reason.wait) {
			t.Fatalf("at %d: %d tokens are not let in first after %d", now, tokens, reason.wait)
		}
		let, counted = let[max(0, len(let)-100):], counted[max(0, len(counted)-100):]
	}
	if refused < 1000 || refused > 19_000 {
		t.Errorf("%d of 20000 were refused: the draw proves little", refused)
	}
	if held := cap(l[0].requests.spent) + cap(l[0].tokens.spent); held > 500 {
		t.Errorf("%d entries are held for a window of a few", held)
	}
}

func TestAWaitIsSaidInSecondsAndMillisecondsRoundedUp(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration][2]string{
		1:                             {"1", "1"},
		time.Millisecond:              {"1", "1"},
		time.Millisecond + 1:          {"1", "2"},
		time.Second:                   {"1", "1000"},
		time.Second + 1:               {"2", "1001"},
		59*time.Second + 999_999_999:  {"60", "60000"},
		90*time.Second + 1_000_000*25: {"91", "90025"},
		0:                             {"", ""},
		never:                         {"", ""},
	} {
		h := http.Header{}
		(&refusal{on: onRequests, wait: wait}).sayRetryAfter(h)
		if got := [2]string{h.Get("Retry-After"), h.Get("Retry-After-Ms")}; got != want {
			t.Errorf("%v: got %q, want %q", wait, got, want)
		}
	}
}

func TestTheTimelineForgetsTheOldestArrivals(t *testing.T) {
	t.Parallel()
	var line timeline
	even, odd, start := newTally(), newTally(), time.Now()
	for i := range maxArrivals + 11 {
		line.add(sighting{time.Duration(i), []*Tally{even, odd}[i%2]})
	}
	all := line.list(start, nil)
	if len(all) != maxArrivals || all[0] != start.Add(11) || all[len(all)-1] != start.Add(maxArrivals+10) {
		t.Errorf("%d are known, from %v to %v", len(all), all[0].Sub(start), all[len(all)-1].Sub(start))
	}
	if got := line.list(start, even); len(got) != maxArrivals/2 || got[0] != start.Add(12) {
		t.Errorf("%d of one model, from %v", len(got), got[0].Sub(start))
	}
}
