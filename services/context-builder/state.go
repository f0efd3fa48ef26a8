package contextbuilder

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"spillway/pkg/expr"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

// update sets the parts of the session's state that the task declares, from an answer. A state that does not satisfy its
// schema, or is too large, is refused as a whole: the one before stays.
func (b *build) update(s *session.Session, p session.Pending, output any) {
	if len(b.task.Context.StateUpdate) == 0 {
		return
	}
	state, err := b.updated(s, p, output)
	if err != nil {
		b.refused++
		b.note("the answer of %s leaves the state as it was: %s", p.ID, job.Cut(err.Error(), job.MaxDetail/2))
		return
	}
	s.State = state
}

// updated is the state after an answer. All expressions see the one before it.
func (b *build) updated(s *session.Session, p session.Pending, output any) (json.RawMessage, error) {
	vars := expr.Vars{Output: output, Session: map[string]any{
		"id": s.Name, "turns": json.Number(strconv.Itoa(s.Totals.Turns)),
	}}
	if state, err := schema.Decode(s.State); err == nil {
		vars.State, _ = state.(map[string]any)
	}
	if input, err := schema.Decode(p.Input); err == nil {
		vars.Input = input
	}
	var next any = vars.State
	if vars.State == nil {
		next = map[string]any{}
	}
	for _, u := range b.task.Context.StateUpdate {
		value, err := u.Expr.Value(vars)
		if errors.Is(err, expr.ErrMissing) {
			continue
		}
		if err == nil {
			next, err = schema.With(next, u.Pointer, value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", u.Pointer, err)
		}
	}
	if b.task.State != nil {
		for _, violation := range b.task.State.Validate(next) {
			return nil, errors.New(violation.String())
		}
	}
	text, err := task.Canonical(next)
	if err == nil && len(text) > session.MaxState {
		err = fmt.Errorf("it would have %d bytes, %d is the most", len(text), session.MaxState)
	}
	return text, err
}
