package fakellm_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/pkg/fakellm"
)

func TestAnAnswerHasTheHeadersOfOpenAI(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	seen := map[string]bool{}
	for _, more := range []object{nil, {"stream": true}, {"model": ""}} {
		h := b.chat(t, ask("x", more)).header
		for _, name := range []string{
			"X-Request-Id", "Openai-Processing-Ms", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Limit-Tokens",
			"X-Ratelimit-Remaining-Requests", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Requests", "X-Ratelimit-Reset-Tokens",
		} {
			if h.Get(name) == "" {
				t.Errorf("%v: no %s", more, name)
			}
		}
		seen[h.Get("X-Request-Id")] = true
	}
	equal(t, "distinct request ids", len(seen), 3)
}

func TestUnusableRequestsAreRefusedAndCountedAsRejected(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Models: []string{"m"}})
	for name, c := range map[string]struct {
		body any
		code any
		want int
	}{
		"no JSON object": {"text", nil, 400},
		"no model":       {object{"messages": []object{say("user", "x")}}, nil, 400},
		"no messages":    {object{"model": "m"}, "empty_array", 400},
		"no schema":      {ask("x", object{"response_format": object{"type": "json_schema"}}), "missing_required_parameter", 400},
		"unknown model":  {ask("x", object{"model": "gpt-9"}), "model_not_found", 404},
	} {
		r := b.chat(t, c.body)
		equal(t, name, r.status, c.want)
		equal(t, name, r.errorCode(t), c.code)
	}
	c := b.Counts()
	equal(t, "rejected", c.Outcomes[fakellm.OutcomeRejected], 5)
	equal(t, "inputs", len(c.Nonces), 0)
	equal(t, "recorded as", b.Requests("gpt-9")[0].Kind, fakellm.OutcomeRejected)
}

func TestOnlyTheKeysOfTheOptionsAreLetIn(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Keys: []string{"sk-one", "sk-two"}})
	for key, want := range map[string]int{"": 401, "Bearer sk-three": 401, "Bearer sk-two": 200} {
		for _, path := range []string{"/v1/chat/completions", "/v1/models"} {
			method, body := http.MethodGet, any(nil)
			if strings.HasSuffix(path, "completions") {
				method, body = http.MethodPost, ask("x", nil)
			}
			r := b.request(t, b.ctx, method, path, body)
			if key != "" {
				r.Header.Set("Authorization", key)
			}
			equal(t, key+" "+path, b.do(t, r).status, want)
		}
	}
}

func TestModelsAreThoseOfTheOptionsOrThoseThatWereCalled(t *testing.T) {
	t.Parallel()
	list := func(b *bundle) []string {
		var l struct{ Data []struct{ ID string } }
		if err := json.Unmarshal([]byte(b.do(t, b.request(t, b.ctx, http.MethodGet, "/v1/models", nil)).body), &l); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range l.Data {
			names = append(names, m.ID)
		}
		return names
	}
	fixed := setup(t, fakellm.Options{Models: []string{"b", "a"}})
	equal(t, "fixed", strings.Join(list(fixed), " "), "a b")
	equal(t, "one", fixed.do(t, fixed.request(t, fixed.ctx, http.MethodGet, "/v1/models/a", nil)).status, 200)
	equal(t, "none", fixed.do(t, fixed.request(t, fixed.ctx, http.MethodGet, "/v1/models/c", nil)).status, 404)
	open := setup(t, fakellm.Options{})
	open.chat(t, ask("x", nil))
	equal(t, "called", strings.Join(list(open), " "), "m simulated")
}

func TestAnUnknownPathIsAnErrorInOpenAIsForm(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{})
	r := b.do(t, b.request(t, b.ctx, http.MethodPost, "/v1/embeddings", object{}))
	equal(t, "status", r.status, 404)
	equal(t, "code", r.errorCode(t), nil)
}

func TestAServerCanBeStartedAgainOnTheAddressOfAClosedOne(t *testing.T) {
	t.Parallel()
	first := setup(t, fakellm.Options{})
	first.chat(t, ask("x", nil))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.send(t, first.ctx, ask("x", nil)); err == nil {
		t.Fatal("a closed server answers")
	}
	second := setup(t, fakellm.Options{Addr: strings.TrimPrefix(first.Root(), "http://")})
	equal(t, "URL", second.URL(), first.URL())
	equal(t, "status", first.chat(t, ask("x", nil)).status, 200)
	if _, err := fakellm.Start(fakellm.Options{Addr: strings.TrimPrefix(second.Root(), "http://")}); err == nil {
		t.Error("two servers listen on one address")
	}
}

func TestAnAnswerTakesAtLeastItsLatency(t *testing.T) {
	t.Parallel()
	b := setup(t, fakellm.Options{Latency: fakellm.Latency{FirstToken: 30 * time.Millisecond, PerToken: 2 * time.Millisecond}})
	b.SetAnswer("m", strings.Repeat("four", 10))
	for _, stream := range []bool{false, true} {
		start := time.Now()
		b.chat(t, ask("x", object{"stream": stream}))
		if took := time.Since(start); took < 48*time.Millisecond {
			t.Errorf("stream %v: took %v, less than 30 ms and 9 times 2 ms", stream, took)
		}
	}
}
