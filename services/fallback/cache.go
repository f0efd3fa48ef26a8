package fallback

import (
	"context"
	"errors"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/cache"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

const (
	// lookTimeout bounds a look into the cache, which may wait for an election.
	lookTimeout = 2 * time.Second
	// lookPart is which part of the time that is left it may take: near the deadline the next rung needs the rest.
	lookPart  = 4
	leastLook = 20 * time.Millisecond
)

// fromCache answers with an earlier checked answer to the same input, if it is young enough.
func (f *fallback) fromCache(ctx context.Context, j *job.Job, t *task.Task, rung task.Rung) (outcome, detail string) {
	ctx, cancel := context.WithTimeout(ctx, min(lookTimeout, max(time.Until(j.Deadline)/lookPart, leastLook)))
	defer cancel()
	o, err := cache.Look(ctx, f.conn, t, j, rung.MaxAge)
	miss, missed := errors.AsType[*cache.Miss](err)
	switch {
	case missed && miss.Barred:
		return rungSkipped, miss.Why
	case missed:
		return rungMissed, miss.Why
	case err != nil:
		f.log.Warn().Err(err).Str("job", j.ID).Msg("cache not read")
		return rungMissed, "the cache did not answer"
	}
	o.Degraded = &job.Degradation{Rung: task.RungCache, AgeMS: *o.AgeMS}
	f.answer(j, t, *o)
	return rungTaken, ""
}

func isNotFound(err error) bool { return errors.Is(err, broker.ErrNotFound) }
