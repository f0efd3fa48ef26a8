package inference

import (
	"net/http"
	"testing"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/limit"
	"spillway/pkg/task"
)

// The forms are those of OpenAI's documentation, of Anthropic's, and of Azure, where -1 and 0 are unknown.
func TestWhatAProviderSaysOfItsLimitsIsReadInEachForm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header  map[string]string
		failed  *failure
		ignored bool
		want    limit.Said
	}{
		"OpenAI": {
			header: map[string]string{
				"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
				"x-ratelimit-limit-tokens": "150000", "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s",
			},
			want: limit.Said{RequestsLimit: 60, RequestsLeft: 59, TokensLimit: 150000, TokensLeft: 149984},
		},
		"Anthropic": {
			header: map[string]string{"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-tokens-limit": "40000", "anthropic-ratelimit-tokens-remaining": "39000"},
			want:   limit.Said{RequestsLimit: 50, RequestsLeft: 0, TokensLimit: 40000, TokensLeft: 39000},
		},
		"Azure does not know": {
			header: map[string]string{"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "-1", "x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "0"},
		},
		"a limit without a rest": {header: map[string]string{"x-ratelimit-limit-requests": "60"}, want: limit.Said{RequestsLimit: 60, RequestsLeft: 60}},
		"nonsense":               {header: map[string]string{"x-ratelimit-limit-requests": "many", "x-ratelimit-limit-tokens": "NaN"}},
		"not to be believed":     {header: map[string]string{"x-ratelimit-limit-requests": "60"}, ignored: true},
		"a wait is obeyed from everybody": {
			header: map[string]string{"x-ratelimit-limit-requests": "60", "retry-after": "2"}, ignored: true,
			failed: &failure{code: fate.ProviderRateLimited}, want: limit.Said{Wait: 2 * time.Second},
		},
		"a 429 that asks to wait": {
			header: map[string]string{"retry-after-ms": "1500"}, failed: &failure{code: fate.ProviderRateLimited},
			want: limit.Said{Wait: 1500 * time.Millisecond},
		},
		"a 503 that asks to wait holds nobody else": {header: map[string]string{"retry-after": "3"}, failed: &failure{code: fate.ProviderUnavailable}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			for k, v := range c.header {
				h.Set(k, v)
			}
			call := &call{header: h, provider: &provider{obeysLimits: !c.ignored, keys: &keys{}}}
			if got := call.said(c.failed); got != c.want {
				t.Errorf("said %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestTheUsualAnswerIsLearntByTaskAndModel(t *testing.T) {
	t.Parallel()
	u := &usual{}
	of := func(name, model string, most int) int {
		return u.answer(&call{job: &job.Job{Task: name}, model: &task.Model{Name: model}, task: &task.Task{Parameters: task.Parameters{MaxOutputTokens: most}}})
	}
	if got := of("a", "small", 300); got != 300 {
		t.Errorf("nothing is known, expected %d, want the most that the task lets it say", got)
	}
	if got := of("a", "small", 0); got != usualFirst {
		t.Errorf("nothing is known and nothing set, expected %d", got)
	}
	u.learn("a", "small", 100)
	if got := of("a", "small", 300); got < 100 || got > 101 {
		t.Errorf("after an answer of 100, expected %d", got)
	}
	for range 100 {
		u.learn("a", "small", 300)
	}
	if got := of("a", "small", 300); got < 295 || got > 301 {
		t.Errorf("after many answers of 300, expected %d", got)
	}
	if got := of("a", "large", 40); got != 40 {
		t.Errorf("another model learnt from it: %d", got)
	}
	u.learn("a", "large", 0)
	if got := of("a", "large", 40); got != 40 {
		t.Errorf("an unknown length was learnt: %d", got)
	}
}

func TestTheLaddersModelsKeepTheirTime(t *testing.T) {
	t.Parallel()
	rungs := []task.Rung{{Kind: task.RungCache}, {Kind: task.RungModel}, {Kind: task.RungModel}, {Kind: task.RungCanned}}
	now := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		deadline time.Duration
		rung     int
		ladder   []task.Rung
		want     time.Duration
	}{
		"no models on the ladder":   {60 * time.Second, 0, nil, 59 * time.Second},
		"two of them":               {60 * time.Second, 0, rungs, 39 * time.Second},
		"one of them was tried":     {60 * time.Second, 2, rungs, 49 * time.Second},
		"the last one":              {60 * time.Second, 3, rungs, 59 * time.Second},
		"little time: even shares":  {19 * time.Second, 0, rungs, 6 * time.Second},
		"a rung that is out of it":  {60 * time.Second, 9, rungs, 59 * time.Second},
		"a deadline that is passed": {-time.Second, 0, rungs, -time.Second + time.Second/4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call := &call{
				job:  &job.Job{AcknowledgedAt: now, Deadline: now.Add(c.deadline), Rung: c.rung},
				task: &task.Task{Ladder: c.ladder, Deadline: task.Deadline{Reserve: time.Second}},
			}
			if got := call.timeLeft(now); got != c.want {
				t.Errorf("%s are left, want %s", got, c.want)
			}
		})
	}
}
