// Package inference is the stage that calls models: one call for each job that it is handed, and what the
// provider made of it is told as an answer or as a fate.
//
// # Receives
//
// Jobs with a prompt, one inbox a lane, so that a crowd on one does not hold the other: from context-builder
// the first call, from validator a correction, from fallback a rung that is another model, and from itself a
// retry. For each model and lane there is an inbox more, of the jobs that wait for it; they are called from there.
//
// # Sends on
//
// To validator, with job.Answer: what the model said, unchecked, with its finish reason. A refusal, a cut
// or a filtered answer is an answer: what becomes of it is the validator's business. Everything else is a
// fate: retry (to its own inbox, after a wait), park (to the model's), divert (to fallback, with the code),
// elsewhere (dropped).
// Whatever happened, the call stands in job.History, job.Usage and job.CostUSD, unless it was given up:
//
//	Handle ── redelivered and has its result? ──────────────────────────────── elsewhere
//	       ── cancelled? ───────────────────────────────────────────────────── elsewhere
//	       ── calls spent, no time left, model unknown? ────────────────────── divert
//	       ── breaker open? ── the task degrades ───────────────────────────── divert
//	                       └── the task waits ──────────────────────────────── park until it may close
//	       ── no place within the limits soon? ─────────────────────────────── park
//	       ── call ── answer with a finish reason ──────────────────────────── on to validator
//	            ├──── failure that opened the breaker ──────────────────────── as above
//	            ├──── failure: tries left, in the budget, and the wait fits? ─ retry, else divert
//	            ├──── cancelled meanwhile: disconnected ────────────────────── elsewhere
//	            └──── the process stops: disconnected, nothing recorded ────── handed back
//
// A call runs through phases, each with its limit, the whole within the call timeout and what the deadline
// leaves, less the reserve of the ladder (timeout.go). One timer serves them all:
//
//	connect ── first_token ── silence, anew with each token ── tail (1 s, after the finish reason)
//
// A token is a piece of content, refusal or reasoning; headers, roles and comments are none. An answer that
// is slower than one token a second on average, once 10 s of it are over, is given up like silence.
//
// # Owns
//
// One failure, one file. The codes and how often each is tried:
//
//	classify.go  what a status, a body, a broken connection mean: the one table of codes
//	retry.go     429 and 5xx: tries, backoff, the wait that the provider asked for
//	budget.go    retries that would be too large a part of a model's calls
//	outage.go    models whose breaker is open (pkg/breaker): the ladder, or a wait
//	limits.go    calls beyond what a model, a provider or a task bears (pkg/limit)
//	parked.go    jobs that wait for their model, and when they are let go
//	timeout.go   hang, silence, drip, a call or deadline that is over
//	stream.go    cut, empty, malformed, endless answers
//	finish.go    answers that were cut, filtered or broken off, in the words of each provider
//	cancel.go    cancelled jobs
//	repeat.go    calls that would be paid twice
//	drift.go     another model answers than models.yaml names
//	key.go       keys that are missing, rotated, refused, or repeated in error messages
//
// The rest is the way to the provider and back: provider.go (connections), request.go (what is said), cost.go
// (what it cost). Pinned by TestEachFaultOfAStreamingProviderEndsAsTheTableSays and its plain sibling (calls
// counted by the provider), TestAStreamIsReadAsItsEventsSay, TestEachPhaseOfACallEndsWhenItsTimeIsOver,
// TestTheWaitThatAProviderAsksForIsReadInEveryFormInUse, TestAProcessThatStopsHandsTheJobBackAsItCame.
//
// # Never
//
//   - repeats a call within one delivery: each try is a hop, so that it is counted and survives a crash
//     (TestEachFaultOfAStreamingProviderEndsAsTheTableSays);
//   - takes the end of a stream for the end of the answer: only a finish reason is
//     (TestAStreamIsReadAsItsEventsSay);
//   - waits less than a provider asked for (TestRetryAfterIsHonouredExactlyOrALittleAboveNeverBelow);
//   - tells a key (TestSecretsAndLongBodiesNeverReachMessagesHistoryOrLogs);
//   - judges what the model said.
package inference
