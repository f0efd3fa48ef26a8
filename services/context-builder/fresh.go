package contextbuilder

import (
	"context"
	"errors"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/cache"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// What a look for a fresh answer ended in.
const (
	lookHit  = "hit"
	lookMiss = "miss"
)

// lookTimeout bounds a look: a call is the way out, and a cache that does not answer must not hold it up.
const lookTimeout = 250 * time.Millisecond

// isAnswered ends the run with a cached answer, where the task serves fresh ones in place of a call and there
// is one. On the ladder the rung decides, and a replay on another model is to ask that one.
func (h *Handler) isAnswered(ctx context.Context, t *task.Task, j *job.Job) bool {
	if t.Cache.Serve != task.ServeFresh || j.CacheRenew || j.CacheBypass || j.Trouble != nil || j.Model != t.Model {
		return false
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	o, err := cache.Look(ctx, h.conn, t, j, t.Cache.FreshFor)
	e := job.Event{
		Kind: job.KindCache, Stage: broker.ContextBuilder, At: started.UTC(), TookMS: time.Since(started).Milliseconds(), Outcome: lookMiss,
	}
	if _, missed := errors.AsType[*cache.Miss](err); err != nil && !missed {
		h.log.Warn().Err(err).Str("job", j.ID).Msg("cache not read, the model is called")
		e.Detail = "the cache did not answer"
	} else if missed {
		e.Detail = err.Error()
	} else {
		e.Outcome, e.Model = lookHit, o.Model
		o.Status = job.Succeeded
		j.Outcome, j.To = o, broker.ResultWriter
	}
	h.metrics.looks.WithLabelValues(t.Name, e.Outcome).Inc()
	j.Record(e)
	return j.Outcome != nil
}
