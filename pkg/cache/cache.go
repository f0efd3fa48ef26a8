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
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

const (
	// lateAfter is how old an answer is that may come behind a newer one.
	lateAfter = 5 * time.Second
	// lookFor bounds the look for that newer one: a result waits for it.
	lookFor = 250 * time.Millisecond
)

// Miss is why there is no cached answer for a job.
type Miss struct {
	// Barred is true when none was looked for.
	Barred bool
	// Why is a sentence for the history.
	Why string
}

func (m *Miss) Error() string { return m.Why }

// Look returns the kept answer that may be given to j in place of a call, not older than maxAge. It is looked at as the
// validator did: whoever wrote it, nothing unchecked is served. Without one
// the error is a *Miss, or what went wrong with the broker. The cache is a help, and somebody waits: the caller's
// ctx says for how long.
func Look(ctx context.Context, conn *broker.Conn, t *task.Task, j *job.Job, maxAge time.Duration) (*job.Outcome, error) {
	switch {
	case j.CacheBypass:
		return nil, &Miss{true, "the request bypasses the cache"}
	case j.CacheKey == "" || t.Cache.Serve == task.ServeNever:
		return nil, &Miss{true, "the task's answers are not cached"}
	}
	kept, storedAt, err := read(ctx, conn, j.CacheKey)
	switch {
	case errors.Is(err, broker.ErrNotFound):
		return nil, &Miss{Why: "nothing cached for this input"}
	case err != nil:
		return nil, err
	case kept.V != job.Version:
		return nil, &Miss{Why: "the cached answer was written by another version"}
	case kept.Task != j.Task || kept.Tenant != j.Tenant && t.Cache.Scope != task.ScopeEveryone:
		return nil, fmt.Errorf("the cached answer %s is not of this task and tenant", j.CacheKey)
	}
	output, err := schema.Decode(kept.Output)
	switch {
	case err != nil || t.OutputSchema != nil && t.OutputSchema.Validate(output) != nil:
		return nil, fmt.Errorf("the cached answer %s does not satisfy the schema of the task", j.CacheKey)
	case len(j.Input) > 0 && t.Broken(j.Input, output) != nil:
		// It was given to another input, of which cache.key says that it is the same. Of a job that is stuck elsewhere the
		// input is not known here.
		return nil, &Miss{Why: "the cached answer breaks a rule of the task for this input"}
	}
	// The clock that the model's answer was timed with may be wrong; the broker's tells when it came.
	age := max(time.Since(kept.At), time.Since(storedAt), 0)
	if most := min(maxAge, t.Cache.Keep); age > most {
		return nil, &Miss{Why: fmt.Sprintf("the cached answer is %s old, %s is the most", age.Round(time.Second), most)}
	}
	ms := age.Milliseconds()
	return &job.Outcome{Output: kept.Output, Source: job.FromCache, Model: kept.Model, AnsweredBy: kept.AnsweredBy, AgeMS: &ms}, nil
}

func read(ctx context.Context, conn *broker.Conn, key string) (kept job.CachedAnswer, at time.Time, err error) {
	stored, err := conn.Last(ctx, broker.CacheStream, broker.CacheSubject(key))
	if err != nil {
		return kept, at, err
	}
	if err := json.Unmarshal(stored.Data, &kept); err != nil {
		return kept, at, fmt.Errorf("decode the cached answer %s: %w", key, err)
	}
	return kept, stored.At, nil
}

// Keep keeps the answer of a run that ended, if it may serve others. The write is not awaited: losing it costs
// a call, or a worse answer, one day. An answer that is late looks for a newer one first, for lookFor at most.
func Keep(ctx context.Context, conn *broker.Conn, t *task.Task, j *job.Job) error {
	if !isKept(t, j) {
		return nil
	}
	o, at := j.Outcome, answeredAt(j)
	age := max(time.Since(at), 0)
	if age >= t.Cache.Keep {
		return nil
	}
	if age > lateAfter && hasNewer(ctx, conn, j.CacheKey, at) {
		return nil
	}
	body, err := json.Marshal(job.CachedAnswer{
		V: job.Version, ID: j.ID, Task: j.Task, TaskVersion: j.TaskVersion, Tenant: j.Tenant, Output: o.Output,
		Model: o.Model, AnsweredBy: o.AnsweredBy, At: at,
	})
	if err != nil {
		return fmt.Errorf("encode the answer of %s for the cache: %w", j.ID, err)
	}
	m := &nats.Msg{Subject: broker.CacheSubject(j.CacheKey), Data: body, Header: broker.ExpiresAfter(t.Cache.Keep - age)}
	if _, err := conn.JS.PublishMsgAsync(m); err != nil {
		return fmt.Errorf("cache the answer of %s: %w", j.ID, err)
	}
	return nil
}

// hasNewer reports whether an answer is kept that was made after at. That it could not be read is no reason not to
// keep another.
func hasNewer(ctx context.Context, conn *broker.Conn, key string, at time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	kept, _, err := read(ctx, conn, key)
	return err == nil && kept.At.After(at)
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
