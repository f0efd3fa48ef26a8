package job

import "encoding/json"

// MaxRequestBytes is the largest request that any task can take.
const MaxRequestBytes = 256 << 10

// Request is what a client publishes. Only Input is required; unknown fields are refused.
type Request struct {
	ID    string          `json:"id,omitempty"`
	Input json.RawMessage `json:"input"`
	// Session joins requests to a conversation.
	Session string `json:"session,omitempty"`
	// Deadline is a duration (30s, 10m), counted from the acknowledgement.
	Deadline string `json:"deadline,omitempty"`
	// Lane is for the doors; on NATS the subject says it.
	Lane   string `json:"lane,omitempty"`
	Tenant string `json:"tenant,omitempty"`
	Stream bool   `json:"stream,omitempty"`
	// Cache is allow (default), renew or bypass.
	Cache    string          `json:"cache,omitempty"`
	Webhook  *Webhook        `json:"webhook,omitempty"`
	Parent   string          `json:"parent,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// What a request says of the cache.
const (
	CacheAllow = "allow"
	// CacheRenew: no cached answer in place of a call; this one is kept.
	CacheRenew = "renew"
	// CacheBypass: no cached answer at all, and this one is not kept.
	CacheBypass = "bypass"
)

// Receipt answers llm.submit.<task> and llm.cancel.<id>.
type Receipt struct {
	ID string `json:"id,omitempty"`
	// Status is acknowledged or duplicate; of a cancellation, cancelling or the status of the result that
	// came first.
	Status        string   `json:"status,omitempty"`
	ResultSubject string   `json:"result_subject,omitempty"`
	Error         *Failure `json:"error,omitempty"`
}
