// Package validator decides whether a model's answer is an output.
//
// Receives: answered jobs from inference.
//
// Sends on: jobs with their outcome to result-writer; jobs with a correction, or with a higher limit of
// tokens, back to inference.
//
// Owns: answers that are not JSON, or have something around it (thought.go: what is said; pieces.go, extract.go:
// what is meant; doubt.go: what speaks against it; vocabulary.go, announce.go: by which words); that are nearly JSON (repair.go,
// read.go, quote.go); that the schema demands otherwise (shape.go, rules.go); that are told to the model
// (correct.go); that were cut at the limit (truncate.go); refusals and empty answers (judge.go).
//
// Never: guesses. What was cut is not completed; of two answers none is chosen; a repair that adds, drops or
// moves anything but punctuation is not taken; what was repaired must satisfy the schema as it then stands.
// Where there is doubt the answer is refused: that costs one call, and a wrong value costs trust.
//
// An answer goes this way, and ends at the first step that settles it:
//
//	refusal? ── cut? ── empty? ── too large?                       → diverted (a cut one: once more, with a
//	   │                                                             higher limit)
//	strict JSON ── else written into a string ── else one value within what is said ── else repaired
//	   │                                                           → else invalid, or ambiguous
//	drop, null, coerce as the task allows (on a repair null alone) ── schema ── rules
//	   │                                                           → else invalid: corrected, then diverted
//	succeeded, or degraded on the ladder
//
// A value within other text is taken under these rules, each for what would go wrong without it:
//
//   - What is marked as thought, struck out or commented out is not said: it is neither an output nor a rival.
//     What the last thought swallows is not said either, and a mark within a string of the JSON is text.
//   - Of two pieces that satisfy the schema with different values none is taken, nor is one beside a piece that
//     has at least half of what the schema requires, be it misspelled, cut, encoded, too rich or wrapped.
//   - Behind the value no word, number, symbol, question mark or dots may stand, and no bracket may open that
//     is not closed: they may take it back, or announce more. Marks of templates and a few courtesies say nothing.
//   - Before the value no words may stand but those that announce it, as "Here is the JSON you asked for:", from a
//     closed list of sentences and marks: who does not read can not tell them from "do the opposite of this".
//   - An object that is no answer may stand before it, if it names no choice of the schema and no number with a
//     fraction that the value does not have, and has no word that takes something back.
//   - Values are compared as values: 0.9 is 0.90, and the order of members means nothing.
//
// TestEachRowOfTheValidatorEndsAsOutcomesSay pins the way, TestNoTrapIsAccepted and
// TestMostOfWhatIsRepairableNeedsNoCall what the rules are worth. Each step is linear in the answer, which
// BenchmarkHostileAnswers shows, but for the repair, which takes only short answers.
package validator
