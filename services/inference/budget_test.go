package inference

import (
	"testing"
	"time"
)

func TestAtMostTheShareOfAModelsCallsAreRetries(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		calls int
		share float64
		want  int
	}{
		"few calls: the floor":              {4, 0.2, budgetFloor},
		"many: a fifth of all, retries too": {400, 0.2, 100},
		"none but the floor":                {400, 0, budgetFloor},
		"no budget":                         {10, 1, 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &budget{}
			for range c.calls {
				b.called(start)
			}
			granted := 0
			for range 500 {
				if !b.grant(start, c.share) {
					break
				}
				granted++
				b.called(start)
			}
			if granted != c.want {
				t.Errorf("%d retries were granted beside %d calls, want %d", granted, c.calls, c.want)
			}
			if c.share > 0 && c.share < 1 && granted > budgetFloor && float64(granted) > c.share*float64(granted+c.calls) {
				t.Errorf("%d of %d calls are retries", granted, granted+c.calls)
			}
		})
	}
}

func TestARetryBudgetForgetsAfterAMinute(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_800_000_000, 0)
	b := &budget{}
	for b.grant(start, 0.2) {
		b.called(start)
	}
	if b.grant(start.Add(59*time.Second), 0.2) {
		t.Error("the budget is spent, and a retry was granted within the minute")
	}
	if !b.grant(start.Add(61*time.Second), 0.2) {
		t.Error("a retry was refused after the minute")
	}
	if !b.grant(start.Add(time.Hour), 0.2) {
		t.Error("a retry was refused after an hour")
	}
}
