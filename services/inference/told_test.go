package inference

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/limit"
	"spillway/pkg/task"
)

// retriesOf handles failing jobs until one is not retried for want of a budget, and returns how many were
// and all calls that the provider counted.
func retriesOf(t *testing.T, p *fakellm.Server, b *bundle) (retries, calls int) {
	t.Helper()
	for range 200 {
		waits, err := b.toTheEnd(t, newJob(job.Interactive))
		wantFate(t, err, fate.Divert, fate.ProviderUnavailable)
		retries += len(waits)
		if len(waits) == 0 {
			return retries, p.Counts().Calls
		}
	}
	t.Fatalf("%d retries, and none was refused", retries)
	return 0, 0
}

func TestTheRetriesOfAModelAreAShareOfItsCalls(t *testing.T) {
	t.Parallel()
	const share, healthy = 0.2, 100
	p := fake(t, fakellm.Options{})
	b := setup(t, p.URL())
	b.model.RetryShare = share
	for range healthy {
		if err := b.Handle(t.Context(), newJob(job.Interactive)); err != nil {
			t.Fatal(err)
		}
	}
	p.SetFaults(fakellm.Fault{Kind: fakellm.KindServerError})
	retries, calls := retriesOf(t, p, b)
	if most := share * float64(calls); float64(retries) > most || float64(retries) < most-2 {
		t.Errorf("%d of %d calls were retries, want %.0f", retries, calls, most)
	}
}

func TestAModelThatIsLittleCalledMayRetryAFewTimes(t *testing.T) {
	t.Parallel()
	p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindServerError}}})
	b := setup(t, p.URL())
	b.model.RetryShare = 0.2
	if retries, _ := retriesOf(t, p, b); retries != budgetFloor {
		t.Errorf("%d retries, want %d", retries, budgetFloor)
	}
}

func TestWhatAnAnswerTookCountsAgainstTheLimitAndIsExpectedOfTheNext(t *testing.T) {
	t.Parallel()
	const prompt, answer = 100, 5900
	p := fake(t, fakellm.Options{})
	p.SetUsage("model-1", fakellm.Usage{Input: prompt, Output: answer})
	b := shared(t, p.URL(), limit.Bounds{TokensPerMinute: 6000, BatchShare: 0.5})
	b.task.Parameters.MaxOutputTokens = 20
	j := parkedJob()
	next := func() limit.Ask { return b.ask(&call{job: j, model: b.model, task: b.task}) }
	if got, want := next().Tokens, j.PromptTokens+20; got != want {
		t.Errorf("%d tokens are asked for first, want the prompt's %d and the most of an answer", got, want)
	}
	if err := b.Handle(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if got := next().Tokens; got < j.PromptTokens+answer || got > j.PromptTokens+answer+1 {
		t.Errorf("%d tokens are asked for after an answer of %d", got, answer)
	}
	// A minute's tokens are used: what is ten seconds' worth less is not here soon.
	_, err := b.limits.Take(t.Context(), ofGreet(), 2*time.Second)
	if busy, ok := errors.AsType[*limit.BusyError](err); !ok || busy.Wait < 20*time.Second {
		t.Errorf("after a minute's tokens the next call hears %v", err)
	}
}

func TestAWaitThatAProviderAsksForIsKeptByAll(t *testing.T) {
	t.Parallel()
	p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindRateLimited, RetryAfter: 30 * time.Second}}})
	b := shared(t, p.URL(), limit.Bounds{Concurrency: 100, BatchShare: 0.5})
	wantFate(t, b.Handle(t.Context(), parkedJob()), fate.Divert, fate.ProviderRateLimited)
	_, err := b.limits.Take(t.Context(), ofGreet(), time.Second)
	if busy, ok := errors.AsType[*limit.BusyError](err); !ok || busy.Wait < 20*time.Second {
		t.Errorf("after a 429 the next call hears %v", err)
	}
}

func TestCallsThatWereEndedOnThisSideHaveNoVote(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"drained", "cancelled"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			const ended = 10 // twice what opens the breaker
			p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindHang}}})
			b := shared(t, p.URL(), limit.Bounds{})
			b.model.Timeouts.FirstToken, b.model.Timeouts.Call = 30*time.Second, 30*time.Second
			clients := newStored()
			b.cancels = clients
			jobs := make([]*job.Job, ended)
			ctx, drain := context.WithCancel(t.Context())
			defer drain()
			results := make(chan error, ended)
			for n := range jobs {
				jobs[n] = newJob(job.Interactive)
				jobs[n].ID = fmt.Sprintf("job-%d", n)
				go func() { results <- b.Handle(ctx, jobs[n]) }()
			}
			if err := p.Await(t.Context(), func(c fakellm.Counts) bool { return c.InFlight == ended }); err != nil {
				t.Fatal(err)
			}
			if how == "drained" {
				drain()
			}
			for _, j := range jobs {
				if how == "cancelled" {
					clients.cancel(j.ID)
				}
				if err := <-results; err == nil {
					t.Error("a call that was given up succeeded")
				}
			}
			b.isClosed(t)
		})
	}
}

func TestACallThatOpensTheBreakerIsNotRetriedButLeavesOrWaits(t *testing.T) {
	t.Parallel()
	for wait, want := range map[string]fate.Fate{task.OutageDegrade: fate.Divert, task.OutageWait: fate.Park} {
		t.Run(wait, func(t *testing.T) {
			t.Parallel()
			p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindServerError}}})
			b := shared(t, p.URL(), limit.Bounds{})
			b.task.OnOutage.Batch = wait
			for range 4 {
				wantFate(t, b.Handle(t.Context(), newJob(job.Batch)), fate.Retry, fate.ProviderUnavailable)
			}
			f := wantFate(t, b.Handle(t.Context(), newJob(job.Batch)), want, fate.ProviderUnavailable)
			if f.AsItCame {
				t.Error("a job that was called is handed back as it came")
			}
			if look := b.breakers.Look("small"); look.Open == nil || look.Open.State != breaker.Open {
				t.Errorf("the breaker after five failures: %+v", look)
			}
			if n := p.Counts().Calls; n != 5 {
				t.Errorf("%d calls", n)
			}
		})
	}
}
