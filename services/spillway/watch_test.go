package main

import (
	"strings"
	"testing"

	"spillway/pkg/fakellm"
)

func TestWatch(t *testing.T) {
	r := pipeline(t)

	t.Run("it prints a line a result and ends after so many", func(t *testing.T) {
		c := r.start(t, "watch", "--count=2")
		c.says("watching llm.result.*.*")
		r.spillway(t, "submit", "analyze", `{"text":"one"}`, "--id=one").with(exitOK)
		r.spillway(t, "submit", "onboarding", `{"message":"two"}`, "--id=two").with(exitOK)
		out := c.wait().with(exitOK, "succeeded", "analyze  one", "onboarding  two", fakellm.Nonce("one"))
		if n := strings.Count(out.out, "\n"); n != 2 {
			t.Errorf("%d lines", n)
		}
	})
	t.Run("json is the results as they are published", func(t *testing.T) {
		c := r.start(t, "watch", "--count=1", "--json", "--task=analyze")
		c.says("watching llm.result.analyze.*")
		r.spillway(t, "submit", "onboarding", `{"message":"not this"}`).with(exitOK)
		printed := r.spillway(t, "submit", "analyze", `{"text":"this"}`, "--json").with(exitOK)
		if seen := c.wait().with(exitOK); seen.out != printed.out {
			t.Errorf("watched %s\nprinted %s", seen.out, printed.out)
		}
	})
	t.Run("of one id it shows every hop", func(t *testing.T) {
		c := r.start(t, "watch", "--id=hops", "--progress")
		c.says("llm.progress.*.hops")
		r.spillway(t, "submit", "analyze", `{"text":"hops"}`, "--id=hops").with(exitOK)
		r.spillway(t, "submit", "analyze", `{"text":"others"}`, "--id=others").with(exitOK)
		for _, hop := range []string{"ingest -> context-builder", "context-builder -> inference", "inference -> validator", "validator -> result-writer"} {
			c.says(hop)
		}
		c.cancel()
		c.wait().with(exitOK, "analyze  hops").without("others")
	})
	t.Run("interrupted, it has done its work", func(t *testing.T) {
		c := r.start(t, "watch")
		c.says("watching")
		c.cancel()
		c.wait().with(exitOK)
	})
	t.Run("a wildcard is no id", func(t *testing.T) {
		r.spillway(t, "watch", "--id=*").with(exitUsage, "not an id")
		r.spillway(t, "watch", "--task=a.>").with(exitUsage, "not the name of a task")
	})
}
