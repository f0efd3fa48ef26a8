package limit

import (
	"testing"
	"time"

	"spillway/pkg/job"
)

// A provider counts the prompt when the call arrives and the answer when it ends, three times what was
// expected of it. A tenth of a window's calls are under way at any time.
func TestAnswersThreeTimesLongerThanReservedStayWithinTheLimit(t *testing.T) {
	b := setup(t)
	const limit, prompt, usual, answer = 400_000, 200, 300, 900
	window := short().window
	bounds := Bounds{TokensPerMinute: limit, BatchShare: 0.5}
	one, two := b.start("one", models(bounds)), b.start("two", models(bounds))
	seen := &provider{}
	call := func(p *Permit) {
		seen.arrive(prompt)
		b.after(500 * time.Millisecond)
		seen.arrive(answer)
		p.Done(Used{Sent: true, Tokens: prompt + answer})
	}
	ask := Ask{Model: "small", Lane: job.Interactive, Tokens: prompt + usual}
	began := time.Now()
	endOne, endTwo := b.flood(one, ask, 100, call), b.flood(two, ask, 100, call)
	b.after(window)
	two.kill()
	three := b.start("three", models(bounds))
	endThree := b.flood(three, ask, 100, call)
	now := b.after(2 * window)
	endOne()
	endThree()
	endTwo()

	if most := seen.most(window); most > limit {
		t.Errorf("a window saw %d tokens, the limit is %d\n%s", most, limit, b.dump("model.small"))
	}
	from := began.Add(window)
	used := float64(seen.between(from, now)) / (limit * float64(now.Sub(from)) / float64(window))
	if used < 0.95 {
		t.Errorf("%.1f %% of the limit were used\n%s", used*100, b.dump("model.small"))
	}
	t.Logf("most in a window %d of %d, used %.1f %%", seen.most(window), limit, used*100)
}

func TestAnswersShorterThanReservedLeaveTheRestToOthers(t *testing.T) {
	b := setup(t)
	const limit, reserved, used = 400_000, 1000, 250
	window := short().window
	one := b.start("one", models(Bounds{TokensPerMinute: limit}))
	seen := &provider{}
	began := time.Now()
	end := b.flood(one, Ask{Model: "small", Lane: job.Interactive, Tokens: reserved}, 40, func(p *Permit) {
		seen.arrive(used)
		b.after(20 * time.Millisecond)
		p.Done(Used{Sent: true, Tokens: used})
	})
	now := b.after(2 * window)
	end()
	part := float64(seen.between(began.Add(100*time.Millisecond), now)) / (limit * float64(now.Sub(began)-100*time.Millisecond) / float64(window))
	if most := seen.most(window); most > limit || part < 0.9 {
		t.Errorf("a window saw %d tokens of %d, %.1f %% were used", most, limit, part*100)
	}
	t.Logf("used %.1f %%", part*100)
}

func TestALargeCallPassesAmongManySmallOnes(t *testing.T) {
	b := setup(t)
	const limit = 100_000
	window := short().window
	bounds := Bounds{TokensPerMinute: limit, BatchShare: 0.5}
	one, two := b.start("one", models(bounds)), b.start("two", models(bounds))
	seen := &provider{}
	end := b.flood(one, Ask{Model: "small", Lane: job.Interactive, Tokens: 200}, 30, func(p *Permit) {
		seen.arrive(200)
		p.Done(Used{Sent: true})
	})
	b.after(window)
	for range 2 {
		p := b.take(two, Ask{Model: "small", Lane: job.Interactive, Tokens: limit / 10}, 2*window)
		seen.arrive(limit / 10)
		p.Done(Used{Sent: true})
	}
	end()
	if most := seen.most(window); most > limit {
		t.Errorf("a window saw %d tokens, the limit is %d", most, limit)
	}
}

func TestACallLargerThanTheLimitPassesWhenTheWindowIsEmpty(t *testing.T) {
	b := setup(t)
	window := short().window
	one := b.start("one", models(Bounds{TokensPerMinute: 1000}))
	b.take(one, Ask{Model: "small", Tokens: 10}, window).Done(Used{Sent: true})
	began := time.Now()
	b.take(one, Ask{Model: "small", Tokens: 1500}, 2*window).Done(Used{Sent: true})
	if waited := time.Since(began); waited < window-100*time.Millisecond {
		t.Errorf("it passed after %s, when the window was not empty", waited)
	}
	if busy := b.isBusy(one, Ask{Model: "small", Tokens: 10}, window/4); busy.Limit != "model small: tokens_per_minute 1000" || busy.Wait < window/2 {
		t.Errorf("after it: %v", busy)
	}
}
