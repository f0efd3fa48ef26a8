package resultwriter

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// feedCache keeps a checked answer of a model for jobs that will find no model. Nothing degraded,
// rejected or failed enters. Losing an entry costs a worse answer one day, so the write is not awaited.
func (w *writer) feedCache(_ context.Context, j *job.Job) {
	o := j.Outcome
	if o.Status != job.Succeeded || o.Source != job.FromModel || j.CacheKey == "" {
		return
	}
	t := w.tasks.Tasks[j.Task]
	if t == nil || t.Cache.Keep <= 0 || t.Cache.Serve == "never" {
		return
	}
	body, err := json.Marshal(job.CachedAnswer{
		V: job.Version, ID: j.ID, Task: j.Task, TaskVersion: j.TaskVersion, Output: o.Output,
		Model: o.Model, AnsweredBy: o.AnsweredBy, At: time.Now().UTC(),
	})
	if err != nil {
		return
	}
	m := &nats.Msg{Subject: broker.CacheSubject(j.CacheKey), Data: body, Header: broker.ExpiresAfter(t.Cache.Keep)}
	if _, err := w.conn.JS.PublishMsgAsync(m); err != nil {
		w.log.Warn().Err(err).Str("job", j.ID).Msg("answer not cached")
	}
}
