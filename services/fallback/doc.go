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
// waits for the last one. So it is after each reconnect, as a server that lost power may have given the sequences
// of what it lost to others (TestWhatTookThePlaceOfALostTailIsWatched); answering goes on meanwhile.
//
// A marker from before the oldest result that is still kept says nothing, once its time has come: its run
// ended, in all likelihood, and is not answered again (TestARunWhoseResultIsNoLongerKeptIsNotAnsweredAgain).
// One whose time is ahead is watched. When results leave by their age, which is a day or more, it cannot have
// lost one, and is answered as ever. When they leave by the stream's bound it may have: then, at its time, no
// second result is written, and spillway_deadlines_unknown_total counts it
// (TestARunWhoseResultMayHaveLeftIsCountedAndNotAnswered). So the bound of the results must hold a day of them for
// every deadline to be kept after a restart. One that is not is told, late, by the stage that takes the job up.
//
// A time in a marker that no run can have is not believed (TestATimeThatNoRunCanHaveIsNotBelieved).
//
// # Replay
//
//	dead letter + result (absent, degraded or failed) ── marker moves to run+1 ── job to context-builder ── dead letter deleted
//
// The marker names the replay that owns the run, so a redelivered replay finds its own and goes on, and a
// second one is refused (TestASecondReplayIsRefused). It also names the version under which the whole
// run ends: the live one, or the stored one that the order named (TestAReplayTakesTheLiveVersionOrTheOneThatItNames).
package fallback
