package inference

import (
	"testing"
	"time"

	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// outcomes are the rows of the table of faults that a call decides. The number of calls is the provider's
// own count; code "" is an answer.
var outcomes = []struct {
	name               string
	fault              fakellm.Fault
	interactive, batch int
	code               fate.Code
}{
	{"a rate limit that names a wait within the deadline", fakellm.Fault{Kind: fakellm.KindRateLimited, RetryAfter: 20 * time.Millisecond, Form: fakellm.FormMillis}, 2, 5, fate.ProviderRateLimited},
	{"a rate limit without a wait", fakellm.Fault{Kind: fakellm.KindRateLimited}, 2, 5, fate.ProviderRateLimited},
	{"a rate limit that asks for more than the cap", fakellm.Fault{Kind: fakellm.KindRateLimited, RetryAfter: 6 * time.Second}, 1, 1, fate.ProviderRateLimited},
	{"a rate limit that asks for a date beyond the cap", fakellm.Fault{Kind: fakellm.KindRateLimited, RetryAfter: time.Hour, Form: fakellm.FormDate}, 1, 1, fate.ProviderRateLimited},
	{"a spent quota", fakellm.Fault{Kind: fakellm.KindQuota}, 1, 1, fate.ProviderQuota},
	{"a refused key", fakellm.Fault{Kind: fakellm.KindUnauthorized}, 1, 1, fate.ProviderAuth},
	{"a forbidden country", fakellm.Fault{Kind: fakellm.KindForbidden}, 1, 1, fate.ProviderAuth},
	{"an unknown model", fakellm.Fault{Kind: fakellm.KindModelNotFound}, 1, 1, fate.ProviderRefusedRequest},
	{"a bad request", fakellm.Fault{Kind: fakellm.KindBadRequest}, 1, 1, fate.ProviderRefusedRequest},
	{"a server error", fakellm.Fault{Kind: fakellm.KindServerError}, 2, 5, fate.ProviderUnavailable},
	{"a bad gateway with an HTML page", fakellm.Fault{Kind: fakellm.KindBadGateway}, 2, 5, fate.ProviderUnavailable},
	{"an unavailable service", fakellm.Fault{Kind: fakellm.KindUnavailable}, 2, 5, fate.ProviderUnavailable},
	{"an overloaded service", fakellm.Fault{Kind: fakellm.KindOverloaded}, 2, 5, fate.ProviderUnavailable},
	{"a connection that is reset", fakellm.Fault{Kind: fakellm.KindReset}, 2, 5, fate.ProviderUnreachable},
	{"a hang before any byte", fakellm.Fault{Kind: fakellm.KindHang}, 1, 2, fate.ProviderTimeout},
	{"a hang after the headers", fakellm.Fault{Kind: fakellm.KindHangHeaders}, 1, 2, fate.ProviderTimeout},
	{"a hang after the headers that sends comments", fakellm.Fault{Kind: fakellm.KindHangHeaders, Every: 20 * time.Millisecond}, 1, 2, fate.ProviderTimeout},
	{"silence after the first token", fakellm.Fault{Kind: fakellm.KindSilence}, 1, 2, fate.ProviderTimeout},
	{"silence that sends comments", fakellm.Fault{Kind: fakellm.KindSilence, Every: 20 * time.Millisecond}, 1, 2, fate.ProviderTimeout},
	{"a slow drip", fakellm.Fault{Kind: fakellm.KindDrip, Every: 100 * time.Millisecond}, 1, 2, fate.ProviderTimeout},
	{"a stream that is cut", fakellm.Fault{Kind: fakellm.KindCut}, 2, 5, fate.ProviderCut},
	{"a connection that is reset within the answer", fakellm.Fault{Kind: fakellm.KindReset, After: 2}, 2, 5, fate.ProviderCut},
	{"a stream without its end mark", fakellm.Fault{Kind: fakellm.KindNoDone}, 1, 1, ""},
	{"empty choices", fakellm.Fault{Kind: fakellm.KindEmptyChoices}, 2, 5, fate.ProviderEmpty},
	{"empty content", fakellm.Fault{Kind: fakellm.KindEmptyContent}, 2, 5, fate.ProviderEmpty},
	{"an error body with status 200", fakellm.Fault{Kind: fakellm.KindErrorBody}, 2, 5, fate.ProviderEmpty},
	{"an error within the stream", fakellm.Fault{Kind: fakellm.KindErrorChunk}, 2, 5, fate.ProviderEmpty},
	{"an HTML page with status 200", fakellm.Fault{Kind: fakellm.KindHTML}, 2, 5, fate.ProviderEmpty},
	{"one malformed chunk", fakellm.Fault{Kind: fakellm.KindMalformedChunk}, 1, 1, ""},
	{"many comments before the first token", fakellm.Fault{Kind: fakellm.KindComments, Count: 2000}, 1, 1, ""},
	{"finish reason length", fakellm.Fault{Kind: fakellm.KindLength}, 1, 1, ""},
	{"a refusal", fakellm.Fault{Kind: fakellm.KindRefusal}, 1, 1, ""},
	{"finish reason content_filter", fakellm.Fault{Kind: fakellm.KindContentFilter}, 1, 1, ""},
	{"a prompt that the content filter refuses", fakellm.Fault{Kind: fakellm.KindPromptFiltered}, 1, 1, fate.Refused},
	{"a context that is too long", fakellm.Fault{Kind: fakellm.KindContextLength}, 1, 1, fate.ContextTooLong},
	{"an answer over 1 MB", fakellm.Fault{Kind: fakellm.KindHuge}, 1, 1, fate.OutputTooLarge},
	{"no fault", fakellm.Fault{Kind: fakellm.KindOK}, 1, 1, ""},
}

func TestEachFaultOfAStreamingProviderEndsAsTheTableSays(t *testing.T) {
	t.Parallel()
	eachOutcome(t, true)
}

// A plain call has only the connect and call timeouts, and what a stream shows within it comes as one body.
func TestEachFaultOfAPlainProviderEndsAsTheTableSays(t *testing.T) {
	t.Parallel()
	eachOutcome(t, false)
}

func eachOutcome(t *testing.T, streamed bool) {
	for _, o := range outcomes {
		for lane, want := range map[string]int{job.Interactive: o.interactive, job.Batch: o.batch} {
			t.Run(o.name+" on the lane "+lane, func(t *testing.T) {
				t.Parallel()
				provider := fake(t, fakellm.Options{Faults: []fakellm.Fault{o.fault}, Keys: []string{secret}})
				b := setup(t, provider.URL())
				b.model.Stream = streamed
				switch {
				case o.code != fate.ProviderTimeout: // a slow machine must not make a timeout of another fault
					b.model.Timeouts = task.Timeouts{Connect: 20 * time.Second, FirstToken: 20 * time.Second, Silence: 20 * time.Second, Call: 20 * time.Second}
				case streamed:
					b.pace = pace{grace: 300 * time.Millisecond, rate: 20}
				default:
					b.model.Timeouts.Call = 300 * time.Millisecond
				}
				j := newJob(lane)
				_, err := b.toTheEnd(t, j)
				checkOutcome(t, j, err, o.code, want)
				if got := provider.Counts().Calls; got != want {
					t.Errorf("the provider counted %d calls, want %d", got, want)
				}
			})
		}
	}
}

// checkOutcome compares what the job says with what must have happened.
func checkOutcome(t *testing.T, j *job.Job, err error, code fate.Code, want int) {
	t.Helper()
	events := calls(j)
	if len(events) != want || j.Calls != want || j.Usage.Calls != want {
		t.Errorf("the job has %d call events, %d calls, usage of %d, want %d", len(events), j.Calls, j.Usage.Calls, want)
	}
	outcome := outcomeOK
	if code != "" {
		outcome = string(code)
		wantFate(t, err, fate.Divert, code)
		if j.Attempts != want {
			t.Errorf("%d attempts, want %d", j.Attempts, want)
		}
	} else if err != nil || j.Answer == nil || j.Attempts != 0 {
		t.Errorf("error %v, answer %v, %d attempts; want an answer", err, j.Answer, j.Attempts)
	}
	for i, e := range events {
		if e.Outcome != outcome || e.N != i+1 || e.Model != "small" || e.At.IsZero() {
			t.Errorf("event %+v, want number %d with outcome %s", e, i+1, outcome)
		}
	}
}

func TestAConnectionThatIsRefusedIsTriedAsOftenAsTheLaneAllows(t *testing.T) {
	t.Parallel()
	gone := fake(t, fakellm.Options{})
	url := gone.URL()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{url, "http://no-such-host.invalid/v1", "https" + url[len("http"):]} {
		for lane, want := range map[string]int{job.Interactive: 2, job.Batch: 5} {
			t.Run(url+" on the lane "+lane, func(t *testing.T) {
				t.Parallel()
				j := newJob(lane)
				b := setup(t, url)
				b.providers["main"].transport.Proxy = nil // which would resolve the name itself
				_, err := b.toTheEnd(t, j)
				checkOutcome(t, j, err, fate.ProviderUnreachable, want)
			})
		}
	}
}

func TestAServerThatDoesNotSpeakTLSIsUnreachable(t *testing.T) {
	t.Parallel()
	url := fake(t, fakellm.Options{}).URL()
	j := newJob(job.Interactive)
	_, err := setup(t, "https"+url[len("http"):]).toTheEnd(t, j)
	checkOutcome(t, j, err, fate.ProviderUnreachable, 2)
}

func TestATaskMayLowerTheTimeoutsOfItsModel(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindHang}}})
	b := setup(t, provider.URL())
	b.model.Timeouts.FirstToken = time.Hour
	b.model.Timeouts.Call = time.Hour
	b.task.Timeouts.FirstToken = 50 * time.Millisecond
	started := time.Now()
	_, err := b.toTheEnd(t, newJob(job.Interactive))
	wantFate(t, err, fate.Divert, fate.ProviderTimeout)
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("a timeout of 50 ms took %s", took)
	}
}

func TestACallThatIsNotOverWhenTheDeadlineLessItsReserveComesEndsThen(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindHang}}})
	b := setup(t, provider.URL())
	b.model.Timeouts.FirstToken, b.model.Timeouts.Call = time.Hour, time.Hour
	b.task.Deadline.Reserve = 10 * time.Second
	j := newJob(job.Batch)
	j.Deadline = time.Now().Add(10*time.Second + 700*time.Millisecond)
	_, err := b.toTheEnd(t, j)
	wantFate(t, err, fate.Divert, fate.Deadline)
	if left := time.Until(j.Deadline); left < 9*time.Second || left > 10*time.Second {
		t.Errorf("%s are left to the ladder, want its reserve of 10 s", left)
	}
}

func TestNoCallIsStartedWithoutCallsOrTimeLeft(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{})
	b := setup(t, provider.URL())
	spent := newJob(job.Batch)
	spent.Calls = b.task.Retry.MaxCalls
	wantFate(t, b.Handle(t.Context(), spent), fate.Divert, fate.CallsSpent)
	late := newJob(job.Batch)
	late.Deadline = time.Now().Add(b.task.Deadline.Reserve + leastTime - time.Millisecond)
	wantFate(t, b.Handle(t.Context(), late), fate.Divert, fate.Deadline)
	if n := provider.Counts().Calls; n != 0 || len(spent.History)+len(late.History) != 0 {
		t.Errorf("%d calls were made", n)
	}
}

func TestACallIsNotRepeatedWhenTheJobsCallsAreSpent(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindServerError}}})
	j := newJob(job.Batch)
	j.Calls = 4
	_, err := setup(t, provider.URL()).toTheEnd(t, j)
	wantFate(t, err, fate.Divert, fate.ProviderUnavailable)
	if n := provider.Counts().Calls; n != 2 {
		t.Errorf("%d calls, want the 2 that are left of 6", n)
	}
}

func TestAnUnknownTaskGoesToFallback(t *testing.T) {
	t.Parallel()
	b := setup(t, "http://127.0.0.1:9/v1")
	j := newJob(job.Batch)
	j.Task = "no-such"
	wantFate(t, b.Handle(t.Context(), j), fate.Divert, fate.Internal)
}

// In a rolling deployment the model of a job may be known to another process only.
func TestAJobOfAnUnknownModelIsLeftToOthersForAWhile(t *testing.T) {
	t.Parallel()
	for what, row := range map[string]struct {
		model func(*stage.Env)
		code  fate.Code
	}{
		"no such model":    {func(*stage.Env) {}, fate.ProviderRefusedRequest},
		"no such provider": {addForeignModel, fate.ProviderAuth},
	} {
		b := setup(t, "http://127.0.0.1:9/v1", row.model)
		j := newJob(job.Batch)
		j.Model = "foreign"
		var waited time.Duration
		for {
			f := fate.Of(b.Handle(t.Context(), j))
			if !f.Waits() {
				wantFate(t, f, fate.Divert, row.code)
				break
			}
			if waited += f.After; waited > time.Minute {
				t.Fatalf("%s: it waits for ever", what)
			}
			// What the runner notes of a job that waits.
			if n := len(j.History); n > 0 && j.History[n-1].Fate == "retry" {
				j.History[n-1].N = max(j.History[n-1].N, 1) + 1
			} else {
				j.Record(job.Event{Kind: job.KindHop, Stage: "inference", Fate: "retry", Detail: f.Message})
			}
		}
		if waited < 2*time.Second || waited > 15*time.Second {
			t.Errorf("%s: it waits for %s", what, waited)
		}
	}
}

func addForeignModel(env *stage.Env) {
	foreign := *env.Tasks.Models["small"]
	foreign.Name, foreign.Provider = "foreign", "theirs"
	env.Tasks.Models["foreign"] = &foreign
}

func TestAModelWhoseProviderIsNotConfiguredGoesToFallback(t *testing.T) {
	t.Parallel()
	b := setup(t, "http://127.0.0.1:9/v1", addUnusedModel)
	j := newJob(job.Batch)
	j.Model = "unused"
	f := wantFate(t, b.Handle(t.Context(), j), fate.Divert, fate.ProviderAuth)
	if f.Cause == nil {
		t.Error("the cause is missing")
	}
}

func addUnusedModel(env *stage.Env) {
	unused := *env.Tasks.Models["small"]
	unused.Name, unused.Provider = "unused", "keyless"
	env.Tasks.Models["unused"] = &unused
	keyless := *env.Tasks.Providers["main"]
	keyless.Name, keyless.APIKeyEnv = "keyless", "NOT_SET"
	env.Tasks.Providers["keyless"] = &keyless
}
