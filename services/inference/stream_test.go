package inference

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

func TestAStreamIsReadAsItsEventsSay(t *testing.T) {
	t.Parallel()
	role := `{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}`
	tests := []struct {
		name   string
		body   string
		answer string
		finish string
		code   fate.Code
	}{
		{"the usual form", "data: " + role + "\n\ndata: " + delta("hel") + "\n\ndata: " + delta("lo") + "\n\ndata: " + stop + "\n\ndata: [DONE]\n\n", "hello", "stop", ""},
		{"no space after the colon, carriage returns", "data:" + delta("hello") + "\r\n\r\ndata:" + stop + "\r\n\r\ndata:[DONE]\r\n\r\n", "hello", "stop", ""},
		{"event and id lines, comments", ": hi\n\nevent: message\nid: 1\ndata: " + delta("hello") + "\n\n: ping\ndata: " + stop + "\n\n", "hello", "stop", ""},
		{"more comments than go-openai suffers", strings.Repeat(": PROCESSING\n\n", 2000) + "data: " + delta("hello") + "\n\ndata: " + stop + "\n\n", "hello", "stop", ""},
		{"the last line without an end", "data: " + delta("hello") + "\n\ndata: " + stop, "hello", "stop", ""},
		{"content and finish reason in one event", `data: {"choices":[{"delta":{"content":"hello"},"finish_reason":"stop"}]}` + "\n\n", "hello", "stop", ""},
		{"a null error in an event", `data: {"error":null,"choices":[{"delta":{"content":"hello"},"finish_reason":"stop"}]}` + "\n\n", "hello", "stop", ""},
		{"another choice is not ours", "data: " + delta("hello") + "\n\n" + `data: {"choices":[{"index":1,"delta":{"content":"other"},"finish_reason":"length"}]}` + "\n\ndata: " + stop + "\n\n", "hello", "stop", ""},
		{"a field of an unknown shape", `data: {"choices":[{"delta":{"content":"hello","reasoning":{"a":1}},"finish_reason":"stop"}]}` + "\n\n", "hello", "stop", ""},
		{"nothing carries over from one event to the next", `data: {"choices":[{"delta":{"content":"hello"}}]}` + "\n\n" + `data: {"choices":[{"delta":{"role":"assistant"}}]}` + "\n\n" + `data: {"choices":[{"finish_reason":"stop"}]}` + "\n\n", "hello", "stop", ""},
		{"malformed events between", "data: {\"choices\n\ndata: " + delta("hello") + "\n\ndata: nonsense\n\ndata: " + stop + "\n\n", "hello", "stop", ""},
		{"an empty answer that was cut at its limit", `data: {"choices":[{"delta":{},"finish_reason":"length"}]}` + "\n\n", "", "length", ""},
		{"an empty answer that was filtered", `data: {"choices":[{"delta":{},"finish_reason":"content_filter"}]}` + "\n\n", "", "content_filter", ""},
		{"an error after the finish reason", "data: " + delta("hello") + "\n\ndata: " + stop + "\n\ndata: {\"error\":{\"message\":\"too late\"}}\n\n", "hello", "stop", ""},
		{"a whole object in place of a stream", ` {"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}]}`, "hello", "stop", ""},
		{"nothing", "", "", "", fate.ProviderEmpty},
		{"a finish reason in capitals", answerThat("STOP"), "hello", "stop", ""},
		{"a finish reason that is not known", answerThat("eos"), "hello", "eos", ""},
		{"an answer that was cut, in Mistral's words", answerThat("model_length"), "hello", "length", ""},
		{"an answer that was cut, in Gemini's words", answerThat("MAX_TOKENS"), "hello", "length", ""},
		{"an answer that was filtered, in Gemini's words", answerThat("SAFETY"), "hello", "content_filter", ""},
		{"a whole object that was filtered, in Gemini's words", `{"choices":[{"message":{"content":"hello"},"finish_reason":"RECITATION"}]}`, "hello", "content_filter", ""},
		{"an answer that DeepSeek broke off", answerThat("insufficient_system_resource"), "", "", fate.ProviderCut},
		{"an answer that vLLM broke off", answerThat("abort"), "", "", fate.ProviderCut},
		{"a whole object that was broken off", `{"choices":[{"message":{"content":"hello"},"finish_reason":"error"}]}`, "", "", fate.ProviderCut},
		{"an end mark alone", "data: [DONE]\n\n", "", "", fate.ProviderEmpty},
		{"an end mark after a role", "data: " + role + "\n\ndata: [DONE]\n\n", "", "", fate.ProviderEmpty},
		{"an end after a role", "data: " + role + "\n\n", "", "", fate.ProviderCut},
		{"an end mark without a finish reason", "data: " + delta("hello") + "\n\ndata: [DONE]\n\n", "", "", fate.ProviderCut},
		{"only malformed events", "data: {{{\n\ndata: [DONE]\n\n", "", "", fate.ProviderEmpty},
		{"a rate limit within the stream", "event: error\ndata: {\"error\":{\"code\":429,\"message\":\"slow down\"}}\n\n", "", "", fate.ProviderRateLimited},
		{"a rate limit after a comment and a token", ": OPENROUTER PROCESSING\n\ndata: " + delta("hel") + "\n\ndata: {\"error\":{\"code\":\"rate_limit_exceeded\"}}\n\n", "", "", fate.ProviderRateLimited},
		{"a spent quota within the stream", "data: {\"error\":{\"type\":\"insufficient_quota\",\"message\":\"pay\"}}\n\n", "", "", fate.ProviderQuota},
		{"a server error within the stream", "data: " + delta("hel") + "\n\ndata: {\"error\":{\"type\":\"server_error\",\"message\":\"oops\"}}\n\n", "", "", fate.ProviderEmpty},
		{"an error body that is text", `{"error":"oops"}`, "", "", fate.ProviderEmpty},
		{"an error body with a rate limit", `{"error":{"code":429,"message":"slow down"}}`, "", "", fate.ProviderRateLimited},
		{"an HTML page", "\n<!DOCTYPE html><html></html>", "", "", fate.ProviderEmpty},
		{"half a whole object", `{"choices":[{"message":{"content":"hel`, "", "", fate.ProviderCut},
		{"plain text", "Service temporarily unavailable", "", "", fate.ProviderEmpty},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(tt.body)) }))
			j := newJob(job.Interactive)
			_, err := b.toTheEnd(t, j)
			if tt.code != "" {
				wantFate(t, err, fate.Divert, tt.code)
				return
			}
			if err != nil || j.Answer.Content != tt.answer || j.Answer.FinishReason != tt.finish {
				t.Errorf("error %v, answer %+v; want %q, %s", err, j.Answer, tt.answer, tt.finish)
			}
		})
	}
}

// answerThat is a stream that ends for the reason.
func answerThat(reason string) string {
	return "data: " + delta("hello") + "\n\n" + `data: {"choices":[{"delta":{},"finish_reason":"` + reason + `"}]}` + "\n\ndata: [DONE]\n\n"
}

func TestAnAnswerSaysWhoGaveItAndARefusalIsKeptApart(t *testing.T) {
	t.Parallel()
	b := setup(t, serve(t, stream(`{"model":"model-1-dated","choices":[{"delta":{"refusal":"I can "}}]}`, `{"choices":[{"delta":{"refusal":"not."}}]}`, stop, done)))
	j := newJob(job.Interactive)
	if err := b.Handle(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if want := (job.Answer{Refusal: "I can not.", FinishReason: "stop", AnsweredBy: "model-1-dated"}); *j.Answer != want {
		t.Errorf("answer %+v, want %+v", *j.Answer, want)
	}
}

// A finish reason makes the answer: what does not come after it is not waited for.
func TestAProviderThatNeverSendsItsEndMarkHoldsNobodyForLong(t *testing.T) {
	t.Parallel()
	for name, events := range map[string][]string{
		"after the finish reason": {delta("hello"), stop},
		"after the end mark":      {delta("hello"), stop, done},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				stream(events...)(w, r)
				<-r.Context().Done()
			}))
			patient(b)
			j := newJob(job.Interactive)
			started := time.Now()
			if err := b.Handle(t.Context(), j); err != nil || j.Answer.Content != "hello" {
				t.Errorf("error %v, answer %+v", err, j.Answer)
			}
			if took := time.Since(started); took > tailTime+2*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestReadingStopsAtTheLimitHoweverTheAnswerIsSpread(t *testing.T) {
	t.Parallel()
	endless := func(chunk string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write([]byte(chunk)); err != nil {
					return // the reader left, as it must
				}
			}
		}
	}
	full := strings.Repeat("x", maxAnswer)
	tests := map[string]struct {
		handler http.HandlerFunc
		code    fate.Code
	}{
		"many chunks":                  {endless("data: " + delta(strings.Repeat("word ", 100)) + "\n\n"), fate.OutputTooLarge},
		"a line without an end":        {endless("data: {" + strings.Repeat("x", 1<<16)), fate.OutputTooLarge},
		"a whole object without end":   {endless(`{"x":"` + strings.Repeat("x", 1<<16)), fate.OutputTooLarge},
		"one chunk of the limit":       {stream(delta(full), stop, done), ""},
		"one chunk above the limit":    {stream(delta(full+"x"), stop, done), fate.OutputTooLarge},
		"content and refusal together": {stream(delta(full), `{"choices":[{"delta":{"refusal":"x"}}]}`, stop, done), fate.OutputTooLarge},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, serve(t, tt.handler))
			patient(b)
			j := newJob(job.Batch)
			err := b.Handle(t.Context(), j)
			if tt.code != "" {
				wantFate(t, err, fate.Divert, tt.code)
			} else if err != nil || len(j.Answer.Content) != maxAnswer {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAModelThatThinksAloudIsAlive(t *testing.T) {
	t.Parallel()
	b := setup(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		flush := w.(http.Flusher).Flush
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for i := range 10 { // longer than first_token and silence allow
			name := []string{"reasoning_content", "reasoning"}[i%2]
			if _, err := fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{%q:\"hm\"}}]}\n\n", name); err != nil {
				return
			}
			flush()
			<-tick.C
		}
		stream(delta("hello"), stop, done)(w, r)
	}))
	b.model.Timeouts.FirstToken, b.model.Timeouts.Silence = time.Second, time.Second
	j := newJob(job.Interactive)
	if err := b.Handle(t.Context(), j); err != nil || j.Answer.Content != "hello" {
		t.Errorf("error %v, answer %+v", err, j.Answer)
	}
}

func TestARoleAndEmptyContentAreNoToken(t *testing.T) {
	t.Parallel()
	b := setup(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		stream(`{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}`)(w, r)
		<-r.Context().Done()
	}))
	j := newJob(job.Interactive)
	f := wantFate(t, b.Handle(t.Context(), j), fate.Divert, fate.ProviderTimeout)
	if e := calls(j)[0]; e.FirstTokenMS != 0 || !strings.Contains(f.Message, "first_token") {
		t.Errorf("first token after %d ms, message %q", e.FirstTokenMS, f.Message)
	}
}

func FuzzNoStreamBreaksTheReader(f *testing.F) {
	f.Add("data: " + delta("hello") + "\n\ndata: " + stop + "\n\ndata: [DONE]\n\n")
	f.Add(`{"error":{"code":429,"innererror":{"code":"x"}}}`)
	f.Add(`[{"error":{"code":[],"message":{}}}]`)
	f.Add("data: {\"choices\":[{\"index\":0},{\"index\":1}]}\n\ndata: {\"choices\":[]}\n")
	f.Fuzz(func(t *testing.T, body string) {
		c := fuzzed(body)
		failed := c.readStream(t.Context())
		if failed == nil && c.finish == "" {
			t.Error("an answer without a finish reason")
		}
		if failed != nil && (failed.code == "" || len(failed.text) > maxSaid+200) {
			t.Errorf("failure %q %q", failed.code, failed.text)
		}
	})
}
