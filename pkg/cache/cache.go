package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// lookTimeout bounds a look: the cache is a help, and somebody waits.
const lookTimeout = 2 * time.Second

// Miss is why there is no cached answer for a job.
type Miss struct {
	// Barred is true when none was looked for.
	Barred bool
	// Why is a sentence for the history.
	Why string
}

func (m *Miss) Error() string { return m.Why }

// Look returns the kept answer that may be given to j in place of a call, not older than maxAge. Without one
// the error is a *Miss, or what went wrong with the broker.
func Look(ctx context.Context, conn *broker.Conn, t *task.Task, j *job.Job, maxAge time.Duration) (*job.Outcome, error) {
	switch {
	case j.CacheBypass:
		return nil, &Miss{true, "the request bypasses the cache"}
	case j.CacheKey == "" || t.Cache.Serve == task.ServeNever:
		return nil, &Miss{true, "the task's answers are not cached"}
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stored, err := conn.Last(ctx, broker.CacheStream, broker.CacheSubject(j.CacheKey))
	switch {
	case errors.Is(err, broker.ErrNotFound):
		return nil, &Miss{Why: "nothing cached for this input"}
	case err != nil:
		return nil, err
	}
	var kept job.CachedAnswer
	if err := json.Unmarshal(stored.Data, &kept); err != nil {
		return nil, fmt.Errorf("decode the cached answer %s: %w", j.CacheKey, err)
	}
	if kept.Task != j.Task || kept.Tenant != j.Tenant && t.Cache.Scope != task.ScopeEveryone {
		return nil, fmt.Errorf("the cached answer %s is not of this task and tenant", j.CacheKey)
	}
	age := max(time.Since(kept.At), 0)
	if age > maxAge {
		return nil, &Miss{Why: fmt.Sprintf("the cached answer is %s old, %s is the most", age.Round(time.Second), maxAge)}
	}
	ms := age.Milliseconds()
	return &job.Outcome{Output: kept.Output, Source: job.FromCache, Model: kept.Model, AnsweredBy: kept.AnsweredBy, AgeMS: &ms}, nil
}

// Keep keeps the answer of a run that ended, if it may serve others. The write is not awaited: losing it costs
// a call, or a worse answer, one day.
func Keep(conn *broker.Conn, t *task.Task, j *job.Job) error {
	if !isKept(t, j) {
		return nil
	}
	o := j.Outcome
	body, err := json.Marshal(job.CachedAnswer{
		V: job.Version, ID: j.ID, Task: j.Task, TaskVersion: j.TaskVersion, Tenant: j.Tenant, Output: o.Output,
		Model: o.Model, AnsweredBy: o.AnsweredBy, At: answeredAt(j),
	})
	if err != nil {
		return fmt.Errorf("encode the answer of %s for the cache: %w", j.ID, err)
	}
	m := &nats.Msg{Subject: broker.CacheSubject(j.CacheKey), Data: body, Header: broker.ExpiresAfter(t.Cache.Keep)}
	if _, err := conn.JS.PublishMsgAsync(m); err != nil {
		return fmt.Errorf("cache the answer of %s: %w", j.ID, err)
	}
	return nil
}

// isKept reports whether the run's answer is the task's own, made by one version of it.
func isKept(t *task.Task, j *job.Job) bool {
	o := j.Outcome
	switch {
	case t.Cache.Serve == task.ServeNever || t.Cache.Keep <= 0 || j.CacheKey == "" || j.CacheBypass || j.Mixed:
		return false
	case o.Status != job.Succeeded || o.Source != job.FromModel:
		return false
	}
	// A replay may have asked another model than the key says.
	return o.Model == t.Model || o.Model == t.Correction.LastOn && o.Recovery == job.RecoveryCorrected
}

// answeredAt is when the model answered. The answer may have waited since, for a result-writer that was gone.
func answeredAt(j *job.Job) time.Time {
	for _, e := range slices.Backward(j.History) {
		if e.Kind == job.KindCall {
			return e.At.Add(time.Duration(e.TookMS) * time.Millisecond).UTC()
		}
	}
	return time.Now().UTC()
}
