package task_test

import (
	"testing"

	"spillway/pkg/task"
)

func TestAnAnswerIsLimitedToWhatTheMoneyBuys(t *testing.T) {
	t.Parallel()
	// A thousand tokens in cost a cent, a thousand out two.
	m := &task.Model{Prices: task.Prices{Input: 10, Output: 20}}
	for _, row := range []struct {
		name           string
		budget, spent  float64
		prompt, output int
		limited        bool
		limit          int
		affords        bool
	}{
		{"no budget", 0, 5, 1000, 1000, false, 1000, true},
		{"all of it", 0.03, 0, 1000, 1000, true, 1000, true},
		{"one token over", 0.03, 0, 1000, 1001, true, 1001, false},
		{"one token over, of a task that says nothing", 0.03, 0, 1000, 1001, false, 1000, true},
		{"after a call that cost a cent", 0.03, 0.01, 1000, 1000, false, 500, true},
		{"after a call that cost a cent, of a task that says its limit", 0.03, 0.01, 1000, 1000, true, 1000, false},
		{"one token is left", 0.01002, 0, 1000, 400, false, 1, true},
		{"less than one is left", 0.010019, 0, 1000, 400, false, 400, false},
		{"the prompt alone is too dear", 0.0099, 0, 1000, 1, false, 1, false},
		{"spent", 0.03, 0.03, 1, 1, false, 1, false},
		{"no limit is known", 0.03, 0, 1000, 0, false, 1000, true},
	} {
		tk := &task.Task{Budget: task.Budget{USDPerRequest: row.budget}}
		if row.limited {
			tk.Parameters.MaxOutputTokens = row.output
		}
		limit, affords := tk.Affords(m, row.spent, row.prompt, row.output)
		if affords != row.affords || affords && limit != row.limit {
			t.Errorf("%s: %d, %v; want %d, %v", row.name, limit, affords, row.limit, row.affords)
		}
	}
	free := &task.Model{}
	if limit, affords := (&task.Task{Budget: task.Budget{USDPerRequest: 0.01}}).Affords(free, 0, 1<<30, 0); limit != 0 || !affords {
		t.Errorf("what costs nothing: %d, %v", limit, affords)
	}
}
