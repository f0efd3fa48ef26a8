package contextbuilder

import (
	"encoding/json"
	"time"

	"spillway/pkg/job"
	"spillway/pkg/session"
	"spillway/pkg/task"
	"spillway/pkg/tokens"
)

// Preview is a prompt as a job would get it.
type Preview struct {
	// Messages are what the model would see, Sections the same by what they are made of, with what is left out.
	Messages []job.Message
	Sections []job.ShownSection
	// Tokens is the count of the prompt, Budget the most that it may have, Window what the model has for prompt and answer.
	Tokens, Budget, Window int
	// MaxOutput is the limit of the answer; 0: none.
	MaxOutput int
}

// Previewer makes prompts without a job, a broker, or a call: what it makes is what the stage would. It is safe for
// concurrent use.
type Previewer struct{ handler *Handler }

// NewPreviewer keeps the counts of texts that several previews share.
func NewPreviewer() *Previewer { return &Previewer{&Handler{counter: tokens.New()}} }

// Prompt makes the prompt of a request for a model of its task. s is what is remembered of its session, all of it
// accepted before the request; nil: it has none. The error is the one that the job would have, of type *fate.Error. Beside
// it stands what is never cut, where that is what does not fit, or costs too much.
func (p *Previewer) Prompt(t *task.Task, m *task.Model, input json.RawMessage, s *session.Session) (*Preview, error) {
	b, err := p.handler.begin(t, m, &job.Job{Task: t.Name, Model: m.Name, Input: input})
	if err != nil {
		return nil, err
	}
	if s != nil {
		b.take(s, session.Place{At: time.Now()})
	}
	err = b.compose()
	if b.kept.size == (size{}) {
		return nil, err
	}
	messages, count := b.messages(), b.scaled(b.kept.size.tokens)
	limit, unpaid := b.afford(count)
	if err == nil {
		err = unpaid
	}
	return &Preview{
		Messages: messages, Sections: b.sections(messages),
		Tokens: count, Budget: b.budget.input, Window: b.budget.window, MaxOutput: limit,
	}, err
}

// InputBudget is the most tokens that a prompt of the task for the model may have.
func InputBudget(t *task.Task, m *task.Model) int { return budgetOf(t, m, 0).input }
