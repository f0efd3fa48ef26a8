package inference

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// The values of Retry-After are the examples of RFC 9110: section 10.2.3 for the field, 5.6.7 for the three
// forms of a date. Those of the other headers are as OpenAI, Azure and OpenRouter document or send them.
func TestTheWaitThatAProviderAsksForIsReadInEveryFormInUse(t *testing.T) {
	t.Parallel()
	in1999 := time.Date(1999, 12, 31, 23, 57, 59, 0, time.UTC)
	in1994 := time.Date(1994, 11, 6, 8, 49, 7, 0, time.UTC)
	tests := []struct {
		name    string
		headers map[string]string
		now     time.Time
		want    time.Duration
		said    bool
	}{
		{"delay-seconds", map[string]string{"Retry-After": "120"}, in1999, 120 * time.Second, true},
		{"a date", map[string]string{"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, in1999, 2 * time.Minute, true},
		{"an IMF-fixdate", map[string]string{"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, in1994, 30 * time.Second, true},
		{"an RFC 850 date", map[string]string{"Retry-After": "Sunday, 06-Nov-94 08:49:37 GMT"}, in1994, 30 * time.Second, true},
		{"an asctime date", map[string]string{"Retry-After": "Sun Nov  6 08:49:37 1994"}, in1994, 30 * time.Second, true},
		{"a date on the provider's clock, which is not ours", map[string]string{"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:59:49 GMT"}, in1994, 10 * time.Second, true},
		{"a date that is over", map[string]string{"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, in1999, 0, false},
		{"fractions of a second", map[string]string{"Retry-After": "0.5"}, in1999, 500 * time.Millisecond, true},
		{"white space", map[string]string{"Retry-After": " 7 "}, in1999, 7 * time.Second, true},
		{"zero", map[string]string{"Retry-After": "0"}, in1999, 0, false},
		{"a negative number", map[string]string{"Retry-After": "-1"}, in1999, 0, false},
		{"no number and no date", map[string]string{"Retry-After": "soon"}, in1999, 0, false},
		{"not a number", map[string]string{"Retry-After": "NaN"}, in1999, 0, false},
		{"more than time can hold", map[string]string{"Retry-After": "99999999999999999999"}, in1999, maxWait, true},
		{"milliseconds, which are preferred", map[string]string{"Retry-After-Ms": "1500", "Retry-After": "2"}, in1999, 1500 * time.Millisecond, true},
		{"no milliseconds, but seconds", map[string]string{"Retry-After-Ms": "0", "Retry-After": "2"}, in1999, 2 * time.Second, true},
		{"fractions of a millisecond", map[string]string{"Retry-After-Ms": "0.4"}, in1999, 400 * time.Microsecond, true},
		{"a reset of tokens as a duration", map[string]string{"X-Ratelimit-Reset-Tokens": "6m0s"}, in1999, 6 * time.Minute, true},
		{"a reset in milliseconds", map[string]string{"X-Ratelimit-Reset-Requests": "20ms"}, in1999, 20 * time.Millisecond, true},
		{"the later of two resets", map[string]string{"X-Ratelimit-Reset-Requests": "1s", "X-Ratelimit-Reset-Tokens": "6s"}, in1999, 6 * time.Second, true},
		{"a reset of requests of which some remain", map[string]string{"X-Ratelimit-Reset-Requests": "9s", "X-Ratelimit-Remaining-Requests": "59", "X-Ratelimit-Reset-Tokens": "2s"}, in1999, 2 * time.Second, true},
		{"a reset in seconds, as Azure sends it", map[string]string{"X-Ratelimit-Reset-Tokens": "37"}, in1999, 37 * time.Second, true},
		{"a reset that is unknown, as Azure says it", map[string]string{"X-Ratelimit-Reset-Tokens": "-1"}, in1999, 0, false},
		{"a reset as unix time", map[string]string{"X-Ratelimit-Reset": "1700000030"}, time.Unix(1700000000, 0), 30 * time.Second, true},
		{"a reset as unix time in milliseconds", map[string]string{"X-Ratelimit-Reset": "1700000030500"}, time.Unix(1700000000, 0), 30500 * time.Millisecond, true},
		{"Retry-After before a reset", map[string]string{"X-Ratelimit-Reset-Tokens": "6m0s", "Retry-After": "3"}, in1999, 3 * time.Second, true},
		{"nothing", nil, in1999, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := &call{header: http.Header{}, provider: &provider{obeysLimits: true}}
			for name, value := range tt.headers {
				c.header.Set(name, value)
			}
			got, said := c.asked(fate.ProviderRateLimited, tt.now)
			if got != tt.want && said || said != tt.said {
				t.Errorf("got %s, %v; want %s, %v", got, said, tt.want, tt.said)
			}
		})
	}
}

func TestRateLimitHeadersCountOnlyOnARateLimitOfAProviderThatIsBelieved(t *testing.T) {
	t.Parallel()
	h := http.Header{"X-Ratelimit-Reset-Tokens": {"6m0s"}}
	believed := &call{header: h, provider: &provider{obeysLimits: true}}
	if _, said := believed.asked(fate.ProviderUnavailable, time.Now()); said {
		t.Error("a server error is no rate limit")
	}
	ignored := &call{header: h, provider: &provider{}}
	if _, said := ignored.asked(fate.ProviderRateLimited, time.Now()); said {
		t.Error("models.yaml says that these headers are to be ignored")
	}
	h.Set("Retry-After", "1")
	if _, said := ignored.asked(fate.ProviderUnavailable, time.Now()); !said {
		t.Error("Retry-After is obeyed from everybody")
	}
}

func TestRetryAfterIsHonouredExactlyOrALittleAboveNeverBelow(t *testing.T) {
	t.Parallel()
	for _, form := range []string{fakellm.FormSeconds, fakellm.FormMillis} {
		for _, draw := range []float64{0, 0.5, 0.999999} {
			provider := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindRateLimited, RetryAfter: 1500 * time.Millisecond, Form: form}}})
			b := setup(t, provider.URL())
			b.random = func() float64 { return draw }
			f := wantFate(t, b.Handle(t.Context(), newJob(job.Batch)), fate.Retry, fate.ProviderRateLimited)
			if f.After < 1500*time.Millisecond || f.After > 1650*time.Millisecond {
				t.Errorf("%s: asked for 1.5 s, the wait is %s", form, f.After)
			}
		}
	}
}

func TestAWaitThatTheDeadlineDoesNotLeaveRoomForEndsTheTries(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindRateLimited, RetryAfter: 3 * time.Second}}})
	b := setup(t, provider.URL())
	tests := []struct {
		left time.Duration
		want fate.Fate
	}{
		{3*time.Second + leastTime + b.task.Deadline.Reserve - 100*time.Millisecond, fate.Divert},
		{3*time.Second + leastTime + b.task.Deadline.Reserve + 5*time.Second, fate.Retry},
	}
	for _, tt := range tests {
		j := newJob(job.Batch)
		j.Deadline = time.Now().Add(tt.left)
		wantFate(t, b.Handle(t.Context(), j), tt.want, fate.ProviderRateLimited)
	}
}

func TestABackoffThatTheDeadlineDoesNotLeaveRoomForEndsTheTries(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindServerError}}})
	b := setup(t, provider.URL())
	b.task.Retry.FirstDelay, b.task.Retry.MaxDelay = 30*time.Second, 30*time.Second
	j := newJob(job.Batch)
	j.Deadline = time.Now().Add(20 * time.Second)
	wantFate(t, b.Handle(t.Context(), j), fate.Divert, fate.ProviderUnavailable)
}

func TestTheBackoffGrowsByItsFactorUpToItsMaximumAndIsSpread(t *testing.T) {
	t.Parallel()
	policy := &task.Retry{FirstDelay: 3 * time.Second, Factor: 2, MaxDelay: 30 * time.Second, Jitter: 0.2, InteractiveFirstDelay: 500 * time.Millisecond}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	tests := []struct {
		lane string
		n    int
		draw float64
		want time.Duration
	}{
		{job.Batch, 1, 0.5, seconds(3)},
		{job.Batch, 2, 0.5, seconds(6)},
		{job.Batch, 3, 0.5, seconds(12)},
		{job.Batch, 4, 0.5, seconds(24)},
		{job.Batch, 5, 0.5, seconds(30)},
		{job.Batch, 5000, 0.5, seconds(30)},
		{job.Batch, 1, 0, seconds(2.4)},
		{job.Batch, 1, 1, seconds(3.6)},
		{job.Interactive, 1, 0.5, seconds(0.5)},
		{job.Interactive, 2, 0.5, seconds(1)},
	}
	for _, tt := range tests {
		h := &Handler{random: func() float64 { return tt.draw }}
		if got := h.backoff(policy, tt.n, tt.lane); (got - tt.want).Abs() > time.Millisecond {
			t.Errorf("lane %s, failure %d, draw %v: %s, want %s", tt.lane, tt.n, tt.draw, got, tt.want)
		}
	}
}

func TestTheWaitsOfAJobGrow(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindUnavailable}}})
	b := setup(t, provider.URL())
	b.random = func() float64 { return 0.5 }
	waits, _ := b.toTheEnd(t, newJob(job.Batch))
	const ms = time.Millisecond
	want := []time.Duration{30 * ms, 60 * ms, 120 * ms, 240 * ms}
	if len(waits) != len(want) {
		t.Fatalf("%d waits, want %d", len(waits), len(want))
	}
	for i := range waits {
		if waits[i] != want[i] {
			t.Errorf("wait %d is %s, want %s", i+1, waits[i], want[i])
		}
	}
}

func TestAnAnswerEndsTheRowOfFailures(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{})
	provider.Script("", fakellm.Fault{Kind: fakellm.KindServerError}, fakellm.Fault{Kind: fakellm.KindCut}, fakellm.Fault{Kind: fakellm.KindOK})
	j := newJob(job.Batch)
	_, err := setup(t, provider.URL()).toTheEnd(t, j)
	if err != nil || j.Answer == nil || j.Attempts != 0 || j.Calls != 3 {
		t.Fatalf("error %v, answer %v, %d attempts, %d calls", err, j.Answer, j.Attempts, j.Calls)
	}
	var got []string
	for _, e := range calls(j) {
		got = append(got, e.Outcome)
	}
	if want := []string{string(fate.ProviderUnavailable), string(fate.ProviderCut), outcomeOK}; !equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
}

func equal(a, b []string) bool {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

// The headers come from the network: whatever they hold, the wait is neither negative nor beyond its bound.
func FuzzWaitsAreNeverNegativeNorEndless(f *testing.F) {
	for _, seed := range []string{"120", "Fri, 31 Dec 1999 23:59:59 GMT", "6m0s", "-1", "1e309", "0x1p-2", "1700000030500", "2562047h47m16.854775807s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, name := range []string{"Retry-After", "Retry-After-Ms", "X-Ratelimit-Reset-Tokens"} {
			c := &call{header: http.Header{}, provider: &provider{obeysLimits: true}}
			c.header[http.CanonicalHeaderKey(name)] = []string{value}
			if wait, said := c.asked(fate.ProviderRateLimited, time.Now()); said && (wait <= 0 || wait > maxWait) {
				t.Errorf("%s: %q is a wait of %s", name, value, wait)
			}
		}
	})
}

func TestTheErrorOfAFailedCallKeepsItsCause(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("data: " + delta("half") + "\n\n"))
	})
	f := wantFate(t, setup(t, url).Handle(t.Context(), newJob(job.Batch)), fate.Retry, fate.ProviderCut)
	if f.Cause == nil || !errors.Is(f, f.Cause) {
		t.Errorf("cause %v", f.Cause)
	}
}

func TestAProviderThatSaysNotToRetryIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	for says, want := range map[string]fate.Fate{"false": fate.Divert, "true": fate.Retry, "": fate.Retry} {
		p := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindServerError, Header: map[string]string{"x-should-retry": says}}}})
		var f *fate.Error
		if err := setup(t, p.URL()).Handle(t.Context(), newJob(job.Batch)); !errors.As(err, &f) || f.Fate != want {
			t.Errorf("x-should-retry %q: %v, want %s", says, err, want)
		}
	}
}
