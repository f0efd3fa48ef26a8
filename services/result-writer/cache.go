package resultwriter

import (
	"context"

	"spillway/pkg/cache"
	"spillway/pkg/job"
)

// feedCache keeps a checked answer for jobs that are to be spared a call, or will find no model.
func (w *writer) feedCache(ctx context.Context, j *job.Job) {
	t, err := w.tasks.For(ctx, j)
	if err == nil && t == nil {
		return
	}
	if err == nil {
		err = cache.Keep(ctx, w.conn, t, j)
	}
	if err != nil {
		w.log.Warn().Err(err).Str("job", j.ID).Msg("answer not cached")
	}
}
