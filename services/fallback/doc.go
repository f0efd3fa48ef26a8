// Package fallback answers when the pipeline could not, and starts the new runs of those it could not help.
//
// Receives: diverted jobs, from any stage; llm.replay.<id>, from operators; every marker and the headers
// of every result, for the deadline index.
// Sends on: jobs to inference (or context-builder, when the prompt is to be made or counted anew) for a rung that is another
// model; answered and failed ones to result-writer; replayed ones to context-builder.
// Owns: calls spent, deadline spent, a model that is unusable, poison.
// Never: calls a model; writes a result.
//
// # The ladder
//
// A task's rungs are tried in order: an answer from the cache, other models, a canned answer. job.Rung is
// the next one to try, so a failed rung is not tried again, whatever crashed in between. No rung left: a
// dead letter, and a failed result with the code that led here (ladder.go).
//
// # Deadlines
//
// The index (index.go) follows LLM_ADMITTED and LLM_RESULTS (follow.go) with ordered consumers, by their headers
// alone: what has a marker and no result is in a heap by the time to answer, half of the task's reserve before
// the deadline. When that comes, the result is read from the leader; if there is none, the ladder answers from
// what the marker knows, wherever the job is stuck. Every fallback process does so; the first write of the
// run wins (TestAStuckJobIsAnsweredBeforeItsDeadline).
//
// At a start, results are read first, then markers, while those that are in are answered already; /readyz
// waits for the last one. A marker from before the oldest result that is still kept says nothing: its run
// ended, in all likelihood, and is not answered again (TestARunWhoseResultIsNoLongerKeptIsNotAnsweredAgain).
// So results must be kept as long as the longest deadline for every deadline to be watched after a restart.
// One that is not is told, late, by the stage that takes the job up.
//
// # Replay
//
//	dead letter + result (absent, degraded or failed) ── marker moves to run+1 ── job to context-builder ── dead letter deleted
//
// The marker names the replay that owns the run, so a redelivered replay finds its own and goes on, and a
// second one is refused (TestASecondReplayIsRefused).
package fallback
