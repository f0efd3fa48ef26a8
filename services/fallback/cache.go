package fallback

import (
	"context"
	"errors"

	"spillway/pkg/broker"
	"spillway/pkg/cache"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// fromCache answers with an earlier checked answer to the same input, if it is young enough.
func (f *fallback) fromCache(ctx context.Context, j *job.Job, t *task.Task, rung task.Rung) (outcome, detail string) {
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
