package job

import (
	"encoding/json"
	"time"

	"spillway/pkg/fate"
)

// Status is how a run ended.
type Status string

// The statuses. All are terminal.
const (
	Succeeded Status = "succeeded"
	Degraded  Status = "degraded"
	Rejected  Status = "rejected"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Source is who made an output.
type Source string

// The sources.
const (
	FromModel  Source = "model"
	FromCache  Source = "cache"
	FromCanned Source = "canned"
)

// What a recovery may be, besides the outcomes of the validator's steps.
const (
	RecoveryStrict    = "strict"
	RecoveryCorrected = "corrected"
)

// Outcome is how a run ends: the part of a result that a stage decides.
type Outcome struct {
	Status Status          `json:"status"`
	Output json.RawMessage `json:"output,omitempty"`
	Source Source          `json:"source,omitempty"`
	// Model is the name in models.yaml, AnsweredBy what the provider calls it.
	Model      string `json:"model,omitempty"`
	AnsweredBy string `json:"answered_by,omitempty"`
	// Recovery says how the output was won from the model's text: strict, extracted, repaired, corrected.
	Recovery string `json:"recovery,omitempty"`
	// AgeMS is how old a cached output is, in milliseconds; nil for other sources.
	AgeMS    *int64       `json:"age_ms,omitempty"`
	Degraded *Degradation `json:"degraded,omitempty"`
	Error    *Failure     `json:"error,omitempty"`
}

// Degradation says why and how an answer is not the task's own model's.
type Degradation struct {
	Reason fate.Code `json:"reason"`
	// Rung is cache, model or canned; a model rung names its model in the result.
	Rung string `json:"rung"`
	// AgeMS is how old a cached answer is, in milliseconds; 0 for the other rungs.
	AgeMS int64 `json:"age_ms"`
}

// Failure says why there is no output.
type Failure struct {
	Code    fate.Code `json:"code"`
	Message string    `json:"message"`
	// Pointer leads to the first reason's place in the request; "" when there is none.
	Pointer string        `json:"pointer"`
	Reasons []fate.Reason `json:"reasons,omitempty"`
	// DeadLetter is the subject of the kept job; "" when none is kept.
	DeadLetter string `json:"dead_letter"`
}

// Result is the terminal message of a run, as it is stored and republished.
type Result struct {
	V           int             `json:"v"`
	ID          string          `json:"id"`
	Run         int             `json:"run"`
	Supersedes  *uint64         `json:"supersedes"`
	Task        string          `json:"task"`
	TaskVersion string          `json:"task_version"`
	Tenant      string          `json:"tenant"`
	Status      Status          `json:"status"`
	Output      json.RawMessage `json:"output"`
	Source      Source          `json:"source"`
	Model       string          `json:"model"`
	AnsweredBy  string          `json:"answered_by"`
	Recovery    string          `json:"recovery"`
	AgeMS       *int64          `json:"age_ms"`
	Degraded    *Degradation    `json:"degraded"`
	Error       *Failure        `json:"error"`
	Usage       Usage           `json:"usage"`
	CostUSD     float64         `json:"cost_usd"`
	History     []Event         `json:"history"`
	TraceID     string          `json:"trace_id"`
	// AcknowledgedAt is when JetStream stored the request (of a replay: the replay's).
	AcknowledgedAt time.Time `json:"acknowledged_at"`
	FinishedAt     time.Time `json:"finished_at"`
	Deadline       time.Time `json:"deadline"`
	// Late is true when the deadline was missed; such results are counted.
	Late     bool            `json:"late"`
	Parent   *string         `json:"parent"`
	Session  string          `json:"session,omitempty"`
	Metadata json.RawMessage `json:"metadata"`
}

// Result makes the terminal message of the job's run, finished at now. The job needs an Outcome.
func (j *Job) Result(now time.Time) *Result {
	o := j.Outcome
	r := &Result{
		V: Version, ID: j.ID, Run: j.Run, Task: j.Task, TaskVersion: j.TaskVersion, Tenant: j.Tenant,
		Status: o.Status, Output: o.Output, Source: o.Source, Model: o.Model, AnsweredBy: o.AnsweredBy,
		Recovery: o.Recovery, AgeMS: o.AgeMS, Degraded: o.Degraded, Error: o.Error,
		Usage: j.Usage, CostUSD: j.CostUSD, History: j.History, TraceID: TraceID(j.TraceParent),
		AcknowledgedAt: j.AcknowledgedAt, FinishedAt: now, Deadline: j.Deadline,
		Late: !j.Deadline.IsZero() && now.After(j.Deadline), Session: j.Session, Metadata: j.Metadata,
	}
	if j.Supersedes != 0 {
		r.Supersedes = &j.Supersedes
	}
	if j.Parent != "" {
		r.Parent = &j.Parent
	}
	return r
}

// TraceID returns the trace id of a W3C traceparent (version-traceid-parentid-flags), or "".
func TraceID(traceparent string) string {
	if len(traceparent) >= 55 && traceparent[2] == '-' && traceparent[35] == '-' {
		return traceparent[3:35]
	}
	return ""
}
