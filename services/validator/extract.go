package validator

import (
	"strings"

	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// claim is a piece of the answer that may be meant as the output.
type claim struct {
	piece
	// read is the piece's value, as JSON or, when misspelled, as the reader takes it.
	read *candidate
	// strict is true when the piece is JSON as it stands.
	strict bool
	// syntax says why it is not.
	syntax error
	// faults are those of the value; none: it satisfies the schema.
	faults []schema.Violation
}

// extract looks for the one value within an answer that is not strict JSON.
func extract(t *task.Task, a *job.Answer) (c *candidate, faults []schema.Violation, outcome string) {
	before, text, ok := said(a.Content)
	if !ok {
		return nil, ambiguous("a mark of thoughts stands within the JSON, or is quoted"), Ambiguous
	}
	f := pieces(t, text)
	switch {
	case f.tooMany:
		return nil, ambiguous("the answer has more than one JSON value that could be meant"), Ambiguous
	case f.cutTaken:
		return nil, syntaxFault("the JSON ends before it is complete"), Invalid
	}
	words := vocabularyOf(t.OutputSchema)
	claims, faults := claimsOf(t, words, f.found)
	if len(claims) == 0 {
		return nil, faults, Invalid
	}
	chosen := choose(claims)
	if chosen == nil {
		return nil, ambiguous("the answer has more than one JSON value that could be meant"), Ambiguous
	}
	if c, faults, outcome = win(t, a, words, chosen); faults != nil {
		return nil, faults, outcome
	}
	if why := doubt(words, before, text, claims, c.value); why != "" {
		return nil, ambiguous(why), Ambiguous
	}
	return c, nil, outcome
}

func ambiguous(why string) []schema.Violation {
	return []schema.Violation{{Rule: ruleAmbiguous, Message: why}}
}

// claimsOf returns the pieces that claim to be the answer: they satisfy the schema. faults say why there is
// none.
func claimsOf(t *task.Task, words *vocabulary, found []piece) (claims []*claim, faults []schema.Violation) {
	faults = syntaxFault("there is no complete JSON object or array in the answer")
	left := maxNodes / 4 // the pieces are judged one by one
	for _, p := range found {
		if left -= strings.Count(p.text, ","); left < 0 {
			return nil, tooManyNodes()
		}
		c := claimOf(t, words, p)
		if c.faults == nil {
			claims = append(claims, c)
		} else {
			faults = c.faults
		}
	}
	return claims, faults
}

func claimOf(t *task.Task, words *vocabulary, p piece) *claim {
	c := &claim{piece: p}
	value, err := schema.Decode([]byte(p.text))
	switch {
	case err == nil:
		c.strict, c.read = true, &candidate{text: p.text, value: value}
	case c.unescape():
		c.strict = true
	default:
		c.syntax = err
		value, _, ok := read(p.text, words.choices)
		if !ok {
			c.faults = syntaxFault("the answer is not valid JSON: %v", err)
			return c
		}
		c.read = &candidate{text: p.text, value: value}
	}
	c.faults = c.read.satisfy(t)
	return c
}

// unescape reads a piece of which each quote has a backslash before it, as it stands within a string.
func (c *claim) unescape() bool {
	text, err := schema.Decode([]byte(`"` + c.text + `"`))
	if err != nil {
		return false
	}
	inner, _ := text.(string)
	value, err := schema.Decode([]byte(inner))
	if err == nil {
		c.read = &candidate{text: inner, value: value, notes: []string{inString}}
	}
	return err == nil
}

// choose returns the claim to take when all have the same value, one that is strict JSON if there is any:
// a model that repeats its answer has given one answer. nil: they differ.
func choose(claims []*claim) *claim {
	chosen := claims[0]
	for _, c := range claims[1:] {
		if !equal(chosen.read.value, c.read.value) {
			return nil
		}
		if c.strict {
			chosen = c
		}
	}
	return chosen
}

// win makes the output of a claim.
func win(t *task.Task, a *job.Answer, words *vocabulary, c *claim) (*candidate, []schema.Violation, string) {
	switch {
	case c.strict:
		return c.read, nil, Extracted
	case t.Output.Repair && a.FinishReason == finishStop:
		return repair(t, c.text, words.choices, c.syntax)
	}
	return nil, syntaxFault("the answer is not valid JSON: %v", c.syntax), Invalid
}
