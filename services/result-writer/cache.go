package resultwriter

import (
	"context"

	"spillway/pkg/cache"
	"spillway/pkg/job"
)

// feedCache keeps a checked answer for jobs that are to be spared a call, or will find no model.
func (w *writer) feedCache(ctx context.Context, j *job.Job) {
	t := w.tasks.Tasks[j.Task]
	if t == nil {
		return
	}
	if err := cache.Keep(ctx, w.conn, t, j); err != nil {
		w.log.Warn().Err(err).Str("job", j.ID).Msg("answer not cached")
	}
}
