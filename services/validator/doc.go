// Package validator decides whether a model's answer is an output.
//
// Receives: answered jobs from inference.
//
// Sends on: jobs with their outcome to result-writer; jobs with a correction, or with a higher limit of
// tokens, back to inference.
//
// Owns: answers that are not JSON, or have prose around it (extract.go); that are nearly JSON (repair.go,
// read.go); that the schema demands otherwise (shape.go, rules.go); that are told to the model (correct.go);
// that were cut at the limit (truncate.go); refusals and empty answers (validator.go).
//
// Never: guesses. What was cut is not completed; of two answers none is chosen; a repair that adds, drops or
// moves anything but punctuation is not taken; what was repaired must satisfy the schema as it then stands.
//
// An answer goes this way, and ends at the first step that settles it:
//
//	refusal? ── cut? ── empty? ── too large?                       → diverted (a cut one: once more, with a
//	   │                                                             higher limit)
//	strict JSON ── else one value within prose ── else repaired    → else invalid, or ambiguous
//	   │
//	drop, null, coerce as the task allows (never on a repair) ── schema ── rules
//	   │                                                           → else invalid: corrected, then diverted
//	succeeded, or degraded on the ladder
//
// TestEachRowOfTheValidatorEndsAsOutcomesSay pins it. Each step is linear in the answer, but for the repair,
// which takes only short answers.
package validator
