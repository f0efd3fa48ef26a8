package inference

import (
	"context"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Seen is what one call showed beside its answer. The zero value: none was made.
type Seen struct {
	// Sent is true once the request went out. Status is 0 until a response came.
	Sent   bool
	Status int
	// AnsweredBy is the model that the response names; "": none.
	AnsweredBy string
	// Streamed says that the answer came as a stream; FirstToken then is when it began.
	Streamed         bool
	FirstToken, Took time.Duration
	// Counted are the tokens of the prompt as counted before the call. Input and Output are what the provider reported,
	// if Reported, else an estimate.
	Counted, Input, Output int
	Reported               bool
}

// Try makes one call for j, as Handle does, and says what it showed.
func (h *Handler) Try(ctx context.Context, j *job.Job) (Seen, error) {
	c, err := h.handle(ctx, j)
	if c == nil {
		return Seen{}, err
	}
	spent := c.spent()
	return Seen{
		Sent: c.sent, Status: c.status, AnsweredBy: job.Cut(c.answeredBy, maxName),
		Streamed: c.body != nil && c.whole == nil, FirstToken: c.firstToken, Took: c.took,
		Counted: c.inputTokens(), Input: spent.input, Output: spent.output, Reported: spent.input > 0 && !spent.estimated,
	}, err
}

// Close lets go of the connections that wait for another call.
func (h *Handler) Close() {
	for _, p := range h.providers {
		p.transport.CloseIdleConnections()
	}
}

// Unusable says why a provider can not be called from here, and what to do; nil: it can, as far as that is known
// without a call.
func Unusable(env *stage.Env, p *task.Provider) error {
	made, err := newProvider(env, p)
	if err != nil {
		return err
	}
	made.transport.CloseIdleConnections()
	return nil
}
