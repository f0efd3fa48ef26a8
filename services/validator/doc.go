// Package validator decides whether a model's answer is an output.
//
// Receives: answered jobs from inference.
//
// Sends on: jobs with their outcome to result-writer; jobs with a correction, or with a higher limit of
// tokens, back to inference.
//
// Owns: answers that are not JSON, or have something around it (thought.go, prose.go: what is said; pieces.go,
// extract.go: what is meant; doubt.go, announce.go, vocabulary.go: what may stand around it); that are nearly JSON (repair.go,
// read.go, quote.go); that the schema demands otherwise (shape.go, surplus.go); that are told to the model
// (correct.go); that were cut at the limit (truncate.go); refusals and empty answers (judge.go).
//
// First answers tell pkg/drift whether the task's model does worse than it used to.
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
//   - What is marked as thought is not said: it is neither an output nor a rival. What the last thought swallows is not
//     said either, a mark within a string of the JSON is text, and one that is quoted leaves the answer in doubt.
//   - No other object or array may stand beside the value, but the same value said again: {"status":"superseded"} says
//     as much as a sentence, and of two values none is chosen.
//   - Before the value only what announces it may stand, of a closed list of sentences, names, marks and tokens
//     (announce.go), and no word that is another choice of the schema. Who does not read prose can not tell other words
//     from "do the opposite of this". Marks that may comment the value out, or strike it out, are not of the list.
//   - Behind the value only what says nothing may stand, of a closed list as well (doubt.go): what closes, one stop,
//     tokens that end an answer, a few courtesies. Anything else may take the value back, or announce more.
//   - Values are compared as values: 0.9 is 0.90, and the order of members means nothing.
//
// What the task allows to be dropped or coerced is changed under these (shape.go, surplus.go):
//
//   - Of a value that has none of several forms nothing is changed, unless its type, or a choice it names, leaves one
//     form alone: what mends it for one form chooses between two answers.
//   - A property is dropped only if no branch of the schema knows it, however its name is spelled; neither a name nor a
//     text in it says that the answer is none; and no object in it may be another answer: urgency beside Urgency, draft,
//     "valid":false, "status":"example", "alternative":{"urgency":0.2}. With a null it is no optional property either.
//
// An answer that is a text loses its thoughts alone, and only where they stand on lines of their own: elsewhere a mark
// may be what the text is about, and the answer is invalid. A mark in a span or block of code is text.
//
// TestEachRowOfTheValidatorEndsAsOutcomesSay pins the way, TestNoTrapIsAccepted and
// TestMostOfWhatIsRepairableNeedsNoCall what the rules are worth. Each step is linear in the answer, which
// BenchmarkHostileAnswers shows, but for the repair, which takes only short answers.
package validator
