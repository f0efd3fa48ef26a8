package job

import (
	"encoding/json"
	"time"

	"spillway/pkg/fate"
)

// MaxMarkedMetadata bounds, in bytes, what a marker keeps of a request's metadata.
const MaxMarkedMetadata = 2 << 10

// Marker is the small record that admits an id, once. Its holder is the one request (or, for later runs,
// the one replay) whose stream and sequence it names.
type Marker struct {
	V           int    `json:"v"`
	ID          string `json:"id"`
	Task        string `json:"task"`
	TaskVersion string `json:"task_version,omitempty"`
	Tenant      string `json:"tenant,omitempty"`
	Lane        string `json:"lane"`
	// RequestStream and RequestSeq identify the request that was admitted.
	RequestStream string `json:"request_stream"`
	RequestSeq    uint64 `json:"request_seq"`
	// BodyHash is the hash of task and body, for telling a duplicate from a conflict.
	BodyHash       string    `json:"body_hash"`
	AcknowledgedAt time.Time `json:"acknowledged_at"`
	Deadline       time.Time `json:"deadline"`
	// AnswerBy is when fallback answers from the ladder what has no result by then.
	AnswerBy time.Time `json:"answer_by"`
	CacheKey string    `json:"cache_key,omitempty"`
	// Canned is the index of the canned answer for this input, from 1; 0: none.
	Canned      int    `json:"canned,omitempty"`
	TraceParent string `json:"traceparent,omitempty"`
	// Session, Parent and Metadata are given back in a result that is made without the job. Metadata longer
	// than MaxMarkedMetadata is not.
	Session  string          `json:"session,omitempty"`
	Parent   string          `json:"parent,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	// Run is the newest run; ReplaySeq the sequence of the replay that started it, 0 for run 1.
	Run       int    `json:"run"`
	ReplaySeq uint64 `json:"replay_seq,omitempty"`
	// Supersedes is the sequence of the result that the run replaces; 0: none.
	Supersedes uint64 `json:"supersedes,omitempty"`
}

// Letter is a dead letter: a job that a stage could not finish, with the reason.
type Letter struct {
	V       int       `json:"v"`
	Stage   string    `json:"stage"`
	Code    fate.Code `json:"code"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
	// Degraded is true when the client did get an answer, from the ladder.
	Degraded bool `json:"degraded,omitempty"`
	// Stack is the stack of a panic.
	Stack string `json:"stack,omitempty"`
	// Job is the whole job; nil for Raw, a message that was no job.
	Job *Job   `json:"job,omitempty"`
	Raw []byte `json:"raw,omitempty"`
}

// IsReplayable reports whether the letter holds what a new run needs: a job with its input.
func (l *Letter) IsReplayable() bool { return l.Job != nil && !l.Job.Minimal && len(l.Job.Input) > 0 }

// CachedAnswer is a checked answer of a model, kept to stand in for one that cannot be had.
type CachedAnswer struct {
	V           int             `json:"v"`
	ID          string          `json:"id"`
	Task        string          `json:"task"`
	TaskVersion string          `json:"task_version"`
	Tenant      string          `json:"tenant"`
	Output      json.RawMessage `json:"output"`
	Model       string          `json:"model"`
	AnsweredBy  string          `json:"answered_by"`
	At          time.Time       `json:"at"`
}

// Job makes a job of what the marker knows: enough to end the run, not to do its work.
func (m *Marker) Job() *Job {
	return &Job{
		V: Version, ID: m.ID, Task: m.Task, TaskVersion: m.TaskVersion, Tenant: m.Tenant, Lane: m.Lane,
		TraceParent: m.TraceParent, RequestSeq: m.RequestSeq, Run: m.Run, Supersedes: m.Supersedes, AcknowledgedAt: m.AcknowledgedAt,
		Deadline: m.Deadline, CacheKey: m.CacheKey,
		Session: m.Session, Parent: m.Parent, Metadata: m.Metadata,
	}
}
