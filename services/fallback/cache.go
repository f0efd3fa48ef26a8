package fallback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// cacheTimeout bounds the look into the cache: it is a help, and the deadline is near.
const cacheTimeout = 2 * time.Second

// fromCache answers with an earlier checked answer to the same input, if it is young enough.
func (f *fallback) fromCache(ctx context.Context, j *job.Job, t *task.Task, rung task.Rung) (outcome, detail string) {
	switch {
	case j.CacheBypass:
		return rungSkipped, "the request bypasses the cache"
	case j.CacheKey == "" || t.Cache.Serve == "never":
		return rungSkipped, "the task's answers are not cached"
	}
	cached, err := f.cached(ctx, j.CacheKey)
	if isNotFound(err) {
		return rungMissed, "nothing cached for this input"
	}
	if err != nil {
		f.log.Warn().Err(err).Str("job", j.ID).Msg("cache not read")
		return rungMissed, "the cache did not answer"
	}
	age := time.Since(cached.At)
	if age > rung.MaxAge {
		return rungMissed, fmt.Sprintf("the cached answer is %s old, %s is the most", age.Round(time.Second), rung.MaxAge)
	}
	f.answer(j, t, cachedOutcome(cached, age))
	return rungTaken, ""
}

func cachedOutcome(cached *job.CachedAnswer, age time.Duration) job.Outcome {
	return job.Outcome{
		Output: cached.Output, Source: job.FromCache, Model: cached.Model, AnsweredBy: cached.AnsweredBy,
		Degraded: &job.Degradation{Rung: task.RungCache, AgeMS: age.Milliseconds()},
	}
}

func (f *fallback) cached(ctx context.Context, key string) (*job.CachedAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	stored, err := f.conn.Last(ctx, broker.CacheStream, broker.CacheSubject(key))
	if err != nil {
		return nil, err
	}
	cached := &job.CachedAnswer{}
	if err := json.Unmarshal(stored.Data, cached); err != nil {
		return nil, fmt.Errorf("decode the cached answer %s: %w", key, err)
	}
	return cached, nil
}

func isNotFound(err error) bool { return errors.Is(err, broker.ErrNotFound) }
