package job

import (
	"fmt"
	"time"

	"spillway/pkg/fate"
)

// MaxEvents bounds a history; MaxDetail bounds the text of one event, in bytes.
const (
	MaxEvents = 64
	MaxDetail = 512
	keepFirst = 8
)

// The kinds of events.
const (
	KindHop     = "hop"
	KindCall    = "call"
	KindVerdict = "verdict"
	KindRung    = "rung"
	KindCache   = "cache"
	KindContext = "context"
	KindVersion = "version"
	KindOmitted = "omitted"
)

// Event is one entry of a job's history: a hop, a call, a verdict of the validator, a rung, a look into the
// cache in place of a call, what a prompt is made of, or that another version of its task is at work.
type Event struct {
	Kind  string    `json:"kind"`
	Stage string    `json:"stage,omitempty"`
	At    time.Time `json:"at"`
	// Run is set where it is not 1.
	Run int `json:"run,omitempty"`
	// QueuedMS is the time in the inbox, TookMS the time in the stage or of the call, in milliseconds.
	QueuedMS int64 `json:"queued_ms"`
	TookMS   int64 `json:"took_ms"`
	// Fate says how a hop ended, when not by going on.
	Fate string    `json:"fate,omitempty"`
	Code fate.Code `json:"code,omitempty"`

	// N counts calls within the run, from 1; of a hop after which the job waited, how often in a row, when more than once.
	N            int    `json:"n,omitempty"`
	Model        string `json:"model,omitempty"`
	FirstTokenMS int64  `json:"first_token_ms,omitempty"`
	// Outcome is ok, a code, or for verdicts and rungs their name.
	Outcome           string `json:"outcome,omitempty"`
	ProviderRequestID string `json:"provider_request_id,omitempty"`
	// CountedTokens is what was counted before the call, InputTokens what the provider reported.
	CountedTokens int     `json:"counted_tokens,omitempty"`
	InputTokens   int     `json:"input_tokens,omitempty"`
	OutputTokens  int     `json:"output_tokens,omitempty"`
	CostUSD       float64 `json:"cost_usd,omitempty"`
	Rung          string  `json:"rung,omitempty"`
	// Sections are what a prompt is made of, in the order of the Section names.
	Sections []Section `json:"sections,omitempty"`
	// Detail is a sentence for a person, at most MaxDetail bytes.
	Detail string `json:"detail,omitempty"`
}

// Record appends e to the history. A history of more than MaxEvents keeps its first and its newest
// events and says how many it left out between them.
func (j *Job) Record(e Event) {
	e.Detail = Cut(e.Detail, MaxDetail)
	if j.Run > 1 {
		e.Run = j.Run
	}
	j.History = append(j.History, e)
	if len(j.History) <= MaxEvents {
		return
	}
	gap := &j.History[keepFirst]
	if gap.Kind != KindOmitted {
		*gap = Event{Kind: KindOmitted, At: gap.At, N: 1}
	}
	gap.N++
	gap.Detail = fmt.Sprintf("%d events are left out here", gap.N)
	j.History = append(j.History[:keepFirst+1], j.History[keepFirst+2:]...)
}

// Cut shortens s to at most limit bytes, at a character's border, and marks the cut.
func Cut(s string, limit int) string {
	const mark = "…"
	if len(s) <= limit {
		return s
	}
	end := limit - len(mark)
	for end > 0 && s[end]&0xC0 == 0x80 {
		end--
	}
	return s[:max(end, 0)] + mark
}

// Usage sums the tokens of all calls of a run, failed ones included.
type Usage struct {
	InputTokens  int `json:"input_tokens"`
	OutputTokens int `json:"output_tokens"`
	Calls        int `json:"calls"`
}
