package main

import (
	"testing"

	"spillway/pkg/fakellm"
)

func TestCancel(t *testing.T) {
	r := pipeline(t)
	hang := func(t *testing.T, id string) {
		t.Helper()
		r.provider.Script("", fakellm.Fault{Kind: fakellm.KindHang})
		r.spillway(t, "submit", "analyze", `{"text":"`+id+`"}`, "--id="+id, "--no-wait").with(exitOK)
		if err := r.provider.Await(t.Context(), func(n fakellm.Counts) bool { return n.Nonces[fakellm.Nonce(id)] > 0 }); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("a run under way ends as cancelled", func(t *testing.T) {
		hang(t, "stop")
		r.spillway(t, "cancel", "stop").with(exitOK, "stop  cancelled")
		r.spillway(t, "result", "stop").with(exitNotAnswered, "status  cancelled")
		r.spillway(t, "cancel", "stop").with(exitOK, "was cancelled before")
	})
	t.Run("a run that has its result keeps it", func(t *testing.T) {
		r.spillway(t, "submit", "analyze", `{"text":"done"}`, "--id=done").with(exitOK)
		r.spillway(t, "cancel", "done").with(exitOK, "not cancelled: it had ended as succeeded")
	})
	t.Run("json is the result that came first", func(t *testing.T) {
		hang(t, "stop-json")
		if got := r.spillway(t, "cancel", "stop-json", "--json").with(exitOK).one(); got["status"] != "cancelled" || got["id"] != "stop-json" {
			t.Errorf("%v", got)
		}
	})
	t.Run("of many ids each is told of", func(t *testing.T) {
		hang(t, "some")
		r.spillway(t, "cancel", "some", "unheard-of").with(exitNotFound, "some  cancelled", "unheard-of: nothing is known", "1 of 2 ids not cancelled")
	})
	t.Run("what can be no id is refused", func(t *testing.T) {
		r.spillway(t, "cancel", "a.b").with(exitUsage, "not an id")
	})
}

func TestCancelSaysThatNoIngestIsRunning(t *testing.T) {
	serve(t).spillway(t, "cancel", "x").with(exitFailed, "no ingest is running")
}
