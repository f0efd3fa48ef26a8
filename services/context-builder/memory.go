package contextbuilder

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

// recall makes the prompt of a job of a session, with what the session remembers. In one change of the record the
// requests that ended become turns, a summary that was made takes the place of those that it stands for, and it is
// noted what this job's turn will say. Repeated, it finds that all of this was done, and makes the same prompt.
func (h *Handler) recall(ctx context.Context, b *build) error {
	if err := h.awaitEarlier(ctx, b); err != nil {
		return err
	}
	if err := h.stillWaits(ctx, b.job); err != nil {
		return err
	}
	j, ended := b.job, endings{}
	var verdict error
	_, err := h.sessions.Update(ctx, j.Tenant, j.Task, j.Session, b.task.Retention.Session, func(s *session.Session) (bool, error) {
		write, err := h.remember(ctx, s, b.again(), ended)
		if _, decided := errors.AsType[*fate.Error](err); decided {
			verdict = err // what is known of the others by now is kept all the same
			return write, nil
		}
		verdict = nil
		return write, err
	})
	if errors.Is(err, broker.ErrUnreadable) {
		h.log.Error().Err(err).Str("job", j.ID).Str("task", j.Task).Str("session", j.Session).Msg("the session's record can not be read")
		b.note("the session's record can not be read, nothing is remembered")
		return b.compose()
	}
	if err != nil {
		return err
	}
	h.metrics.refusedStates.WithLabelValues(j.Task).Add(float64(b.refused))
	if verdict != nil && len(b.notes) > 0 { // no prompt is told of in which they could stand
		j.Record(job.Event{Kind: job.KindContext, Stage: broker.ContextBuilder, At: time.Now().UTC(), Detail: b.detail()})
	}
	return verdict
}

// again forgets what was made of a record that another one changed meanwhile.
func (b *build) again() *build {
	b.turns, b.summary, b.state, b.notes, b.tried, b.counted, b.refused = nil, nil, nil, b.notes[:b.early], nil, false, 0
	return b
}

// remember brings a session up to date and makes the prompt. It reports whether there is something to write.
func (h *Handler) remember(ctx context.Context, s *session.Session, b *build, ended endings) (write bool, err error) {
	j := b.job
	write, err = s.Join(session.Pending{ID: j.ID, Run: j.Run, Place: acceptedAt(s, j), Deadline: j.Deadline})
	if err != nil {
		b.note("%s: this request will not be remembered", err) // it is admitted, so it is answered
	}
	here, isKnown := placeIn(s, j)
	if !isKnown && err == nil {
		b.note("what was accepted after it in its session has left already: no conversation is shown, and it will not be remembered")
	}
	waits, settled, err := h.settle(ctx, s, b, here, ended)
	write = write || settled
	if err != nil {
		return write, err
	}
	if waits != nil {
		return write, waitFor(j, waits.ID)
	}
	write = h.foldedMeanwhile(ctx, s, b, ended) || write
	b.take(s, here)
	j.State = s.State
	if err := b.compose(); err != nil {
		return write, err
	}
	b.sign(s)
	write = s.Built(j.ID, b.bare.user, b.inputToKeep()) || write || b.counted
	return h.fold(ctx, s, b) || write, nil
}

// acceptedAt is the job's place in the order of acceptance. A replay was acknowledged anew: one of the newest request that
// is over must not look like a later one for it.
func acceptedAt(s *session.Session, j *job.Job) session.Place {
	if j.Run > 1 && j.Lane == s.Over.Lane && j.RequestSeq == s.Over.Seq {
		return s.Over
	}
	return session.Place{Lane: j.Lane, Seq: j.RequestSeq, At: j.AcknowledgedAt}
}

// placeIn is where the session has the job: a replay stands where its first run did. One that is not known came too late.
func placeIn(s *session.Session, j *job.Job) (place session.Place, isKnown bool) {
	for i := range s.Pending {
		if s.Pending[i].ID == j.ID {
			return s.Pending[i].Place, true
		}
	}
	for i := range s.Turns {
		if s.Turns[i].ID == j.ID {
			return s.Turns[i].Place, true
		}
	}
	return acceptedAt(s, j), false
}

// take takes out of the session what the job may see: what was accepted before it.
func (b *build) take(s *session.Session, here session.Place) {
	for i := range s.Turns {
		if one := &s.Turns[i]; one.Place.Before(here) {
			b.turns = append(b.turns, turn{counts: &one.Counts, messages: []job.Message{
				{Role: roleUser, Content: one.User}, {Role: roleAssistant, Content: one.Assistant},
			}})
		}
	}
	if s.Over.Before(here) { // else it speaks of what came later, too
		b.summary = s.Summary
	}
	state, err := schema.Decode(s.State)
	if err == nil {
		b.state, _ = state.(map[string]any)
	}
}

// sign gives the job the key of answers that may stand in for its own: now it is known what its prompt shows.
func (b *build) sign(s *session.Session) {
	j := b.job
	if j.CacheBypass || j.Trouble != nil && j.CacheKey != "" {
		return // on the ladder the key stays that of the prompt for the task's own model
	}
	var turns []session.Turn
	for _, t := range b.shown() {
		turns = append(turns, session.Turn{User: t.messages[0].Content, Assistant: t.messages[1].Content})
	}
	var summary *session.Summary
	if b.kept.summary {
		summary = b.summary
	}
	visible, err := task.Canonical(b.task.Prompt.Visible(b.state))
	if err != nil || len(b.task.Context.StateInPrompt) == 0 || s.State == nil {
		visible = nil
	}
	input, err := schema.Decode(j.Input)
	if err != nil {
		return
	}
	if canonical, err := task.Canonical(input); err == nil {
		j.CacheKey = b.task.CacheKey(j.Tenant, canonical, session.Digest(summary, turns, visible))
	}
}

// inputToKeep is what the state's expressions will want to read: the record has no room to carry inputs for nothing. One
// that says input in another sense keeps it, too.
func (b *build) inputToKeep() json.RawMessage {
	for _, u := range b.task.Context.StateUpdate {
		if strings.Contains(u.Expr.String(), "input") {
			return b.job.Input
		}
	}
	return nil
}
