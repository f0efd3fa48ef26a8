package task_test

import (
	"testing"

	"spillway/pkg/task"
)

func TestOnlyARequestWithoutAMemoryHasItsKeyBeforehand(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		of, session string
		remembers   bool
	}{
		{"", "s", false},
		{task.SessionNone, "s", false},
		{task.SessionNone, "", false},
		{task.SessionOptional, "", false},
		{task.SessionOptional, "s", true},
		{task.SessionRequired, "s", true},
	} {
		toy := &task.Task{Name: "toy", Context: task.Context{Session: row.of}}
		if got := toy.Remembers(row.session); got != row.remembers {
			t.Errorf("session %q of a task with %q: remembers %t", row.session, row.of, got)
		}
		key, _ := toy.StandIns("acme", row.session, "x")
		if want := toy.CacheKey("acme", []byte(`"x"`), ""); row.remembers && key != "" || !row.remembers && key != want {
			t.Errorf("session %q of a task with %q: key %q", row.session, row.of, key)
		}
	}
}
