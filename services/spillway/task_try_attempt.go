package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/session"
	"spillway/pkg/task"
	contextbuilder "spillway/services/context-builder"
	"spillway/services/inference"
	"spillway/services/validator"
)

// tryInput is what is tried.
type tryInput struct {
	line  int // of --inputs; 0: the argument
	input json.RawMessage
	// k is the case that the input is of; nil: of none.
	k *task.Case
}

// attempt is what one contender made of an input.
type attempt struct {
	Side    string `json:"side"`
	Version string `json:"version"`
	Model   string `json:"model"`
	// AnsweredBy is what the provider calls the model; Stranger: models.yaml names another one (answers_as).
	AnsweredBy string `json:"answered_by"`
	Stranger   bool   `json:"answered_by_another"`

	Raw          string `json:"raw"`
	FinishReason string `json:"finish_reason,omitempty"`
	Refusal      string `json:"refusal,omitempty"`

	// Verdict is the validator's; "": there was no answer. Recovery says how the output was won from it.
	Verdict  string          `json:"verdict"`
	Recovery string          `json:"recovery,omitempty"`
	Faults   []attemptFault  `json:"faults"`
	Notes    []string        `json:"notes,omitempty"`
	Output   json.RawMessage `json:"output"`
	// Next is what the pipeline would do, having no output.
	Next string `json:"next,omitempty"`
	// Error is why there was no answer.
	Error *attemptError `json:"error,omitempty"`

	Calls         int     `json:"calls"`
	CountedTokens int     `json:"counted_tokens"`
	InputTokens   int     `json:"input_tokens"`
	OutputTokens  int     `json:"output_tokens"`
	CostUSD       float64 `json:"cost_usd"`
	FirstTokenMS  float64 `json:"first_token_ms"`
	TookMS        float64 `json:"took_ms"`

	// streamed: the answer came as a stream; reported: the provider said how many tokens it took.
	streamed, reported bool
}

type attemptFault struct {
	Pointer string `json:"pointer"`
	Message string `json:"message"`
	Got     string `json:"got,omitempty"`
}

type attemptError struct {
	Code    fate.Code `json:"code"`
	Message string    `json:"message"`
}

// isAccepted reports whether the answer is an output.
func (a *attempt) isAccepted() bool { return a.Output != nil }

// prompt makes the prompt of an input, as context-builder would.
func (c *contender) prompt(in tryInput) (*contextbuilder.Preview, error) {
	var s *session.Session
	if in.k != nil && c.task.Context.Session != task.SessionNone {
		s = session.New("", c.task.Name, "try")
		s.State = in.k.State
	}
	return c.prompts.Prompt(c.task, c.model, in.input, s)
}

// most is what a call with this prompt may cost, in USD.
func (c *contender) most(p *contextbuilder.Preview) float64 {
	answer := p.MaxOutput
	if answer == 0 {
		answer = c.model.MaxOutputTokens
	}
	return c.model.Prices.Cost(p.Tokens, answer)
}

// errSpent says that another call may cost more than what is left of --max-usd.
var errSpent = errors.New("another call may cost more than what is left")

// purse is what calls may cost together. Each takes the most that it may cost before it is made, and gives back what
// it did not.
type purse struct {
	mu   sync.Mutex
	left float64
	// dearer is how many times as much a call cost as the most that it was thought to, once one did: its provider counts
	// more tokens than are counted here.
	dearer float64
}

// take returns what it took; false: there is not enough.
func (p *purse) take(most float64) (taken float64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if most *= max(p.dearer, 1); most > p.left {
		return 0, false
	}
	p.left -= most
	return most, true
}

func (p *purse) settle(taken, cost float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left += taken - cost
	if cost > taken && taken > 0 {
		p.dearer = max(p.dearer, 1) * cost / taken
	}
}

// try makes the call for an input, again where inference would, and has the answer judged. An error ends the whole
// command; what became of the call stands in the attempt.
func (c *contender) try(ctx context.Context, in tryInput, money *purse) (*attempt, error) {
	a := &attempt{Side: c.label, Version: c.version, Model: c.model.Name, Faults: []attemptFault{}}
	p, err := c.prompt(in)
	if err != nil {
		a.fail(err)
		return a, nil
	}
	now := time.Now()
	j := &job.Job{
		V: job.Version, ID: ulid.Make().String(), Task: c.task.Name, TaskVersion: c.task.Version, Lane: job.Interactive, Run: 1,
		AcknowledgedAt: now, Deadline: now.Add(c.task.Deadline.Default), CacheBypass: true, Input: in.input,
		Model: c.model.Name, Prompt: job.NewPrompt(p.Messages...), PromptTokens: p.Tokens, MaxOutputTokens: p.MaxOutput,
		Arrival: job.Arrival{Deliveries: 1},
	}
	if in.k != nil {
		j.State = in.k.State
	}
	seen, err := c.call(ctx, j, c.most(p), money)
	a.Calls, a.CostUSD, a.OutputTokens, a.InputTokens, a.CountedTokens = j.Calls, j.CostUSD, seen.Output, seen.Input, p.Tokens
	a.AnsweredBy, a.FirstTokenMS, a.TookMS = seen.AnsweredBy, milliseconds(seen.FirstToken), milliseconds(seen.Took)
	a.streamed, a.reported = seen.Streamed, seen.Reported
	a.Stranger = c.model.AnswersAs != "" && seen.AnsweredBy != "" && seen.AnsweredBy != c.model.AnswersAs
	switch {
	case errors.Is(err, errSpent), err != nil && ctx.Err() != nil:
		return a, err
	case err != nil:
		a.fail(err)
	default:
		c.judge(ctx, j, a)
	}
	return a, nil
}

// call calls as often as inference asks for, waits included.
func (c *contender) call(ctx context.Context, j *job.Job, most float64, money *purse) (inference.Seen, error) {
	for {
		before := j.CostUSD
		taken, ok := money.take(most)
		if !ok {
			return inference.Seen{}, errSpent
		}
		seen, err := c.caller.Try(ctx, j)
		money.settle(taken, j.CostUSD-before)
		f, isFate := errors.AsType[*fate.Error](err)
		if !isFate || f.Fate != fate.Retry || ctx.Err() != nil {
			return seen, err
		}
		if err := sleep(ctx, f.After); err != nil {
			return seen, err
		}
	}
}

func (a *attempt) fail(err error) {
	f := fate.Of(err)
	a.Error = &attemptError{Code: f.Code, Message: whyNot(err)}
}

// judge says what the validator makes of the answer, and what the pipeline would do about it.
func (c *contender) judge(ctx context.Context, j *job.Job, a *attempt) {
	a.Raw, a.FinishReason, a.Refusal = j.Answer.Content, j.Answer.FinishReason, j.Answer.Refusal
	v := validator.Judge(c.task, j.Input, j.Answer)
	a.Verdict, a.Notes = v.Outcome, v.Notes
	for _, f := range v.Faults {
		a.Faults = append(a.Faults, faultOf(f))
	}
	err := c.checker.Handle(ctx, j)
	switch {
	case err != nil:
		a.Next = fmt.Sprintf("the ladder would answer: %s", fate.Of(err).Code)
	case j.Outcome != nil:
		a.Output, a.Recovery = j.Outcome.Output, j.Outcome.Recovery
	case j.Raised:
		a.Next = fmt.Sprintf("asked again, with room for %d tokens", j.MaxOutputTokens)
	default:
		a.Next = fmt.Sprintf("a correction (%d of %d) would tell the model", j.Corrections, c.task.Correction.Times)
	}
}

func faultOf(v schema.Violation) attemptFault {
	return attemptFault{Pointer: v.Pointer, Message: v.Message, Got: v.Got}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond).Microseconds()) / 1000
}
