package inference

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

func TestAProviderThatATaskNeedsMustBeUsableAtStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name     string
		provider task.Provider
		want     []string
	}{
		{"no variable set", task.Provider{APIKeyEnv: "OPENAI_API_KEY"}, []string{"OPENAI_API_KEY", "set"}},
		{"no key line", task.Provider{}, []string{"api_key_env", "api_key_file", "api_key: none"}},
		{"no file", task.Provider{APIKeyFile: filepath.Join(dir, "absent")}, []string{"absent", "mount"}},
		{"an empty file", task.Provider{APIKeyFile: write("empty", " \n")}, []string{"empty", "mount"}},
		{"a key that no header can carry", task.Provider{APIKeyFile: write("two", "a\x00b")}, []string{"header", "two"}},
		{"such a key in the variable", task.Provider{APIKeyEnv: "BAD_KEY"}, []string{"BAD_KEY", "set it again"}},
		{"no URL", task.Provider{APIKey: "none", BaseURL: "api.example.com", BaseURLEnv: "OTHER_URL"}, []string{"base_url", "models.yaml", "OTHER_URL"}},
		{"a URL with a password", task.Provider{APIKey: "none", BaseURL: "https://me:hunter2@api.example.com"}, []string{"credentials"}},
		{"a certificate that is none", task.Provider{APIKey: "none", CAFile: write("ca", "no PEM")}, []string{"ca_file", "PEM"}},
		{"no certificate", task.Provider{APIKey: "none", CAFile: filepath.Join(dir, "absent.pem")}, []string{"ca_file", "absent.pem"}},
		{"a simulated one without a simulator", task.Provider{Kind: task.KindSimulated}, []string{"--simulate", "spillway up"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := tt.provider
			p.Name = "main"
			if p.Kind == "" {
				p.Kind = task.KindOpenAI
			}
			if p.BaseURL == "" {
				p.BaseURL = "https://api.example.com/v1"
			}
			_, err := New(minimalEnv(&p))
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			for _, want := range append(tt.want, "main", "greet") {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not name %q", text, want)
				}
			}
			if strings.Contains(text, "\n") || strings.Contains(text, "hunter2") || strings.Contains(text, "sk-") {
				t.Errorf("%q is not one line without secrets", text)
			}
		})
	}
}

// minimalEnv is one task whose model is p's. All three of its ways to a model are tried by the tests below.
func minimalEnv(p *task.Provider) *stage.Env {
	return &stage.Env{
		Tasks: &task.Set{
			Tasks:     map[string]*task.Task{"greet": {Name: "greet", Model: "small"}},
			Models:    map[string]*task.Model{"small": {Name: "small", Provider: "main"}},
			Providers: map[string]*task.Provider{"main": p},
		},
		Log: zerolog.Nop(),
		Getenv: func(name string) string {
			if name == "BAD_KEY" {
				return "sk-a\x7fb"
			}
			return ""
		},
	}
}

func TestTheProvidersOfRungsAndOfCorrectionsAreNeededToo(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*task.Task){
		func(t *task.Task) { t.Model = "small" },
		func(t *task.Task) { t.Ladder = []task.Rung{{Kind: task.RungModel, Model: "small"}} },
		func(t *task.Task) { t.Correction.LastOn = "small" },
	} {
		env := minimalEnv(&task.Provider{Name: "main", Kind: task.KindOpenAI, BaseURL: "https://api.example.com", APIKeyEnv: "UNSET"})
		env.Tasks.Tasks["greet"].Model = "other"
		if _, err := New(env); err != nil {
			t.Errorf("nothing needs the provider, and yet: %v", err)
		}
		change(env.Tasks.Tasks["greet"])
		if _, err := New(env); err == nil {
			t.Error("a provider that is needed has no key, and there is no error")
		}
	}
}

func TestTheEnvironmentsBaseURLWins(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	url := serve(t, r.ServeHTTP)
	b := setup(t, "http://127.0.0.1:9/v1", func(env *stage.Env) {
		env.Tasks.Providers["main"].BaseURLEnv = "MAIN_URL"
		get := env.Getenv
		env.Getenv = func(name string) string {
			if name == "MAIN_URL" {
				return url
			}
			return get(name)
		}
	})
	if err := b.Handle(t.Context(), newJob(job.Batch)); err != nil {
		t.Error(err)
	}
}

func TestASimulatedProviderIsTheSimulatorAndNeedsNoKey(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	url := serve(t, r.ServeHTTP)
	b := setup(t, "", func(env *stage.Env) {
		env.Tasks.Providers["main"] = &task.Provider{Name: "main", Kind: task.KindSimulated}
		env.SimulatorURL = url
	})
	if err := b.Handle(t.Context(), newJob(job.Batch)); err != nil {
		t.Error(err)
	}
	if got := r.headers[0].Get("Authorization"); got != "" {
		t.Errorf("Authorization %q", got)
	}
}

func TestAKeyFileIsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		// As a mounted secret changes: another file takes the name's place.
		if err := os.WriteFile(path+".new", []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("first-key\n")
	r := &recorder{}
	b := setup(t, serve(t, r.ServeHTTP), func(env *stage.Env) {
		env.Tasks.Providers["main"].APIKeyEnv, env.Tasks.Providers["main"].APIKeyFile = "", path
	})
	b.providers["main"].keys.every = 0
	call := func() string {
		t.Helper()
		if err := b.Handle(t.Context(), newJob(job.Batch)); err != nil {
			t.Fatal(err)
		}
		return r.headers[len(r.headers)-1].Get("Authorization")
	}
	if got := call(); got != "Bearer first-key" {
		t.Errorf("got %q", got)
	}
	write("other-key\n")
	if got := call(); got != "Bearer other-key" {
		t.Errorf("after the change: %q", got)
	}
	write("")
	if got := call(); got != "Bearer other-key" {
		t.Errorf("while the file is empty: %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := call(); got != "Bearer other-key" {
		t.Errorf("while the file is gone: %q", got)
	}
}

func TestACertificateAuthorityOfOnesOwnIsTrustedOnlyWhenItIsNamed(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("called by %s: calls would share a connection", r.Proto)
		}
		stream(delta("hello"), stop, done)(w, r)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	trusting := setup(t, s.URL+"/v1", func(env *stage.Env) { env.Tasks.Providers["main"].CAFile = path })
	if err := trusting.Handle(t.Context(), newJob(job.Interactive)); err != nil {
		t.Error(err)
	}
	_, err := setup(t, s.URL+"/v1").toTheEnd(t, newJob(job.Interactive))
	f := wantFate(t, err, fate.Divert, fate.ProviderUnreachable)
	if !strings.Contains(f.Message, "TLS") {
		t.Errorf("message %q", f.Message)
	}
}

func TestSecretsAndLongBodiesNeverReachMessagesHistoryOrLogs(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long ", 10_000)
	bodies := map[string]string{
		"the key as it is":      `{"error":{"message":"Incorrect API key provided: ` + secret + `.","code":"invalid_api_key"}}`,
		"the key in a header":   `{"error":{"message":"bad header Authorization: Bearer ` + secret + `"}}`,
		"half of the key":       `{"error":{"message":"Incorrect API key provided: sk-test-************cdef."}}`,
		"another header":        `{"error":{"message":"unknown organization org-secret-1"}}`,
		"no JSON at all":        "oops " + secret + " " + long,
		"at the cut":            `{"error":{"message":"` + strings.Repeat("x", maxSaid-10) + " " + secret + `"}}`,
		"another header's cut":  `{"error":{"message":"` + strings.Repeat("x", maxSaid-12) + ` org-secret-1"}}`,
		"an error that is text": `{"error":"` + secret + `"}`,
	}
	for name, body := range bodies {
		for _, status := range []int{http.StatusUnauthorized, http.StatusBadRequest, http.StatusInternalServerError, http.StatusOK} {
			t.Run(fmt.Sprintf("%s with status %d", name, status), func(t *testing.T) {
				t.Parallel()
				b := setup(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(status)
					_, _ = w.Write([]byte(body))
				}), func(env *stage.Env) {
					env.Tasks.Providers["main"].HeadersEnv = map[string]string{"OpenAI-Organization": "ORG"}
					get := env.Getenv
					env.Getenv = func(name string) string {
						if name == "ORG" {
							return "org-secret-1"
						}
						return get(name)
					}
				})
				j := newJob(job.Interactive)
				_, err := b.toTheEnd(t, j)
				f, ok := errors.AsType[*fate.Error](err)
				if !ok {
					t.Fatalf("error %v", err)
				}
				_, _ = b.log.Write([]byte(err.Error())) // as the runner does
				all := f.Message + b.log.String()
				for _, e := range calls(j) {
					all += e.Detail
				}
				for _, hidden := range []string{secret, secret[:12], "org-sec", "sk-test-***"} {
					if strings.Contains(all, hidden) {
						t.Errorf("%q is told: %s", hidden, all)
					}
				}
				if len(f.Message) > maxSaid+120 {
					t.Errorf("the message has %d bytes: %s", len(f.Message), f.Message)
				}
			})
		}
	}
}

func TestARedirectIsNotFollowedWithTheKey(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
	})
	_, err := setup(t, url).toTheEnd(t, newJob(job.Interactive))
	wantFate(t, err, fate.Divert, fate.ProviderRefusedRequest)
	if followed.Load() {
		t.Error("the request was sent on")
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream(delta("hello"), stop, done)(w, r)
		<-time.After(5 * time.Millisecond) // the end of the body comes a little after the end mark
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	b := setup(t, s.URL+"/v1")
	for range 20 {
		if err := b.Handle(t.Context(), newJob(job.Batch)); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n > 2 {
		t.Errorf("20 calls in a row opened %d connections", n)
	}
}
