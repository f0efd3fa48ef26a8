// Package resultwriter stores the one result of a run.
//
// Receives: jobs with an outcome, on its inbox, from any stage.
// Sends on: nothing. It writes llm.write.<task>.<id>, which the stream LLM_RESULTS stores and republishes
// as llm.result.<task>.<id>; and the answers that may stand in for later ones, llm.cache.<key>. Whether a newer
// one is kept there it reads, for a moment at most: no result waits for the cache.
// Owns: the second write. The first write of a run wins, whatever crashed in between: the write names the
// sequence that it replaces, so the broker refuses a stale one (TestTheFirstWriteOfARunWins).
// What it wrote tells pkg/drift whether a task's models do worse than they used to.
// Never: decides what a result says; publishes on llm.result.>.
package resultwriter
