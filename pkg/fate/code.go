package fate

import "slices"

//go:generate go test -run TestTheTableOfCodesIsCurrent -update

// Code is why a run ended without a model's checked answer. The set is closed: Codes lists all.
type Code string

// Codes of a rejected request: the client must change it.
const (
	BadJSON        Code = "bad_json"
	UnknownField   Code = "unknown_field"
	InvalidRequest Code = "invalid_request"
	UnknownTask    Code = "unknown_task"
	InputInvalid   Code = "input_invalid"
	TooLarge       Code = "too_large"
	IDConflict     Code = "id_conflict"
	TemplateError  Code = "template_error"
	SessionCrowded Code = "session_crowded"
	TaskPaused     Code = "task_paused"
)

// ContextTooLong is rejected by context-builder (counted before a call) or failed (said by a provider).
const ContextTooLong Code = "context_too_long"

// Codes of a failed, or when the ladder had an answer degraded, run.
const (
	ProviderRateLimited    Code = "provider_rate_limited"
	ProviderQuota          Code = "provider_quota"
	ProviderAuth           Code = "provider_auth"
	ProviderRefusedRequest Code = "provider_refused_request"
	ProviderUnavailable    Code = "provider_unavailable"
	ProviderUnreachable    Code = "provider_unreachable"
	ProviderTimeout        Code = "provider_timeout"
	ProviderCut            Code = "provider_cut"
	ProviderEmpty          Code = "provider_empty"
	OutputInvalid          Code = "output_invalid"
	OutputTruncated        Code = "output_truncated"
	OutputTooLarge         Code = "output_too_large"
	Refused                Code = "refused"
	Deadline               Code = "deadline"
	CallsSpent             Code = "calls_spent"
	OverBudget             Code = "over_budget"
	Crashed                Code = "crashed"
	TooManyDeliveries      Code = "too_many_deliveries"
	Undecodable            Code = "undecodable"
	JobTooLarge            Code = "job_too_large"
	Internal               Code = "internal"
)

// Codes of a refused operator's command: they are told, and never end a run.
const (
	NotFound       Code = "not_found"
	NotReplayable  Code = "not_replayable"
	ReplayInFlight Code = "replay_in_flight"
)

// Codes of a door's refusal: they are told, and never end a run.
const (
	Unauthorized     Code = "unauthorized"
	Forbidden        Code = "forbidden"
	RateLimited      Code = "rate_limited"
	Gone             Code = "gone"
	DoorFull         Code = "door_full"
	Unavailable      Code = "unavailable"
	Draining         Code = "draining"
	UnsupportedMedia Code = "unsupported_media_type"
	NoSuchRoute      Code = "no_such_route"
	MethodNotAllowed Code = "method_not_allowed"
)

// Description is a row of the table of codes.
type Description struct {
	Code    Code   `json:"code"`
	Status  string `json:"status"`
	Meaning string `json:"meaning"`
	Remedy  string `json:"remedy"`
}

var codes = []Description{
	{BadJSON, "rejected", "The request is not one JSON object.", "Send {\"input\": …} as UTF-8 JSON."},
	{UnknownField, "rejected", "The request has a field that Spillway does not know.", "Remove it, or put your own data into metadata."},
	{InvalidRequest, "rejected", "A field of the request has a wrong type or value.", "See the reasons: each names its pointer."},
	{UnknownTask, "rejected", "No task of this name is loaded.", "`spillway task ls` lists the tasks."},
	{InputInvalid, "rejected", "The input does not satisfy the task's input schema.", "See the reasons: each names its pointer."},
	{TooLarge, "rejected", "The request is larger than the task takes.", "Send less, or raise input.max_bytes (at most 256KiB)."},
	{IDConflict, "none", "The id was admitted before with another body. The first request is not touched.", "Use a new id for a new request."},
	{TemplateError, "rejected", "The task's prompt template failed on this input.", "Fix prompt.tmpl; `spillway task check`."},
	{SessionCrowded, "rejected", "The session has too many requests waiting.", "Wait for results of the session before you send more, or use more sessions."},
	{TaskPaused, "rejected", "An operator has paused the task: it takes no new requests. Jobs in flight and replays go on.", "Wait until it is resumed, and send the request again, if it was rejected under a new id; `spillway task ls`, `spillway task resume`."},
	{ContextTooLong, "rejected or failed", "The prompt does not fit the model's window.", "Send less; the message says by how many tokens."},
	{ProviderRateLimited, "failed", "The provider answered 429 for as long as the job could wait.", "Replay later, or raise the quota."},
	{ProviderQuota, "failed", "The provider says that the account's quota is spent.", "Pay the bill, then replay."},
	{ProviderAuth, "failed", "The provider refused the API key.", "Fix the key, then replay."},
	{ProviderRefusedRequest, "failed", "The provider refused the request as malformed, or does not know the model.", "Check models.yaml and the task's parameters."},
	{ProviderUnavailable, "failed", "The provider answered with a server error, or the breaker of the model or its provider is open.", "Replay after the outage; `spillway breaker ls`."},
	{ProviderUnreachable, "failed", "No connection to the provider (refused, reset, DNS, TLS).", "Check base_url and the network, then replay."},
	{ProviderTimeout, "failed", "The provider sent nothing, or too slowly, for longer than the model's timeouts.", "Replay after the outage, or raise timeouts."},
	{ProviderCut, "failed", "The provider's stream ended before a finish reason.", "Replay."},
	{ProviderEmpty, "failed", "The provider answered 200 without an answer in it.", "Replay; see the provider's status page."},
	{OutputInvalid, "failed", "The model's answer did not satisfy the output schema, corrections included.", "Look at the dead letter; improve prompt or schema, then replay."},
	{OutputTruncated, "failed", "The model's answer was cut at its token limit.", "Raise max_output_tokens, then replay."},
	{OutputTooLarge, "failed", "The model's answer is larger than the task or Spillway takes.", "Lower max_output_tokens, or raise output.max_bytes."},
	{Refused, "failed", "The model, or the provider's content filter, refused to answer.", "Change the input."},
	{Deadline, "failed", "The deadline came first.", "Ask for a longer deadline, or replay."},
	{CallsSpent, "failed", "The job used all the model calls that it may (retry.max_calls).", "Replay, or raise max_calls."},
	{OverBudget, "failed", "The job's next call would cost more than budget.usd_per_request.", "Send less, or raise budget.usd_per_request, then replay."},
	{Crashed, "failed", "A stage panicked on this job. The dead letter has the stack.", "Report it, then replay."},
	{TooManyDeliveries, "failed", "The job was delivered too often without an end: its processes died on it.", "Look at the dead letter, then replay."},
	{Undecodable, "failed", "A message in an inbox is no job. It is kept as it came.", "Find who publishes on llm.stage.>."},
	{JobTooLarge, "failed", "The job grew beyond what a message may hold.", "Send less input, or shorten the prompt."},
	{Internal, "failed", "A part of the pipeline failed.", "See the logs of the stage, then replay."},
	{NotFound, "none", "Nothing is known of this id.", "It was never acknowledged, or its records expired."},
	{NotReplayable, "none", "The run did not end in a dead letter.", "Only dead, failed and degraded jobs are replayed."},
	{ReplayInFlight, "none", "An earlier replay of this job has not ended yet.", "Wait for its result."},
	{Unauthorized, "none", "The door wants an API key, or a token of this job or session, and got none that holds.", "Send Authorization: Bearer <key>; `spillway key create` makes one."},
	{Forbidden, "none", "The key may not do this: another tenant, task or scope, or a page from another origin.", "Use a key that may; `spillway key ls` lists what each may, --cors-origin the pages."},
	{RateLimited, "none", "The key's requests come faster than its rate.", "Wait for Retry-After, or raise the key's rate."},
	{Gone, "none", "The job's result was there and has expired.", "Keep results longer (ResultAge), or read the dead letter that the problem names."},
	{DoorFull, "none", "Too many requests wait for admission.", "Wait for Retry-After, then send it again with the same Idempotency-Key."},
	{Unavailable, "none", "JetStream did not answer in time.", "Ask again; send a request again with the same Idempotency-Key or id, for it may have been stored."},
	{Draining, "none", "This process is leaving and takes no more requests.", "Send it again: another process takes it."},
	{UnsupportedMedia, "none", "The request's body is not declared as JSON.", "Send Content-Type: application/json."},
	{NoSuchRoute, "none", "There is nothing at this address.", "See /openapi.json."},
	{MethodNotAllowed, "none", "The address does not take this method.", "See the Allow header, and /openapi.json."},
}

// Codes returns the table of all codes, in the order of the documentation.
func Codes() []Description { return slices.Clone(codes) }
