package contextbuilder

import (
	"fmt"
	"strings"
	"testing"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// A prompt's thousand tokens cost a cent, an answer's two.
func priced(t *testing.T, budget float64, most int) *Handler {
	t.Helper()
	manifest := fmt.Sprintf("model: small\nbudget: {usd_per_request: %g}\n", budget)
	if most > 0 {
		manifest += fmt.Sprintf("parameters: {max_output_tokens: %d}\n", most)
	}
	set := load(t, manifest, map[string]string{"prompt.tmpl": onlyInput})
	set.Models["small"].Prices.Input, set.Models["small"].Prices.Output = 10, 20
	return handlerOf(t, set)
}

func TestAPromptThatTheBudgetDoesNotBuyIsDiverted(t *testing.T) {
	t.Parallel()
	const n = 200
	prompt := float64(framed(n)) * 10 / 1e6
	for _, row := range []struct {
		name          string
		budget, spent float64
		most          int
		limit         int // 0: diverted
	}{
		{"prompt and answer, to the token", prompt + 100*20/1e6, 0, 100, 100},
		{"a token less", prompt + 99*20/1e6, 0, 100, 0},
		{"a token less, of a task that does not say", prompt + 99*20/1e6, 0, 0, 99},
		{"after other calls", prompt + 99*20/1e6, 50 * 20 / 1e6, 0, 49},
		{"one token of an answer", prompt + 20.0/1e6, 0, 0, 1},
		{"the prompt alone", prompt, 0, 0, 0},
		{"much", 1, 0, 0, 400},
	} {
		j := admitted(t, message(words(n)))
		j.CostUSD = row.spent
		err := handle(t, priced(t, row.budget, row.most), j)
		if row.limit > 0 {
			if err != nil || j.MaxOutputTokens != row.limit {
				t.Errorf("%s: %v, %d tokens for the answer, want %d", row.name, err, j.MaxOutputTokens, row.limit)
			}
			continue
		}
		if err == nil || err.Fate != fate.Divert || err.Code != fate.OverBudget || !strings.Contains(err.Message, "small") || !j.Prompt.IsZero() {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestOnTheLadderThePriceIsThatOfTheRung(t *testing.T) {
	t.Parallel()
	j := admitted(t, message(words(200)))
	j.Model, j.Trouble = "abroad", &job.Trouble{Stage: broker.Inference, Code: fate.OverBudget}
	if err := handle(t, priced(t, 0.0001, 0), j); err != nil || j.MaxOutputTokens != 100 { // it costs nothing
		t.Errorf("%v, %d", err, j.MaxOutputTokens)
	}
}
