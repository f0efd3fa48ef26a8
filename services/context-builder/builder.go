package contextbuilder

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/session"
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
	conn     *broker.Conn
	tasks    *task.Book
	sessions *session.Store
	counter  *tokens.Counter
	framings sync.Map // by encoding
	metrics  *metrics
	log      zerolog.Logger
}

var _ stage.Handler = (*Handler)(nil)

// New makes the handler.
func New(env *stage.Env) (*Handler, error) {
	m, err := newMetrics(env.Metrics)
	if err != nil {
		return nil, err
	}
	h := &Handler{conn: env.Conn, tasks: env.Book(), counter: tokens.New(), metrics: m, log: env.Log}
	if env.Conn != nil {
		h.sessions = session.NewStore(env.Conn)
	}
	return h, nil
}

// Handle makes the job's prompt for its model and makes sure that it fits, unless an answer is there already.
func (h *Handler) Handle(ctx context.Context, j *job.Job) error {
	t, err := h.tasks.For(ctx, j)
	if err != nil {
		return fmt.Errorf("get the task of %s: %w", j.ID, err)
	}
	if t == nil {
		return fate.DivertTo(fate.Internal, fmt.Sprintf("task %s is not loaded here", j.Task), nil)
	}
	if j.Model == "" {
		j.Model = t.Model
	}
	t.Sign(j, broker.ContextBuilder)
	remembers := t.Remembers(j.Session)
	if !remembers && h.isAnswered(ctx, t, j) {
		return nil
	}
	m := h.tasks.Model(t, j.Model)
	if m == nil {
		return fate.DivertTo(fate.Internal, fmt.Sprintf("model %s is not loaded here", job.Cut(j.Model, 64)), nil)
	}
	// A new prompt begins a new dialogue: what another model said, and was told, is no part of it.
	j.Answer, j.Correction = nil, nil
	b, err := h.begin(t, m, j)
	switch {
	case err != nil:
	case remembers:
		err = h.recall(ctx, b)
	default:
		err = b.compose()
	}
	h.count(b)
	if err != nil {
		if f, ok := errors.AsType[*fate.Error](err); ok && f.Waits() {
			h.metrics.waits.WithLabelValues(t.Name).Inc()
		}
		return onLadder(j, err)
	}
	if remembers && h.isAnswered(ctx, t, j) {
		return nil
	}
	return h.finish(b)
}

// finish puts the prompt into the job, if it can be paid for.
func (h *Handler) finish(b *build) error {
	j, count := b.job, b.scaled(b.kept.size.tokens)
	limit, err := b.afford(count)
	if err != nil {
		return err
	}
	messages := b.messages()
	h.tell(b, messages)
	h.log.Debug().Str("job", j.ID).Str("task", j.Task).Str("stage", broker.ContextBuilder).Str("model", j.Model).
		Int("prompt_tokens", count).Str("trace_id", job.TraceID(j.TraceParent)).Msg("the prompt is made")
	j.Prompt, j.PromptTokens, j.MaxOutputTokens = job.NewPrompt(messages...), count, limit
	return nil
}

// count adds a prompt that was measured to the metrics.
func (h *Handler) count(b *build) {
	if b != nil && b.kept.size.tokens > 0 {
		h.metrics.prompt(b.task.Name, b.model.Name, b.scaled(b.kept.size.tokens))
	}
}

// onLadder turns a rejection into a diversion for a job on the ladder: the request was admitted and is not
// at fault if another model can not take it; the next rung may.
func onLadder(j *job.Job, err error) error {
	refused, ok := errors.AsType[*fate.Error](err)
	if j.Trouble == nil || !ok || refused.Fate != fate.Reject {
		return err
	}
	return fate.DivertTo(refused.Code, refused.Message, refused.Cause)
}
