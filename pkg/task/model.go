package task

import "time"

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

	// entry is the entry as it is written, over the defaults: canonical JSON.
	entry []byte
}

// Entry is the model's entry in models.yaml as versions of tasks count it: over the defaults, as canonical JSON. It
// must not be changed.
func (m *Model) Entry() []byte { return m.entry }

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
