// Package contextbuilder makes the prompt of a job, and says beforehand what it costs.
//
// Receives: admitted jobs from ingest; jobs without a prompt that fallback sends to another model.
//
// Sends on: the same job with its messages, their count of tokens, and the limit of the answer, to inference;
// to result-writer, of a task that serves them, a job with a cached answer that is young enough (fresh.go).
//
// Owns: a prompt over the budget (budget.go), a template that fails on an input (render.go).
//
// Never: calls a model; puts what a client wrote into any message but the one that the template puts it
// into; cuts an input silently.
package contextbuilder
