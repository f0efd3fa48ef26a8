// Package contextbuilder makes the prompt of a job: it owns what a model sees, and says beforehand what that costs.
//
// Receives: admitted jobs from ingest; jobs without a prompt that fallback sends to another model, and replays.
//
// Sends on: the same job with its messages, their count of tokens, and the limit of the answer, to inference;
// to result-writer, of a task that serves them, a job with a cached answer that is young enough (fresh.go); requests
// of summaries to the batch lane (fold.go); what the model sees, to who looks within an hour (told.go).
//
// Owns: a prompt over the budget (budget.go, and compose.go, which says what is left out of it); a template that fails on
// an input (render.go); turns and documents of a wrong shape (turns.go, documents.go); a call that the request's money
// does not buy (price.go); and the memory of sessions:
//
//	early.go    a request that was accepted before the job, and is not admitted yet, is awaited
//	settle.go   the requests that ended become turns
//	wait.go     with one_at_a_time, the one that has not ended is awaited
//	state.go    an answer changes the working state, or is refused to
//	fold.go     turns that leave become a summary; failing that, their beginnings do
//	rest.go     a session that nobody asks on in is settled before its results expire
//	memory.go   all of this in one change of the session's record, then the prompt
//
// A job that is built again, after a kill, for another model, or in a replay, sees the turns that were accepted before
// it, each once, and changes nothing more: TestAJobThatIsBuiltAgainSeesTheSame pins it.
//
//	system, examples        what the task says
//	summary, turns          what users said, and models: the older, and the newest
//	input, with documents   what is asked now
//
// Never: calls a model; puts what a client or a model said into another role than theirs; cuts an input, or a turn,
// silently; lets a summary hold a request up.
package contextbuilder
