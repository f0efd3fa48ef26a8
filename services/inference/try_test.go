package inference

import (
	"net/http"
	"testing"
	"time"

	"spillway/pkg/fakellm"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

func TestATriedCallSaysWhatItShowed(t *testing.T) {
	t.Parallel()
	const wait = 20 * time.Millisecond
	provider := fake(t, fakellm.Options{Latency: fakellm.Latency{FirstToken: wait, PerToken: time.Millisecond}})
	provider.SetName("model-1", newer)
	provider.SetUsage("model-1", fakellm.Usage{Input: 77, Output: 33})
	for _, streams := range []bool{true, false} {
		b := setup(t, provider.URL())
		b.model.Stream = streams
		j := newJob(job.Interactive)
		seen, err := b.Try(t.Context(), j)
		if err != nil || j.Answer == nil {
			t.Fatalf("%v, %+v", err, j)
		}
		if !seen.Sent || seen.Status != http.StatusOK || seen.AnsweredBy != newer || seen.Streamed != streams || !seen.Reported ||
			seen.Counted != 12 || seen.Input != 77 || seen.Output != 33 || seen.Took < wait || streams != (seen.FirstToken >= wait) {
			t.Errorf("streams %v: %+v", streams, seen)
		}
		b.Close()
	}
}

func TestATriedStreamThatComesInOnePieceIsNone(t *testing.T) {
	t.Parallel()
	b := setup(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"model":"m","choices":[{"index":0,"message":{"content":"hello"},"finish_reason":"stop"}]}`))
	}))
	seen, err := b.Try(t.Context(), newJob(job.Interactive))
	if err != nil || seen.Streamed || seen.Reported || seen.Output == 0 || seen.AnsweredBy != "m" {
		t.Errorf("%+v, %v", seen, err)
	}
}

func TestATriedCallThatFailsOrIsNotMadeSaysSo(t *testing.T) {
	t.Parallel()
	provider := fake(t, fakellm.Options{Faults: []fakellm.Fault{{Kind: "404"}}})
	b := setup(t, provider.URL())
	seen, err := b.Try(t.Context(), newJob(job.Interactive))
	wantFate(t, err, fate.Divert, fate.ProviderRefusedRequest)
	if !seen.Sent || seen.Status != http.StatusNotFound || seen.Reported {
		t.Errorf("%+v", seen)
	}
	j := newJob(job.Interactive)
	j.Model = "gone"
	if seen, err := b.Try(t.Context(), j); err == nil || seen != (Seen{}) {
		t.Errorf("%+v, %v", seen, err)
	}
}

func TestWhyAProviderCanNotBeCalledIsSaidWithoutACall(t *testing.T) {
	t.Parallel()
	env := &stage.Env{Getenv: func(name string) string { return map[string]string{"SET": secret}[name] }}
	for variable, why := range map[string]string{
		"SET": "", "UNSET": "no API key: set UNSET, or api_key: none in models.yaml if it needs none",
	} {
		err := Unusable(env, &task.Provider{Kind: task.KindOpenAI, BaseURL: "http://127.0.0.1:1/v1", APIKeyEnv: variable})
		if (err == nil) != (why == "") || err != nil && err.Error() != why {
			t.Errorf("%s: %v", variable, err)
		}
	}
}
