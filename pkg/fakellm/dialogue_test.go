package fakellm_test

import (
	"net/http"
	"testing"

	"spillway/pkg/fakellm"
)

// under sends the messages under a trace id, "" for none, and returns the id of the answer and its content.
func (b *bundle) under(t *testing.T, trace string, messages ...object) (id, content string) {
	t.Helper()
	r := b.request(t, b.ctx, http.MethodPost, "/v1/chat/completions",
		object{"model": "m", "messages": messages, "response_format": formatOf(numeric())})
	if trace != "" {
		r.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	}
	c := b.do(t, r).completion(t)
	return c.ID, c.Choices[0].Message.Content
}

const (
	traceA = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceB = "5bf92f3577b34da6a3ce929d0e0e4737"
)

func TestACorrectionOfABadAnswerIsACallOfTheSameInput(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	nonce := fakellm.Nonce("the input")
	examples := []object{say("system", "s"), say("user", "example"), say("assistant", `{"n":1}`), say("user", "the input")}
	b.Script("m", fakellm.Fault{Kind: fakellm.KindOffSchema}, fakellm.Fault{Kind: fakellm.KindFenced})
	_, bad := b.under(t, "", examples...)
	first := append(examples, say("assistant", bad), say("user", "/n is wrong"))
	id, worse := b.under(t, "", first...)
	contains(t, "first correction", id, nonce)
	id, _ = b.under(t, "", append(examples, say("assistant", worse), say("user", "no fences"))...)
	contains(t, "a correction that gives back only the last answer", id, nonce)
	id, _ = b.under(t, "", append(first, say("assistant", worse), say("user", "no fences"))...)
	contains(t, "a correction that gives back all", id, nonce)
	equal(t, "calls of the input", b.Counts().Nonces[nonce], 4)
}

func TestACorrectionOfALiteralAnswerOffItsSchemaIsACallOfTheSameInput(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	b.SetAnswer("m", `{"n":"many"}`, `{"n":3}`)
	_, bad := b.under(t, "", say("user", "the input"))
	id, good := b.under(t, "", say("user", "the input"), say("assistant", bad), say("user", "/n must be an integer"))
	contains(t, "correction", id, fakellm.Nonce("the input"))
	id, _ = b.under(t, "", say("user", "the input"), say("assistant", good), say("user", "the next turn"))
	contains(t, "after a literal that was right", id, fakellm.Nonce("the next turn"))
}

func TestAGoodAnswerUnderTheSameTraceIsCorrectedAndUnderAnotherIsAnEarlierTurn(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	_, good := b.under(t, traceA, say("user", "the input"))
	next := []object{say("user", "the input"), say("assistant", good), say("user", "next")}
	id, corrected := b.under(t, traceA, next...)
	contains(t, "same trace", id, fakellm.Nonce("the input"))
	if corrected == good {
		t.Error("the corrected answer is the same again")
	}
	id, _ = b.under(t, traceB, next...)
	contains(t, "another trace", id, fakellm.Nonce("next"))
	id, _ = b.under(t, "", next...)
	contains(t, "no trace", id, fakellm.Nonce("next"))
}

func TestOffSchemaOnceToldIsRightAfterACorrection(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: fakellm.KindOffSchemaOnceTold}}})
	const schema = `{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}`
	_, bad := b.under(t, "", say("user", "the input"))
	if satisfies(t, schema, bad) {
		t.Errorf("the first answer is on schema: %s", bad)
	}
	if _, again := b.under(t, "", say("user", "the input")); satisfies(t, schema, again) {
		t.Errorf("an answer without a correction is on schema: %s", again)
	}
	if _, good := b.under(t, "", say("user", "the input"), say("assistant", bad), say("user", "wrong")); !satisfies(t, schema, good) {
		t.Errorf("the answer after the correction is off schema: %s", good)
	}
}
