// Package task loads and checks what a folder of schemas declares: the tasks, the models, the providers.
//
// Everything is checked at load; all faults are reported at once, each with its file and line or pointer.
// A loaded Set is immutable and safe for concurrent use.
package task

import (
	"text/template"
	"time"

	"spillway/pkg/expr"
	"spillway/pkg/schema"
)

// Set is a loaded folder of schemas.
type Set struct {
	Tasks     map[string]*Task
	Models    map[string]*Model
	Providers map[string]*Provider
}

// Task is one LLM feature.
type Task struct {
	Name string
	// Version is a hash (8 hexadecimal digits) over the folder's files and the resolved entries of its models.
	Version     string
	Description string
	Owner       string

	Model      string
	Parameters Parameters

	MaxInputBytes int
	Lane          string
	Deadline      Deadline
	Timeouts      Timeouts
	Retry         Retry
	Ladder        []Rung
	// NoLadder is the reason given for an empty ladder.
	NoLadder     string
	AfterRefusal string
	KeepDegraded bool

	Output     Output
	Correction Correction
	Context    Context
	Cache      Cache

	// Input and State are nil when the task declares no such schema. OutputSchema is nil for text.
	Input        *schema.Schema
	OutputSchema *schema.Schema
	State        *schema.Schema
	Prompt       Prompt
	Canned       []Canned
	Cases        []Case
	// ShapeHash is a hash over what shapes an answer besides input: prompt, output schema, model, parameters.
	ShapeHash string
}

// Parameters are sent with each call. nil and "" are not sent.
type Parameters struct {
	Temperature      *float64
	TopP             *float64
	FrequencyPenalty *float64
	PresencePenalty  *float64
	Seed             *int
	Stop             []string
	ReasoningEffort  string
	// MaxOutputTokens: 0: what the context leaves, at most the model's maximum.
	MaxOutputTokens int
}

// Deadline bounds a run. Reserve is kept for the ladder: model work ends this long before the deadline.
type Deadline struct {
	Default, Max, Reserve time.Duration
}

// Timeouts of a call. In a Task 0 means the model's; in a Model they are resolved.
type Timeouts struct {
	Connect, FirstToken, Silence, Call time.Duration
}

// Retry is a task's policy on one model, first call included.
type Retry struct {
	Attempts      int
	MaxCalls      int
	FirstDelay    time.Duration
	Factor        float64
	MaxDelay      time.Duration
	Jitter        float64
	RetryAfterMax time.Duration
	// Interactive overrides Attempts and FirstDelay on that lane.
	InteractiveAttempts   int
	InteractiveFirstDelay time.Duration
}

// The kinds of rungs.
const (
	RungCache  = "cache"
	RungModel  = "model"
	RungCanned = "canned"
)

// Rung is one degraded answer of the ladder.
type Rung struct {
	Kind   string
	MaxAge time.Duration
	Model  string
}

// The formats of an output.
const (
	FormatJSON = "json"
	FormatText = "text"
)

// Output is what the validator demands.
type Output struct {
	Format               string
	MaxBytes             int
	ProviderSchema       string
	AdditionalProperties string
	OptionalNull         string
	Coerce               bool
	Repair               bool
	Stream               string
	Rules                []Rule
}

// Rule is a semantic rule over input and output. Say is fed back to the model.
type Rule struct {
	Name string
	Expr *expr.Program
	Say  string
}

// Correction is how often, and at which price, errors are fed back.
type Correction struct {
	Times        int
	MaxTokens    int
	LastOn       string
	OnTruncation string
}

// Context is what the model sees.
type Context struct {
	MaxInputTokens int
	Reserve        float64
	Session        string
	// StateInPrompt are the JSON pointers of the state that a template may read.
	StateInPrompt []string
}

// Cache is how answers are kept.
type Cache struct {
	Serve    string
	FreshFor time.Duration
	Keep     time.Duration
	Scope    string
	Key      []string
}

// Prompt is a parsed prompt.tmpl. Each part is executed with PromptData.
type Prompt struct {
	System *template.Template // nil: none
	User   *template.Template
	// Examples are few-shot pairs, in order: templates "user.1" and "assistant.1", "user.2" …
	Examples []Example
}

// Example is a few-shot pair.
type Example struct {
	User, Assistant *template.Template
}

// PromptData is what a template sees: .Input, .State, .Schema (the output schema's text).
type PromptData struct {
	Input  any
	State  map[string]any
	Schema string
}

// Canned is a prepared answer. When is nil for the rule that always matches.
type Canned struct {
	When   *expr.Program
	Output []byte // canonical JSON
}

// Case is a recorded example of cases/*.yaml.
type Case struct {
	Name    string
	Input   []byte // JSON
	State   []byte // JSON
	Answers []CaseAnswer
	Expect  CaseExpect
}

// CaseAnswer is what the model said to one call.
type CaseAnswer struct {
	Content      string
	FinishReason string
	Refusal      string
}

// CaseExpect is what must come of it.
type CaseExpect struct {
	Verdict string
	Errors  []CaseError
	Output  []byte // JSON; nil: not checked
	Calls   int    // 0: not checked
}

// CaseError is one expected error of the first answer.
type CaseError struct {
	Pointer string
	Got     any
}

// Model is an entry of models.yaml, with defaults resolved.
type Model struct {
	Name             string
	Provider         string
	ID               string
	AnswersAs        string
	ContextWindow    int
	MaxOutputTokens  int
	Encoding         string
	TokenSafety      float64
	StructuredOutput string // json_schema | json_object | none
	SystemRole       string // system | developer
	MaxTokensField   string // max_tokens | max_completion_tokens
	Stream           bool
	StreamUsage      bool
	Unsupported      []string
	Prices           Prices
	Limits           Limits
	Timeouts         Timeouts
	Breaker          Breaker
	RetryShare       float64
}

// Prices are USD per million tokens.
type Prices struct {
	AsOf                       string
	Input, CachedInput, Output float64
}

// Limits of a model or a provider, over all replicas. 0: none.
type Limits struct {
	Concurrency       int
	RequestsPerMinute int
	TokensPerMinute   int
	BatchShare        float64
}

// Breaker is when a model's circuit opens and closes.
type Breaker struct {
	ConsecutiveFailures int
	FailureShare        float64
	MinCalls            int
	Window              time.Duration
	HalfOpenAfter       time.Duration
	Probes              int
}

// The kinds of providers.
const (
	KindOpenAI    = "openai"
	KindAzure     = "azure"
	KindSimulated = "simulated"
)

// Provider is an endpoint. No secret stands in it: APIKeyEnv names a variable, APIKeyFile a file.
type Provider struct {
	Name             string
	Kind             string
	BaseURL          string
	BaseURLEnv       string
	APIVersion       string
	APIKey           string // only "none"
	APIKeyEnv        string
	APIKeyFile       string
	Headers          map[string]string
	HeadersEnv       map[string]string
	CAFile           string
	RateLimitHeaders string
	Limits           Limits
}
