package fakellm_test

import (
	"bytes"
	"testing"

	"spillway/pkg/fakellm"
)

func TestUsageIsWhatWasSetAndTheRestIsCounted(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Limits: []fakellm.Limit{{Tokens: 10_000, Model: "all"}}})
	for model, set := range map[string]fakellm.Usage{"all": {Input: 5000, Output: 4000}, "out": {Output: 70}, "": {Input: 8}} {
		b.SetUsage(model, set)
	}
	b.SetAnswer("", message(30))
	for model, want := range map[string][2]int{"all": {5000, 4000}, "out": {20, 70}, "other": {8, 30}} {
		u := b.chat(t, ask(message(20), object{"model": model})).completion(t).Usage
		equal(t, model, [2]int{u.PromptTokens, u.CompletionTokens}, want)
		equal(t, model+": sum", u.TotalTokens, want[0]+want[1])
	}
	contains(t, "the limit", b.chat(t, ask("x", object{"model": "all"})).limited(t, "tokens"), "Used 9000, Requested 5000.")
	e := b.chat(t, ask(message(20), object{"model": "out", "stream": true, "stream_options": object{"include_usage": true}})).events(t)
	last, _ := e.usages[len(e.usages)-1].(map[string]any)
	equal(t, "streamed", last["completion_tokens"], any(70.0))
	b.SetUsage("out", fakellm.Usage{})
	u := b.chat(t, ask(message(20), object{"model": "out"})).completion(t).Usage
	equal(t, "of all models again", [2]int{u.PromptTokens, u.CompletionTokens}, [2]int{8, 30})
	b.Reset()
	u = b.chat(t, ask(message(20), nil)).completion(t).Usage
	equal(t, "after the reset", u.PromptTokens, 20)
}

func TestAPromptIsCountedByWhoWantsTo(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{PromptTokens: func(body []byte) int { return bytes.Count(body, []byte("word")) }})
	u := b.chat(t, ask("word word word", nil)).completion(t).Usage
	equal(t, "words", u.PromptTokens, 3)
	b.SetUsage("", fakellm.Usage{Input: 8})
	u = b.chat(t, ask("word word word", nil)).completion(t).Usage
	equal(t, "what was set", u.PromptTokens, 8)
}
