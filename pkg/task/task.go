// Package task loads and checks what a folder of schemas declares: the tasks, the models, the providers.
//
// Everything is checked at load; all faults are reported at once, each with its file and line or pointer.
// A loaded Set is immutable and safe for concurrent use.
package task

import (
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
	// MaxInFlight bounds the task's jobs at once, over all replicas; 0: only the model's limits count.
	MaxInFlight int
	Deadline    Deadline
	Timeouts    Timeouts
	Retry       Retry
	OnOutage    OnOutage
	Ladder      []Rung
	// NoLadder is the reason given for an empty ladder.
	NoLadder     string
	AfterRefusal string
	KeepDegraded bool

	Output     Output
	Correction Correction
	Context    Context
	Cache      Cache
	Retention  Retention
	Delivery   Delivery
	Redaction  Redaction
	Budget     Budget

	// Input and State are nil when the task declares no such schema. OutputSchema is nil for text.
	Input        *schema.Schema
	OutputSchema *schema.Schema
	State        *schema.Schema
	Prompt       Prompt
	Canned       []Canned
	Cases        []Case
	// Warm are inputs to be answered before somebody asks, from warm.jsonl: JSON, one each.
	Warm [][]byte
	// Models are the entries of the models that the task may call, as this version has them.
	Models map[string]*Model
	// Simulated: it calls the model "simulated" and no other, whatever its files say.
	Simulated bool
	// ShapeHash is a hash over what shapes an answer besides its input: prompt, model and where it is called,
	// parameters, output schema and rules, context.
	ShapeHash string
	// Files are the files of the task's folder by their path in it. They must not be changed.
	Files map[string][]byte
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
	// Interactive overrides Attempts and FirstDelay on that lane. Load resolves it: without an override they
	// are the same.
	InteractiveAttempts   int
	InteractiveFirstDelay time.Duration
}

// OnOutage is what happens on a lane while the breaker of the task's model is open.
type OnOutage struct {
	Interactive, Batch string
}

// What may happen in an outage: go to the ladder, or park for the model.
const (
	OutageDegrade = "degrade"
	OutageWait    = "wait"
)

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

// Whether what a model says is published while it says it, to those who ask for it.
const (
	StreamDraft = "draft"
	StreamNever = "never"
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

// What a task's requests have to do with sessions: nothing, what the client chooses, or each has one.
const (
	SessionNone     = "none"
	SessionOptional = "optional"
	SessionRequired = "required"
)

// The order of the requests of a session.
const (
	OneAtATime = "one_at_a_time"
	AsAccepted = "as_accepted"
)

// Context is what the model sees.
type Context struct {
	// MaxInputTokens: 0: the model's window less the reserve.
	MaxInputTokens int
	// Reserve is the share of the window that is kept for the response.
	Reserve float64
	Session string
	// Order is of the jobs of a session: one_at_a_time, so that the next sees the answer, or as_accepted.
	Order string
	// TurnsFrom and DocumentsFrom are JSON pointers into the input; "": none. There is no session where TurnsFrom is.
	TurnsFrom     string
	DocumentsFrom string
	// RecentTurns are given verbatim; older ones as Summary says.
	RecentTurns int
	Summary     *Summary // nil: none
	// StateInPrompt are the JSON pointers of the state that a template may read.
	StateInPrompt []string
	StateUpdate   []StateUpdate
}

// Summary is how older turns are compressed: by another task.
type Summary struct {
	Task      string
	MaxTokens int
}

// StateUpdate sets a part of the session's state from an answer.
type StateUpdate struct {
	Pointer string
	Expr    *expr.Program
}

// When kept answers are served: in place of a call, in place of one that failed, or never. ServeFresh includes
// ServeFallback.
const (
	ServeFresh    = "fresh"
	ServeFallback = "fallback"
	ServeNever    = "never"
)

// ScopeEveryone lets the answer to one tenant be given to all.
const ScopeEveryone = "everyone"

// Cache is how answers are kept.
type Cache struct {
	Serve string
	// FreshFor is how old an answer may be that is served in place of a call.
	FreshFor time.Duration
	// Keep is how long answers are kept; 0: not at all.
	Keep  time.Duration
	Scope string
	Key   []string
}

// Retention is how long things are kept, at most as long as their streams do.
type Retention struct {
	Result, Dead, Session time.Duration
}

// Delivery is where results go besides their subject.
type Delivery struct {
	Postgres bool
	Webhook  string // allowed | refused
}

// LogNever keeps prompts and answers from wherever they could be looked at.
const LogNever = "never"

// Redaction is what never stands in logs, traces and progress.
type Redaction struct {
	Detect []string
	// Fields are JSON pointers into the input.
	Fields []string
	// LogContent is the level that shows prompts and answers: debug, info or never.
	LogContent string
}

// Budget bounds the price of a job. 0: none.
type Budget struct {
	USDPerRequest float64
}
