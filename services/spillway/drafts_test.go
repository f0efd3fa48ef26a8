package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"spillway/pkg/job"
)

func TestDraftsAreShownToThoseWhoAskForThem(t *testing.T) {
	r := pipeline(t)

	t.Run("json is the drafts and then the result", func(t *testing.T) {
		out := r.spillway(t, "submit", "analyze", `{"text":"drafts"}`, "--stream", "--json").with(exitOK).out
		lines := strings.Split(strings.TrimSpace(out), "\n")
		var last job.Draft
		var result job.Result
		for _, line := range lines {
			if strings.Contains(line, `"event":"draft"`) {
				if err := json.Unmarshal([]byte(line), &last); err != nil {
					t.Fatal(err)
				}
			} else if err := json.Unmarshal([]byte(line), &result); err != nil {
				t.Fatal(err)
			}
		}
		var draft, output any
		if json.Unmarshal(last.Partial, &draft) != nil || json.Unmarshal(result.Output, &output) != nil || !reflect.DeepEqual(draft, output) {
			t.Errorf("the last draft is %s, the output %s", last.Partial, result.Output)
		}
	})
	t.Run("a person sees them on standard error", func(t *testing.T) {
		o := r.spillway(t, "submit", "analyze", `{"text":"drafts"}`, "--stream").with(exitOK)
		if !strings.Contains(o.err, "draft: {") || strings.Contains(o.out, "draft:") {
			t.Errorf("out %s\nerr %s", o.out, o.err)
		}
	})
	t.Run("watch shows those of others", func(t *testing.T) {
		c := r.start(t, "watch", "--drafts")
		c.says("llm.delta.*.*")
		r.spillway(t, "submit", "analyze", `{"text":"watched"}`, "--stream", "--id=watched").with(exitOK)
		c.says("watched  draft: {")
		c.cancel()
		c.wait().with(exitOK)
	})
	t.Run("they are of one input that is waited for", func(t *testing.T) {
		r.spillway(t, "submit", "analyze", `{"text":"x"}`, "--stream", "--no-wait").with(exitUsage, "--stream is for a single input", "llm.delta.analyze.<id>")
	})
}

func TestALongTextShowsItsEnd(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"short": "short", "abcdefgh": "…defgh", "abcéfgh": "…éfgh", "abc😀gh": "…gh"} {
		if got := tail(text, 5); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
