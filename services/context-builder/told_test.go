package contextbuilder

import (
	"slices"
	"testing"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

func TestWhatTheModelSawCanBeLookedAt(t *testing.T) {
	t.Parallel()
	s := converse(t, "model: small\ncontext: {session: optional, max_input_tokens: 60, recent_turns: 5}", nil)
	s.exchange("a", words(30), say("one"))
	s.exchange("b", "second", say("two"))
	j := s.request("c", "third")
	messages := s.build(j)
	c := s.shownContext("c")
	var shown []job.Message
	sum := 0
	for _, section := range c.Sections {
		shown, sum = append(shown, section.Messages...), sum+section.Tokens
	}
	if !slices.Equal(shown, messages) || sum != c.Tokens || c.Tokens != j.PromptTokens || c.Budget != 60 || c.Model != "small" || c.ID != "c" || c.Run != 1 {
		t.Errorf("%+v, prompt %+v", c, messages)
	}
	if turns := c.Sections[1]; turns.Name != "turns" || turns.Kept != 1 || turns.Dropped != 1 {
		t.Errorf("%+v", c.Sections)
	}
	if s.value("spillway_context_trimmed_total", "task=sample", "what=turns") != 1 {
		t.Error("what was trimmed is not counted")
	}
	never := converse(t, "model: small\ncontext: {session: optional}\nredaction: {log_content: never}", nil)
	never.build(never.request("a", "first"))
	if err := never.conn.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := never.conn.Last(t.Context(), broker.ContextsStream, broker.ContextSubject("sample", "a")); err == nil {
		t.Error("what must not be shown is stored")
	}
}
