// Package broker holds everything that is said to NATS: the names, the streams, the connection, the
// publisher, and the reads that must come from the leader.
package broker

import (
	"encoding/base64"
	"strings"

	"spillway/pkg/job"
)

// This file is the only place where a subject, stream, consumer, bucket or header is spelled.

// The streams that are not a stage's inbox. A stage's is StageStream.
const (
	RequestsStream = "LLM_REQUESTS"
	BatchStream    = "LLM_BATCH"
	AdmittedStream = "LLM_ADMITTED"
	ParkedStream   = "LLM_PARKED"
	ResultsStream  = "LLM_RESULTS"
	DeadStream     = "LLM_DEAD"
	CacheStream    = "LLM_CACHE"
	DeltasStream   = "LLM_DELTAS"
	ContextsStream = "LLM_CONTEXTS"
)

// The key-value buckets.
const (
	CancelsBucket  = "llm_cancels"
	BreakersBucket = "llm_breakers"
	LimitsBucket   = "llm_limits"
	KeysBucket     = "llm_keys"
	SessionsBucket = "llm_sessions"
	// VersionsBucket says which version of each task is live.
	VersionsBucket = "llm_versions"
)

// TasksBucket is the object bucket of the versions of tasks.
const TasksBucket = "llm_tasks"

// The stages that others speak of by name.
const (
	Ingest         = "ingest"
	ContextBuilder = "context-builder"
	Inference      = "inference"
	Validator      = "validator"
	Fallback       = "fallback"
	ResultWriter   = "result-writer"
)

// The headers of Spillway's own messages.
const (
	JobHeader      = "Spillway-Job"
	RunHeader      = "Spillway-Run"
	HopHeader      = "Spillway-Hop"
	StatusHeader   = "Spillway-Status"
	AnswerByHeader = "Spillway-Answer-By"
	TenantHeader   = "Spillway-Tenant"
	SessionHeader  = "Spillway-Session"
	// TaskHeader is on markers, whose subject does not say the task. VersionHeader is the version of the task under
	// which the job ends, on markers, results and dead letters.
	TaskHeader    = "Spillway-Task"
	VersionHeader = "Spillway-Task-Version"
	// DeskHeader is on the request of a desk, which takes its marker as soon as it is stored.
	DeskHeader        = "Spillway-Desk"
	MsgIDHeader       = "Nats-Msg-Id"
	TraceParentHeader = "traceparent"
	expectedHeader    = "Nats-Expected-Last-Subject-Sequence"
	ttlHeader         = "Nats-TTL"
)

// The subjects with a wildcard, for streams, consumers and subscribers.
const (
	AllRequests  = "llm.request.*"
	AllBatch     = "llm.batch.*"
	AllSubmits   = "llm.submit.*"
	AllCancels   = "llm.cancel.*"
	AllLocates   = "llm.locate.*"
	AllAdmitted  = "llm.admitted.*"
	AllParked    = "llm.parked.*.*"
	AllWrites    = "llm.write.*.*"
	AllResults   = "llm.result.>"
	AllReplays   = "llm.replay.*"
	AllDead      = "llm.dead.*.*.*"
	AllCached    = "llm.cache.*"
	AllDeltas    = "llm.delta.*.*"
	AllContexts  = "llm.context.*.*"
	AllProgress  = "llm.progress.>"
	AnyProgress  = "llm.progress.*.*"
	AllBreakers  = "llm.event.breaker.>"
	resultsStart = "llm.result."
	deltasStart  = "llm.delta."
)

// The transform of LLM_RESULTS: written here, stored and republished there.
const (
	writeSource       = "llm.write.*.*"
	resultDestination = "llm.result.{{wildcard(1)}}.{{wildcard(2)}}"
)

// RawTask stands for the task in the subject of a dead letter that is no job.
const RawTask = "raw"

// RequestSubject is where clients publish requests of a lane.
func RequestSubject(lane, task string) string {
	if lane == job.Batch {
		return "llm.batch." + task
	}
	return "llm.request." + task
}

// RequestStream is where the requests of a lane are stored.
func RequestStream(lane string) string {
	if lane == job.Batch {
		return BatchStream
	}
	return RequestsStream
}

// SubmitSubject is request-reply: the answer says whether the request was acknowledged.
func SubmitSubject(task string) string { return "llm.submit." + task }

// CancelSubject is request-reply: the answer says whether the cancellation was taken up.
func CancelSubject(id string) string { return "llm.cancel." + id }

// LocateSubject is request-reply: the process that is at work on the job answers, if there is one.
func LocateSubject(id string) string { return "llm.locate." + id }

// AdmittedSubject holds an id's marker.
func AdmittedSubject(id string) string { return "llm.admitted." + id }

// StageSubject is a stage's inbox for a lane: a crowd on one does not hold the other. What is of no lane is
// of the interactive one.
func StageSubject(stage, lane string) string {
	if lane != job.Batch {
		lane = job.Interactive
	}
	return "llm.stage." + stage + "." + lane
}

// StageConsumer pulls a lane of a stage's inbox.
func StageConsumer(stage, lane string) string { return stage + "-" + lane }

// ParkedSubject is where a model's jobs wait.
func ParkedSubject(lane, model string) string { return "llm.parked." + lane + "." + model }

// WriteSubject is where result-writer writes, and nobody else.
func WriteSubject(task, id string) string { return "llm.write." + task + "." + id }

// ResultSubject is where a result is stored and republished. Nobody publishes on it.
func ResultSubject(task, id string) string { return resultsStart + task + "." + id }

// AnyTaskResult matches an id's result whatever its task.
func AnyTaskResult(id string) string { return resultsStart + "*." + id }

// ReplaySubject asks for a new run of a dead, failed or degraded job.
func ReplaySubject(id string) string { return "llm.replay." + id }

// DeadSubject is where a dead letter is kept.
func DeadSubject(stage, task, id string) string { return "llm.dead." + stage + "." + task + "." + id }

// AnyDead matches an id's dead letters whatever their stage and task.
func AnyDead(id string) string { return "llm.dead.*.*." + id }

// CacheSubject holds the cached answer of a key.
func CacheSubject(key string) string { return "llm.cache." + key }

// DeltaSubject carries the drafts of a request that asked for them.
func DeltaSubject(task, id string) string { return deltasStart + task + "." + id }

// ContextSubject holds what a model was shown of a request.
func ContextSubject(task, id string) string { return "llm.context." + task + "." + id }

// AnyContext matches what a model was shown of an id, whatever its task.
func AnyContext(id string) string { return ContextSubject("*", id) }

// ProgressSubject carries an event a hop, to whoever listens.
func ProgressSubject(task, id string) string { return "llm.progress." + task + "." + id }

// ModelBreakerSubject carries an event whenever the breaker of a model changes.
func ModelBreakerSubject(model string) string { return "llm.event.breaker." + model }

// ProviderBreakerSubject does for the breaker of a whole provider.
func ProviderBreakerSubject(provider string) string { return "llm.event.breaker.provider." + provider }

// RecordStream is the stream of a bucket; recordSubject is where it keeps the value of a key.
func RecordStream(bucket string) string { return "KV_" + bucket }

func recordSubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// ObjectStream is the stream of an object bucket. An object's chunks are on one subject, what is known of it on another.
func ObjectStream(bucket string) string { return "OBJ_" + bucket }

func objectChunks(bucket, chunks string) string { return "$O." + bucket + ".C." + chunks }

func objectMeta(bucket, name string) string {
	return "$O." + bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

// StageStream is the stream of a stage's inbox: upper case, with _.
func StageStream(stage string) string {
	return "LLM_" + strings.ToUpper(strings.ReplaceAll(stage, "-", "_"))
}

// Token returns the n-th token of a subject, from 0, or "".
func Token(subject string, n int) string {
	for i := 0; ; i++ {
		token, rest, more := strings.Cut(subject, ".")
		if i == n {
			return token
		}
		if !more {
			return ""
		}
		subject = rest
	}
}

// PullSubject is where pull requests of a consumer go.
func PullSubject(stream, consumer string) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer
}

// ParkedConsumer pulls the jobs of a lane that wait for a model.
func ParkedConsumer(lane, model string) string { return Inference + "-parked-" + lane + "-" + model }

// The consumers of the inboxes that are not named for their stage.
const (
	BatchIngestConsumer = "ingest-batch"
	ReplayConsumer      = "fallback-replay"
)
