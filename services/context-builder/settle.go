package contextbuilder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

// settlesAtOnce bounds the results that are read for one prompt: the next prompt goes on.
const settlesAtOnce = 64

// endings are the results that were read for a prompt, by id: how a run ended does not change. nil: it has not.
type endings map[string]*job.Result

// settle makes turns of the requests that ended, in order of acceptance. It returns the one that the job has to wait
// for; nil: none. Replays hold nobody up, and wait for nobody; a batch request holds up those of its lane alone.
func (h *Handler) settle(ctx context.Context, s *session.Session, b *build, here session.Place, ended endings) (waits *session.Pending, changed bool, err error) {
	inTurn := b.task.Context.Order == task.OneAtATime
	reads := 0
	for _, p := range slices.Clone(s.Pending) {
		isEarlier := p.Place.Before(here)
		isOverdue := time.Now().After(p.Deadline.Add(session.Grace))
		switch {
		case p.ID == b.job.ID, inTurn && !isEarlier && p.Run == 1:
			continue
		case (!inTurn || p.Run > 1) && p.User == "" && !isOverdue:
			continue // nothing was made of it yet that could be remembered
		}
		isAhead := inTurn && isEarlier && p.Run == 1 && b.job.Run == 1 && !mayTakeADay(p, b.job)
		if reads++; reads > settlesAtOnce && isAhead {
			return &p, changed, nil
		} else if reads > settlesAtOnce {
			continue
		}
		r, err := h.ending(ctx, b.task.Name, p, ended)
		switch {
		case err != nil:
			return nil, changed, err
		case r != nil:
			b.settle(s, p, r)
		case isOverdue && (p.User == "" || time.Now().After(p.Deadline.Add(session.Late))):
			s.Settle(p.ID, nil)
		case isOverdue:
			continue // a result that is written late makes a turn yet, but nobody waits for it any more
		case isAhead:
			return &p, changed, nil
		default:
			continue
		}
		changed = true
	}
	return nil, changed, nil
}

// mayTakeADay reports whether a request is of the batch lane and the job is not: somebody waits for the job, and would
// for all that the lane and its deadlines allow. The answer is seen when it is there.
func mayTakeADay(p session.Pending, j *job.Job) bool {
	return p.Lane == job.Batch && j.Lane == job.Interactive
}

// ending reads the result of a request from the leader; nil: there is none of this run.
func (h *Handler) ending(ctx context.Context, taskName string, p session.Pending, ended endings) (*job.Result, error) {
	if r := ended[p.ID]; r != nil && r.Run >= p.Run {
		return r, nil
	}
	r, _, err := h.conn.Result(ctx, taskName, p.ID)
	switch {
	case errors.Is(err, broker.ErrNotFound):
		return nil, nil
	case errors.Is(err, broker.ErrUnreadable): // it will not get better, and the session goes on
		h.log.Error().Err(err).Str("job", p.ID).Str("task", taskName).Msg("a result can not be read, it is no turn of its session")
		r = &job.Result{Run: p.Run, Status: job.Failed}
	case err != nil:
		return nil, fmt.Errorf("read the result of %s: %w", p.ID, err)
	case r.Run < p.Run:
		return nil, nil
	}
	ended[p.ID] = r
	return r, nil
}

// settle makes a turn of a request with its result. Without an output, or a prompt, there is nothing to remember.
func (b *build) settle(s *session.Session, p session.Pending, r *job.Result) {
	s.Count(r.Usage, r.CostUSD)
	output, err := schema.Decode(r.Output)
	if err != nil || r.Status != job.Succeeded && r.Status != job.Degraded || p.User == "" {
		s.Settle(p.ID, nil)
		return
	}
	answer, err := b.task.Prompt.RenderAnswer(output)
	if err != nil {
		b.note("the answer of %s is shown as it is: %s", p.ID, err)
		answer = string(r.Output)
	}
	s.Settle(p.ID, &session.Turn{ID: p.ID, Run: r.Run, Place: p.Place, User: p.User, Assistant: answer, Source: r.Source})
	isNewest := s.Turns[len(s.Turns)-1].ID == p.ID
	if r.Source != job.FromCanned && (p.Run == 1 || isNewest) {
		b.update(s, p, output)
	}
}
