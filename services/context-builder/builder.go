package contextbuilder

import (
	"context"
	"fmt"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/pkg/tokens"
)

// Definition is the stage.
func Definition() stage.Definition {
	return stage.Definition{
		Name: broker.ContextBuilder, SendsOn: []string{broker.ResultWriter},
		New: func(env *stage.Env) (stage.Handler, error) { return New(env) },
	}
}

// Handler makes prompts.
type Handler struct {
	conn    *broker.Conn
	tasks   *task.Set
	counter *tokens.Counter
	metrics *metrics
	log     zerolog.Logger
}

var _ stage.Handler = (*Handler)(nil)

// New makes the handler.
func New(env *stage.Env) (*Handler, error) {
	m, err := newMetrics(env.Metrics)
	if err != nil {
		return nil, err
	}
	return &Handler{conn: env.Conn, tasks: env.Tasks, counter: tokens.New(), metrics: m, log: env.Log}, nil
}

// Handle renders the job's prompt for its model and makes sure that it fits, unless an answer is there already.
func (h *Handler) Handle(ctx context.Context, j *job.Job) error {
	t := h.tasks.Tasks[j.Task]
	if t == nil {
		return fate.DivertTo(fate.Internal, fmt.Sprintf("task %s is not loaded here", j.Task), nil)
	}
	if j.Model == "" {
		j.Model = t.Model
	}
	t.Sign(j)
	if h.isAnswered(ctx, t, j) {
		return nil
	}
	m := h.tasks.Models[j.Model]
	if m == nil {
		return fate.DivertTo(fate.Internal, fmt.Sprintf("model %s is not loaded here", job.Cut(j.Model, 64)), nil)
	}
	// A new prompt begins a new dialogue: what another model said, and was told, is no part of it.
	j.Answer, j.Correction = nil, nil
	messages, refused := render(t, j.Input)
	if refused != nil {
		return onLadder(j, refused)
	}
	if refused := tooManyBytes(messages); refused != nil {
		return onLadder(j, refused)
	}
	count, err := h.count(t, m, messages)
	if err != nil {
		return fate.DivertTo(fate.Internal, fmt.Sprintf("the tokens of model %s can not be counted", m.Name), err)
	}
	h.metrics.prompt(t.Name, m.Name, count)
	h.log.Debug().Str("job", j.ID).Str("task", j.Task).Str("stage", broker.ContextBuilder).Str("model", m.Name).
		Int("prompt_tokens", count).Str("trace_id", job.TraceID(j.TraceParent)).Msg("the prompt is rendered")
	b := budgetOf(t, m, j.MaxOutputTokens)
	if count > b.input {
		return onLadder(j, tooManyTokens(count, b.input))
	}
	j.Prompt, j.PromptTokens, j.MaxOutputTokens = job.NewPrompt(messages...), count, b.output(count)
	return nil
}

// onLadder turns a rejection into a diversion for a job on the ladder: the request was admitted and is not
// at fault if another model can not take it; the next rung may.
func onLadder(j *job.Job, refused *fate.Error) error {
	if j.Trouble == nil {
		return refused
	}
	return fate.DivertTo(refused.Code, refused.Message, refused.Cause)
}
