package drill_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"spillway/pkg/drill"
	"spillway/pkg/fakellm"
)

func TestANightInWhichTheProviderFailsNoCallRehearsesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t, 2) // none of them while it fails
	s.pipe(func(a asked) { s.result(a.ID, a.Number, string(a.Input), "succeeded", "") })
	if _, faults := s.faults(); faults != "the provider failed no call, so that no outage was rehearsed" {
		t.Error(faults)
	}
}

func TestNothingMisbehavesUnlessTheFirstRequestArrives(t *testing.T) {
	t.Parallel()
	s := setup(t, 20)
	s.provider.SetFaults(fakellm.Fault{Kind: fakellm.KindOverloaded, Match: "never"})
	s.call("from before")
	_, err := s.drill(t.Context())
	if _, ok := errors.AsType[*drill.UnreachedError](err); !ok {
		t.Errorf("%v", err)
	}
	if s.provider.Counts().Calls != 1 {
		t.Error("the provider was reset, though it is not the pipeline's")
	}
	// The call arrives, but for a model that the given task files do not know.
	s.options.Tasks = load(t, map[string]string{"models.yaml": `providers: {here: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: none}}
models: {only: {provider: here, id: other-2, context_window: 8000, prices: {input: 1, output: 2}}}
`})
	s.pipe(func(asked) {})
	if _, err := s.drill(t.Context()); err == nil || !strings.Contains(err.Error(), "not for other-2") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNoSimulatedProviderIsNotSteered(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"a real one":       http.NotFound,
		"any JSON":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) },
		"a page of HTML":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `<html>`) },
		"a gateway's list": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"models":["a"]}`) },
	} {
		var asked []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.Path)
			answer(w, r)
		}))
		p := drill.NewProvider(server.URL + "/v1/")
		err := p.Check(t.Context())
		if _, ok := errors.AsType[*drill.NotSimulatedError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
		p.Close()
		server.Close()
		if len(asked) != 1 || asked[0] != "GET /fake/counts" {
			t.Errorf("%s: it was sent %v", name, asked)
		}
	}
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
		fmt.Fprint(w, `{"models":{},"nonces":{}}`)
	}))
	defer far.Close()
	p := drill.NewProvider(far.URL)
	defer p.Close()
	if err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("a clock that differs by a minute: %v", err)
	}
}
