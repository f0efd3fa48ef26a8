// Package cache keeps checked answers of models for those who ask the same again.
//
//	result-writer ──Keep──> LLM_CACHE ──Look──> context-builder, in place of a call       (cache.serve: fresh)
//	                  one a key, with a TTL └──> fallback, in place of a call that failed (the rung cache)
//
// What is kept is what a client was, or could have been, given as the task's own answer: of the task's own
// model, complete, valid against schema and rules, of an input that did not bypass the cache. A late answer,
// whose run had ended with a stand-in, is kept too.
//
// Who looks trusts nobody: an entry of another task, tenant or version of the messages, or with an output that does
// not satisfy the schema, is not served, whatever its key.
//
// The key (task.CacheKey) hashes the tenant, the canonical input, the session, and all that shapes an answer:
// prompt, model and where it is called, parameters, schema, rules, context. So a changed task finds nothing of
// what it answered before, and a tenant nothing of another's. An answer on which two versions of a task worked,
// while a new one was being rolled out, is kept for nobody (TestAnAnswerThatTwoVersionsMadeIsKeptForNobody).
package cache
