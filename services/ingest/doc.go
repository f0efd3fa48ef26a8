// Package ingest admits requests, once each.
//
// Receives: requests as clients published them, from LLM_REQUESTS and LLM_BATCH; llm.submit.<task> and
// llm.cancel.<id>, both request-reply; over HTTP, package door's.
// Sends on: jobs to context-builder; rejected ones to result-writer; expired ones to fallback.
// Owns: malformed, unknown, invalid, too large; the duplicate and the conflict; the crowded session; the paused task; backpressure.
// Never: renders, calls a model, keeps state of its own.
//
// # Identity
//
// A request's id is the body's, else its Nats-Msg-Id header's, else one derived from where JetStream
// stored it, so that a redelivery finds the same. The marker llm.admitted.<id> is taken before any verdict,
// by a write that expects the subject to be empty. Who finds another's marker there is a duplicate (same
// body; told the stored result) or a conflict (another body; told so, harms nothing):
//
//	marker's sequence = mine       go on: it is my own, from before a crash
//	another's, same body           duplicate
//	another's, another body        id_conflict
//
// TestOneIDIsOneJob and TestARequestWithoutAnIDSurvivesARedeliveryAsOneJob pin it.
//
// # Sessions
//
// A request of a session that its task remembers is noted in the session's record between verdict and hand-over, so
// that whoever builds the prompt of a later one knows of it. TestARequestIsNotedOnceThoughIngestIsKilled pins it.
//
// # Versions
//
// A request is checked by the version of its task that is live when its marker is taken, and by that one ever after: the
// marker names it (TestARequestIsHeldToTheVersionThatAcknowledgedIt). While its task is paused, a new one is refused. Every
// hour each process removes the versions that nothing names any more (collect.go, and bundle.Collector).
package ingest
