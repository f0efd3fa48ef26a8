// Package job is the domain: what a client publishes, what travels between the stages, what comes back.
//
// It depends on the standard library alone and does no input or output. Names and meanings are those of
// the wire: the JSON of these types is the contract between processes of different ages, so fields are
// added, never reused.
package job

import (
	"encoding/json"
	"regexp"
	"time"

	"spillway/pkg/fate"
)

// Version is the version of the messages between stages, and of results, on the wire.
const Version = 1

// The lanes.
const (
	Interactive = "interactive"
	Batch       = "batch"
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// IsID reports whether s can be an id: it becomes a token of subjects.
func IsID(s string) bool { return idPattern.MatchString(s) }

var labelPattern = regexp.MustCompile(`^[A-Za-z0-9_.@:=/-]{1,128}$`)

// IsLabel reports whether s can be a tenant or a session.
func IsLabel(s string) bool { return labelPattern.MatchString(s) }

// Job is an admitted request on its way through the stages.
//
// The fields without a JSON name are for the time that a stage has the job in its hands; they end with
// the hop.
type Job struct {
	V           int    `json:"v"`
	ID          string `json:"id"`
	Task        string `json:"task"`
	TaskVersion string `json:"task_version,omitempty"`
	Tenant      string `json:"tenant,omitempty"`
	Lane        string `json:"lane"`
	Session     string `json:"session,omitempty"`
	Parent      string `json:"parent,omitempty"`
	TraceParent string `json:"traceparent,omitempty"`
	// RequestSeq is where the lane's request stream stored the request: the order of acceptance. 0: not known.
	RequestSeq uint64 `json:"request_seq,omitempty"`

	// Run is 1, +1 for each replay. Hop counts hand-overs within the run.
	Run int `json:"run"`
	Hop int `json:"hop"`
	// Supersedes is the stream sequence of the result that this run replaces; 0: there is none.
	Supersedes uint64 `json:"supersedes,omitempty"`

	AcknowledgedAt time.Time `json:"acknowledged_at"`
	Deadline       time.Time `json:"deadline"`
	// HandedOverAt is when the last stage let go of the job, for the time in the queue.
	HandedOverAt time.Time `json:"handed_over_at"`
	// NotBefore is when a retried or parked job may start. Zero: at once.
	NotBefore time.Time `json:"not_before,omitzero"`

	Input    json.RawMessage `json:"input,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Webhook  *Webhook        `json:"webhook,omitempty"`
	Stream   bool            `json:"stream,omitempty"`
	// CacheBypass is true when the client wants no cached answer.
	CacheBypass bool `json:"cache_bypass,omitempty"`
	// CacheRenew is true when the client wants a call, though a cached answer is young enough.
	CacheRenew bool `json:"cache_renew,omitempty"`
	// CacheKey names the answers that may stand in for this job's; "": none may.
	CacheKey string `json:"cache_key,omitempty"`
	// Mixed is true when a stage worked on the job under another version of the task than TaskVersion, which could not
	// be had: its answer is nobody else's.
	Mixed bool `json:"mixed,omitempty"`

	// Model is the name in models.yaml that inference calls next.
	Model string `json:"model,omitempty"`
	// Prompt is the rendered messages, from context-builder on.
	Prompt Prompt `json:"messages,omitzero"`
	// PromptTokens is the count of Prompt, made before the call.
	PromptTokens int `json:"prompt_tokens,omitempty"`
	// State is the session's working state when the prompt was built, whole, for the rules of canned answers.
	State json.RawMessage `json:"state,omitempty"`
	// MaxOutputTokens is the limit of the next call; 0: the task's.
	MaxOutputTokens int `json:"max_output_tokens,omitempty"`
	// Answer is what the model said last, from inference to the validator.
	Answer *Answer `json:"answer,omitempty"`
	// Correction is the dialogue of the correction under way; it is sent behind Prompt.
	Correction []Message `json:"correction,omitempty"`
	// Corrections counts the corrections of the run, on all models. CorrectionTokens is what they cost.
	Corrections      int `json:"corrections,omitempty"`
	CorrectionTokens int `json:"correction_tokens,omitempty"`
	// Attempts counts the failed calls in a row to Model.
	Attempts int `json:"attempts,omitempty"`
	// Calls counts the paid calls of the run.
	Calls int `json:"calls,omitempty"`
	// Raised is true when MaxOutputTokens was doubled after a truncated answer.
	Raised bool `json:"raised,omitempty"`

	// Drafted is true when drafts of this run were published.
	Drafted bool `json:"drafted,omitempty"`

	// Trouble is why the job is on the ladder; nil: it is not. Setback is why its last rung failed; nil:
	// none did. Rung is the index of the rung to try next.
	Trouble *Trouble `json:"trouble,omitempty"`
	Setback *Trouble `json:"setback,omitempty"`
	Rung    int      `json:"rung,omitempty"`
	// Minimal is true for a job made from id and task alone, to say that the real one could not be told.
	Minimal bool `json:"minimal,omitempty"`

	// Outcome is how the run ends, for result-writer. nil: not ended.
	Outcome *Outcome `json:"outcome,omitempty"`

	Usage   Usage   `json:"usage"`
	CostUSD float64 `json:"cost_usd"`
	History []Event `json:"history,omitempty"`

	// To names the stage that gets the job when the handler returns nil; "": the next in the pipeline.
	To string `json:"-"`
	// Keep asks that a copy be kept as a dead letter when the job is handed over.
	Keep *Letter `json:"-"`
	// ForgetDead is the stream sequence of the dead letter that this run was made from; it is deleted
	// once the job is handed over. 0: none.
	ForgetDead uint64 `json:"-"`
	// Arrival is how the job came; the runner sets it.
	Arrival Arrival `json:"-"`
	// Shrunk is true once Shrink was called.
	Shrunk bool `json:"-"`
	// Raw is the message as it came, for stages that decode it themselves.
	Raw []byte `json:"-"`
}

// Arrival is what the broker says of the delivery at hand.
type Arrival struct {
	// Subject is where the message was published.
	Subject string
	// Header holds the message's headers, first value each, only for raw messages.
	Header map[string]string
	// Stream, Sequence and At identify the message: At is the moment of its PubAck.
	Stream   string
	Sequence uint64
	At       time.Time
	// Deliveries is 1 for the first delivery. After a broker's crash it may be too low.
	Deliveries int
}

// Message is one message of a prompt.
type Message struct {
	// Role is system, user or assistant.
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Answer is what a model said, unchecked.
type Answer struct {
	Content string `json:"content"`
	// FinishReason is in the words of OpenAI, where those of the provider are known: stop, length, content_filter, …
	FinishReason string `json:"finish_reason"`
	Refusal      string `json:"refusal,omitempty"`
	// AnsweredBy is the model that the provider names in the response.
	AnsweredBy string `json:"answered_by,omitempty"`
}

// Trouble is why a stage diverted the job.
type Trouble struct {
	Stage   string    `json:"stage"`
	Code    fate.Code `json:"code"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
	// Stack is where the stage panicked; "": it did not.
	Stack string `json:"stack,omitempty"`
}

// Webhook is where the client wants the result posted.
type Webhook struct {
	URL string `json:"url"`
}

// Left returns how much of the time until the deadline is left at now, less reserve. It may be negative.
func (j *Job) Left(now time.Time, reserve time.Duration) time.Duration {
	return j.Deadline.Sub(now) - reserve
}

// Shrink drops what a later stage can do without, from a job that grew beyond what a message may hold.
// The input stays: it is bounded at the door, and a replay needs it.
func (j *Job) Shrink() {
	j.Prompt, j.Correction, j.Answer, j.Shrunk = Prompt{}, nil, nil, true
	for i := range j.History {
		j.History[i].Detail = Cut(j.History[i].Detail, MaxDetail/4)
	}
}

// Stub makes a minimal job of the same id and run, which ends as failed.
func (j *Job) Stub(f Failure) *Job {
	return &Job{
		V: Version, ID: j.ID, Task: j.Task, TaskVersion: j.TaskVersion, Tenant: j.Tenant, Lane: j.Lane,
		TraceParent: j.TraceParent, RequestSeq: j.RequestSeq, Run: j.Run, Hop: j.Hop, Supersedes: j.Supersedes,
		AcknowledgedAt: j.AcknowledgedAt, Deadline: j.Deadline, Minimal: true,
		Session: j.Session, Parent: j.Parent, Metadata: j.Metadata,
		Usage: j.Usage, CostUSD: j.CostUSD, History: j.History,
		Outcome: &Outcome{Status: Failed, Error: &f},
	}
}

// Fail sets the outcome of a run that ends without an output.
func (j *Job) Fail(code fate.Code, message, deadLetter string) {
	j.Outcome = &Outcome{Status: Failed, Error: &Failure{Code: code, Message: message, DeadLetter: deadLetter}}
}
