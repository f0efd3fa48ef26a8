package contextbuilder

import (
	"context"
	"fmt"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/session"
	"spillway/pkg/stage"
)

// What was answered becomes a turn when the session's next prompt is built. Who comes back after a night would find that
// the last result has expired, and the turn is lost: so sessions at rest are settled while the results are there.

const (
	// restMost is how long a session is left alone before it is looked at, restShare what part of the age of results at
	// most, and how often in that time.
	restMost  = time.Hour
	restShare = 4
	// restAgain is after a look that failed.
	restAgain = time.Minute
	// restSpan is how far back sessions are looked for: a request may take a day, and its result is kept as long.
	restSpan = 48 * time.Hour
)

var _ stage.Worker = (*Handler)(nil)

// Run settles sessions at rest until ctx ends.
func (h *Handler) Run(ctx context.Context) error {
	known := map[string]uint64{}
	for ctx.Err() == nil {
		rest, err := h.rest(ctx)
		if err == nil {
			err = h.settleRested(ctx, time.Now().Add(-rest), known)
		}
		again := rest / restShare
		if err != nil && ctx.Err() == nil {
			h.log.Warn().Err(err).Str("stage", broker.ContextBuilder).Msg("not all sessions at rest were looked at, they are looked at again")
			again = restAgain
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
	return nil
}

// rest is how long a session is left alone.
func (h *Handler) rest(ctx context.Context) (time.Duration, error) {
	results, err := h.conn.JS.Stream(ctx, broker.ResultsStream)
	if err != nil {
		return 0, fmt.Errorf("ask how long results are kept: %w", err)
	}
	if age := results.CachedInfo().Config.MaxAge; age > 0 {
		return min(restMost, age/restShare), nil
	}
	return restMost, nil
}

// settleRested settles the sessions that were written last before a moment.
func (h *Handler) settleRested(ctx context.Context, until time.Time, known map[string]uint64) error {
	var fault error
	err := h.sessions.Unsettled(ctx, until.Add(-restSpan), until, known, func(s *session.Session) {
		if err := h.settleOne(ctx, s); err != nil {
			fault = err
		}
	})
	if err != nil {
		return err
	}
	return fault
}

// settleOne makes turns of what ended in a session, as a prompt of a request that waits for nobody would.
func (h *Handler) settleOne(ctx context.Context, s *session.Session) error {
	t := h.tasks.Live().Tasks[s.Task]
	if t == nil || h.tasks.Model(t, t.Model) == nil || !t.Remembers(s.Name) {
		return nil
	}
	r, err := h.rulerOf(h.tasks.Model(t, t.Model))
	if err != nil {
		return err
	}
	b := &build{ruler: r, job: &job.Job{Task: s.Task, Run: 2}, task: t}
	ended := endings{}
	_, err = h.sessions.Update(ctx, s.Tenant, s.Task, s.Name, t.Retention.Session, func(s *session.Session) (bool, error) {
		_, settled, err := h.settle(ctx, s, b.again(), session.Place{At: time.Now()}, ended)
		if err != nil {
			return false, err
		}
		return h.foldedMeanwhile(ctx, s, b, ended) || settled, nil
	})
	if err != nil {
		return fmt.Errorf("settle session %s at rest: %w", s.Name, err)
	}
	h.metrics.refusedStates.WithLabelValues(t.Name).Add(float64(b.refused))
	return nil
}
