package main

import (
	"encoding/json"
	"testing"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// shown lays by hand what context-builder publishes of a prompt.
func (r *rig) shown(t *testing.T, id string, run int) {
	t.Helper()
	section := func(name string, tokens, kept, dropped int, messages ...job.Message) job.ShownSection {
		return job.ShownSection{Section: job.Section{Name: name, Tokens: tokens, Kept: kept, Dropped: dropped}, Messages: messages}
	}
	body, err := json.Marshal(job.Context{
		V: 1, ID: id, Run: run, Hop: 2, Task: "chat", Model: "small", Tokens: 1234, Budget: 6000,
		Price: job.ShownPrice{USD: 0.000185, AsOf: "2026-11-01"},
		Sections: []job.ShownSection{
			section(job.SectionSystem, 200, 0, 0, job.Message{Role: "system", Content: "You help."}),
			section(job.SectionTurns, 1000, 2, 7, job.Message{Role: "user", Content: "Hello\x1b[2Jthere"}, job.Message{Role: "assistant", Content: "Hi."}),
			section(job.SectionInput, 34, 0, 0, job.Message{Role: "user", Content: "Where is it?"}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.conn.NC.Publish(broker.ContextSubject("chat", id), body); err != nil { // the stream acknowledges nothing
		t.Fatal(err)
	}
	brokertest.Eventually(t, 10*time.Second, "the prompt is kept", func() bool {
		_, err := r.conn.Last(t.Context(), broker.ContextsStream, broker.AnyContext(id))
		return err == nil
	})
}

// ended lays by hand a result with one call, and what its prompt was made of.
func (r *rig) ended(t *testing.T, id string, sections []job.Section) {
	t.Helper()
	now := time.Now().UTC()
	history := []job.Event{{Kind: job.KindHop, Stage: broker.Ingest, At: now}}
	if sections != nil {
		history = append(history, job.Event{Kind: job.KindContext, Stage: broker.ContextBuilder, At: now, Sections: sections})
	}
	history = append(history, job.Event{
		Kind: job.KindCall, Stage: broker.Inference, At: now, N: 1, Model: "small", Outcome: "ok", CountedTokens: 1234, InputTokens: 1237, OutputTokens: 9, CostUSD: 0.0002,
	})
	r.put(t, broker.WriteSubject("chat", id), job.Result{
		V: 1, ID: id, Run: 1, Task: "chat", Status: job.Succeeded, Output: json.RawMessage(`"ok"`), Source: "model", Model: "small", History: history, AcknowledgedAt: now, FinishedAt: now,
	})
}

func TestWhatAModelSawIsShownSectionBySection(t *testing.T) {
	r := serve(t)
	r.shown(t, "one", 1)
	r.spillway(t, "context", "show", "one").with(exitOK,
		"one (task chat, run 1)", "1,234 of 6,000", "$0.00018 for the prompt, by the prices of 2026-11-01",
		"turns    1,000   2      7", "\nturns, user\n  Hello\\u001b[2Jthere\n", "\nturns, assistant\n  Hi.\n", "\nsystem, system\n  You help.\n").without("\x1b")
	r.ended(t, "one", nil)
	r.spillway(t, "context", "show", "one").with(exitOK, "#1 small: ok; counted 1,234, the provider says 1,237, $0.00020")
	got := r.spillway(t, "context", "show", "one", "--json").with(exitOK).one()
	if got["from"] != "context" || len(got["sections"].([]any)) != 3 || got["price"].(map[string]any)["as_of"] != "2026-11-01" || got["calls"].([]any)[0].(map[string]any)["input_tokens"] != 1237.0 {
		t.Errorf("%v", got)
	}
}

func TestWhatAModelSawIsToldFromWhatElseIsKept(t *testing.T) {
	r := serve(t)
	files := "--schemas=" + talks(t)
	r.bury(t, "inference", "talk", "dead", fate.ProviderTimeout, false)
	r.spillway(t, "context", "show", "dead", files).with(exitOK, "dead (task talk, run 1)", "user\n  private prompt\n", "#1 small: provider_timeout")
	r.bury(t, "inference", "whisper", "hidden", fate.ProviderTimeout, false)
	for _, form := range []string{"--json=false", "--json"} {
		r.spillway(t, "context", "show", "hidden", files, form).with(exitOK, "texts are not shown", "whisper", "provider_timeout").without("private")
	}

	r.ended(t, "past", []job.Section{{Name: job.SectionSystem, Tokens: 200}, {Name: job.SectionDocuments, Tokens: 34, Kept: 1, Dropped: 3}})
	r.spillway(t, "context", "show", "past").with(exitOK, "tokens  234\n", "documents  34      1      3", "the words are not kept", "the provider says 1,237").without("price")
	if got := r.spillway(t, "context", "show", "past", "--json").with(exitOK).one(); got["from"] != "result" || got["tokens"] != 234.0 || got["price"] != nil {
		t.Errorf("%v", got)
	}
	r.spillway(t, "context", "show", "nobody").with(exitNotFound, "nothing is known of nobody")
	r.spillway(t, "context", "show", "a/b").with(exitUsage, "is not an id")
}

// A replay's dead letter is newer than the prompt that is kept of the run before.
func TestTheNewestRunIsShown(t *testing.T) {
	r := serve(t)
	r.shown(t, "two", 1)
	now := time.Now().UTC()
	r.put(t, broker.DeadSubject("inference", "talk", "two"), job.Letter{
		V: job.Version, Stage: "inference", Code: fate.ProviderTimeout, At: now,
		Job: &job.Job{V: job.Version, ID: "two", Task: "talk", Run: 2, Model: "large", PromptTokens: 77, Prompt: job.NewPrompt(job.Message{Role: "user", Content: "the second prompt"})},
	})
	r.spillway(t, "context", "show", "two", "--schemas="+talks(t)).with(exitOK, "two (task talk, run 2)", "the second prompt", "tokens  77\n").without("Hello")
}
