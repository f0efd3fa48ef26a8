package inference

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// limits answers with f, and keeps the limit of the answer that each call asked for.
func limits(f http.HandlerFunc, asked *[]int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Most int `json:"max_completion_tokens"`
		}
		if json.NewDecoder(r.Body).Decode(&body) == nil {
			*asked = append(*asked, body.Most)
		}
		f(w, r)
	}
}

// The prompt has 12 tokens at $1 a million, an answer's cost $10 a million.
func TestACallThatTheBudgetDoesNotBuyIsNotMade(t *testing.T) {
	t.Parallel()
	const million = 1e6
	for _, row := range []struct {
		name          string
		budget, spent float64
		taskLimit     int
		correction    string
		limit         int // 0: no call
	}{
		{"to the last token", (12 + 100*10) / million, 0, 100, "", 100},
		{"a token too much", (12 + 99*10) / million, 0, 100, "", 0},
		{"a token too much, of a task without a limit", (12 + 99*10) / million, 0, 0, "", 99},
		{"after a call", (12 + 100*10) / million, 500 / million, 0, "", 50},
		{"after a call, of a task with a limit", (12 + 100*10) / million, 1 / million, 100, "", 0},
		{"a correction", (12 + 2 + 30*10) / million, 0, 0, "12345678", 30},
		{"a correction, of a task with a limit", (12 + 100*10) / million, 0, 100, "12345678", 0},
		{"spent", 100 / million, 100 / million, 0, "", 0},
		{"no budget", 0, 1000, 0, "", 100},
	} {
		var asked []int
		b := setup(t, serve(t, limits(stream(delta("hello"), stop, done), &asked)))
		b.task.Budget.USDPerRequest, b.task.Parameters.MaxOutputTokens = row.budget, row.taskLimit
		j := newJob(job.Batch)
		j.MaxOutputTokens, j.CostUSD = 100, row.spent
		if row.correction != "" {
			j.Correction = []job.Message{{Role: "user", Content: row.correction}}
		}
		err := b.Handle(t.Context(), j)
		if row.limit > 0 {
			if err != nil || len(asked) != 1 || asked[0] != row.limit {
				t.Errorf("%s: %v, asked for %v, want %d", row.name, err, asked, row.limit)
			}
			continue
		}
		f := wantFate(t, err, fate.Divert, fate.OverBudget)
		if len(asked) != 0 || j.Calls != 0 || !strings.Contains(f.Message, "small") {
			t.Errorf("%s: %d calls, %q", row.name, len(asked), f.Message)
		}
	}
}

func TestARetryThatTheBudgetDoesNotBuyIsNotMade(t *testing.T) {
	t.Parallel()
	var asked []int
	b := setup(t, serve(t, limits(stream(delta("12345678")), &asked))) // it is cut after two tokens: 32 millionths
	b.task.Budget.USDPerRequest, b.task.Parameters.MaxOutputTokens = 150.0/1e6, 10
	j := newJob(job.Batch)
	_, err := b.toTheEnd(t, j)
	wantFate(t, err, fate.Divert, fate.OverBudget)
	if len(asked) != 2 || j.CostUSD != 64.0/1e6 {
		t.Errorf("%d calls for %v", len(asked), j.CostUSD)
	}
}
