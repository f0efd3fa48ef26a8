package inference

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"spillway/pkg/fakellm"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// recorder is a provider that keeps what it was sent.
type recorder struct {
	mu      sync.Mutex
	headers []http.Header
	paths   []string
	bodies  []map[string]any
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	raw, _ := io.ReadAll(req.Body)
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.headers = append(r.headers, req.Header.Clone())
	r.paths = append(r.paths, req.URL.RequestURI())
	r.bodies = append(r.bodies, body)
	r.mu.Unlock()
	if body["stream"] == true {
		stream(delta("hello"), stop, done)(w, req)
		return
	}
	_, _ = w.Write([]byte(`{"model":"model-1-dated","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`))
}

// sent makes one call and returns what the provider was sent.
func sent(t *testing.T, j *job.Job, change func(*bundle), env ...func(*stage.Env)) (map[string]any, *recorder) {
	t.Helper()
	r := &recorder{}
	b := setup(t, serve(t, r.ServeHTTP), env...)
	if change != nil {
		change(b)
	}
	if err := b.Handle(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	return r.bodies[0], r
}

func TestAParameterOfZeroIsReallySent(t *testing.T) {
	t.Parallel()
	for _, streamed := range []bool{true, false} {
		body, _ := sent(t, newJob(job.Batch), func(b *bundle) {
			b.model.Stream = streamed
			b.task.Parameters = task.Parameters{
				Temperature: new(float64(0)), TopP: new(float64(0)), FrequencyPenalty: new(float64(0)), PresencePenalty: new(float64(0)), Seed: new(int),
			}
		})
		for _, name := range []string{"temperature", "top_p", "frequency_penalty", "presence_penalty", "seed"} {
			if value, ok := body[name]; !ok || value != 0.0 {
				t.Errorf("%s is %v on the wire, want 0", name, value)
			}
		}
	}
}

func TestParametersAreSentAsTheTaskSaysThemAndAbsentOnesAreNotSent(t *testing.T) {
	t.Parallel()
	seed := 7
	body, _ := sent(t, newJob(job.Batch), func(b *bundle) {
		b.task.Parameters = task.Parameters{
			Temperature: new(0.1), FrequencyPenalty: new(-0.3), Seed: &seed, Stop: []string{"END"},
			ReasoningEffort: "low", MaxOutputTokens: 300,
		}
	})
	want := map[string]any{
		"temperature": 0.1, "frequency_penalty": -0.3, "seed": 7.0, "stop": []any{"END"}, "reasoning_effort": "low",
		"max_completion_tokens": 300.0, "stream": true, "stream_options": map[string]any{"include_usage": true}, "model": "model-1",
		"messages": []any{
			map[string]any{"role": "system", "content": "Be kind."},
			map[string]any{"role": "user", "content": "Greet the world."},
		},
		"response_format": map[string]any{"type": "json_schema", "json_schema": map[string]any{
			"name": "greet", "strict": true, "schema": map[string]any{
				"type": "object", "properties": map[string]any{"text": map[string]any{"type": "string"}}, "required": []any{"text"},
				"additionalProperties": false,
			},
		}},
	}
	if !reflect.DeepEqual(body, want) {
		t.Errorf("got  %v\nwant %v", body, want)
	}
}

func TestParametersThatAModelDoesNotTakeAreLeftOut(t *testing.T) {
	t.Parallel()
	seed := 7
	body, _ := sent(t, newJob(job.Batch), func(b *bundle) {
		b.task.Parameters = task.Parameters{
			Temperature: new(float64(1)), TopP: new(float64(1)), FrequencyPenalty: new(float64(1)), PresencePenalty: new(float64(1)),
			Seed: &seed, Stop: []string{"END"}, ReasoningEffort: "low", MaxOutputTokens: 300,
		}
		b.model.Unsupported = []string{
			"temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "stop", "reasoning_effort", "max_output_tokens",
		}
		b.model.StreamUsage, b.model.StructuredOutput = false, "none"
	})
	var names []string
	for name := range body {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"messages", "model", "stream"}; !slices.Equal(names, want) {
		t.Errorf("sent %v, want %v", names, want)
	}
}

// go-openai refuses some parameters by the prefix of the model's id; only the provider knows.
func TestNoRequestIsRefusedForTheSakeOfTheModelsName(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"o3-mini", "gpt-5", "gpt-4o-mini"} {
		body, _ := sent(t, newJob(job.Batch), func(b *bundle) {
			b.model.ID, b.model.MaxTokensField = id, "max_tokens"
			b.task.Parameters = task.Parameters{Temperature: new(0.5), TopP: new(0.5), MaxOutputTokens: 10}
		})
		if body["model"] != id || body["max_tokens"] != 10.0 || body["temperature"] != 0.5 {
			t.Errorf("%s: sent %v", id, body)
		}
	}
}

func TestTheTokenLimitIsTheJobsElseTheTasksAndNeverAboveTheModels(t *testing.T) {
	t.Parallel()
	tests := []struct {
		job, task, model int
		want             any
	}{
		{0, 0, 4096, nil}, {0, 300, 4096, 300.0}, {600, 300, 4096, 600.0}, {9000, 300, 4096, 4096.0}, {0, 9000, 0, 9000.0},
	}
	for _, tt := range tests {
		j := newJob(job.Batch)
		j.MaxOutputTokens = tt.job
		body, _ := sent(t, j, func(b *bundle) {
			b.task.Parameters.MaxOutputTokens, b.model.MaxOutputTokens = tt.task, tt.model
		})
		if got := body["max_completion_tokens"]; got != tt.want {
			t.Errorf("%+v: sent %v", tt, got)
		}
	}
}

func TestACorrectionFollowsThePromptAndTheSystemRoleIsTheModels(t *testing.T) {
	t.Parallel()
	j := newJob(job.Batch)
	j.Correction = []job.Message{{Role: "assistant", Content: "nonsense"}, {Role: "user", Content: "That was no JSON."}}
	body, _ := sent(t, j, func(b *bundle) { b.model.SystemRole = "developer" })
	var roles []string
	for _, m := range body["messages"].([]any) {
		roles = append(roles, m.(map[string]any)["role"].(string))
	}
	if want := []string{"developer", "user", "assistant", "user"}; !slices.Equal(roles, want) {
		t.Errorf("roles %v, want %v", roles, want)
	}
}

func TestTheSchemaIsOfferedOnlyWhereModelAndTaskAgreeOnIt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, structured string
		output           task.Output
		want             any
	}{
		{"a model with JSON mode", "json_object", task.Output{Format: task.FormatJSON, ProviderSchema: "auto"}, map[string]any{"type": "json_object"}},
		{"a model without", "none", task.Output{Format: task.FormatJSON, ProviderSchema: "auto"}, nil},
		{"a task that does not want it", "json_schema", task.Output{Format: task.FormatJSON, ProviderSchema: "never"}, nil},
		{"a task for text", "json_schema", task.Output{Format: task.FormatText, ProviderSchema: "auto"}, nil},
	}
	for _, tt := range tests {
		body, _ := sent(t, newJob(job.Batch), func(b *bundle) { b.model.StructuredOutput, b.task.Output = tt.structured, tt.output })
		if got := body["response_format"]; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: response_format %v, want %v", tt.name, got, tt.want)
		}
	}
}

// fakellm holds a strict schema against the published rules, as OpenAI does, and refuses others.
func TestTheSchemaIsSentInItsStrictFormWhereItHasOne(t *testing.T) {
	t.Parallel()
	type format struct {
		Strict bool           `json:"strict"`
		Schema map[string]any `json:"schema"`
	}
	for name, row := range map[string]struct {
		schema, optionalNull string
		strict               bool
		required             []any
	}{
		"an optional property": {`{"type":"object","properties":{"b":{"type":"string","maxLength":3},"a":{"type":"number"}},"required":["a"]}`, "drop", true, []any{"b", "a"}},
		"null is rejected":     {`{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"number"}},"required":["a"]}`, "reject", false, []any{"a"}},
		"nothing to drop":      {`{"type":"object","properties":{"a":{"type":"number"}},"required":["a"]}`, "reject", true, []any{"a"}},
		"any names":            {`{"type":"object","properties":{"a":{"type":"number"}},"required":["a"],"additionalProperties":{"type":"string"}}`, "drop", false, []any{"a"}},
	} {
		provider := fake(t, fakellm.Options{})
		r := &recorder{}
		b := setup(t, serve(t, func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(req.Body)
			req.Body = io.NopCloser(bytes.NewReader(body))
			r.ServeHTTP(httptest.NewRecorder(), req)
			answer, err := http.Post(provider.URL()+"/chat/completions", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = answer.Body.Close() }()
			w.WriteHeader(answer.StatusCode)
			_, _ = io.Copy(w, answer.Body)
		}))
		b.model.Stream = false
		b.task.OutputSchema, b.task.Output.OptionalNull = mustCompile(t, row.schema), row.optionalNull
		if err := b.Handle(t.Context(), newJob(job.Batch)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var sent format
		whole, _ := r.bodies[0]["response_format"].(map[string]any)
		text, _ := json.Marshal(whole["json_schema"])
		if err := json.Unmarshal(text, &sent); err != nil {
			t.Fatal(err)
		}
		if sent.Strict != row.strict || !reflect.DeepEqual(sent.Schema["required"], any(row.required)) {
			t.Errorf("%s: sent %s", name, text)
		}
	}
}

func TestHeadersCarryKeyTraceAndWhatModelsYAMLAdds(t *testing.T) {
	t.Parallel()
	j := newJob(job.Batch)
	j.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	_, r := sent(t, j, nil, func(env *stage.Env) {
		p := env.Tasks.Providers["main"]
		p.Headers = map[string]string{"x-team": "growth"}
		p.HeadersEnv = map[string]string{"OpenAI-Organization": "ORG", "X-Unset": "NOT_SET"}
		get := env.Getenv
		env.Getenv = func(name string) string {
			if name == "ORG" {
				return "org-1"
			}
			return get(name)
		}
	})
	h := r.headers[0]
	for name, want := range map[string]string{
		"Authorization": "Bearer " + secret, "Traceparent": j.TraceParent, "X-Team": "growth", "Openai-Organization": "org-1",
		"X-Unset": "", "Idempotency-Key": "", "Api-Key": "", "Content-Type": "application/json", "Accept-Encoding": "",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if r.paths[0] != "/v1/chat/completions" {
		t.Errorf("path %s", r.paths[0])
	}
}

func TestAzureIsAskedByDeploymentWithItsOwnKeyHeader(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	root := strings.TrimSuffix(serve(t, r.ServeHTTP), "/v1")
	b := setup(t, root, func(env *stage.Env) {
		p := env.Tasks.Providers["main"]
		p.Kind, p.APIVersion = task.KindAzure, "2024-10-21"
		env.Tasks.Models["small"].ID = "gpt-3.5:prod"
	})
	if err := b.Handle(t.Context(), newJob(job.Batch)); err != nil {
		t.Fatal(err)
	}
	if want := "/openai/deployments/gpt-3.5:prod/chat/completions?api-version=2024-10-21"; r.paths[0] != want {
		t.Errorf("path %s, want %s", r.paths[0], want)
	}
	if h := r.headers[0]; h.Get("Api-Key") != secret || h.Get("Authorization") != "" {
		t.Errorf("api-key %q, Authorization %q", h.Get("Api-Key"), h.Get("Authorization"))
	}
}
