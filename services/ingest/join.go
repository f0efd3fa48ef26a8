package ingest

import (
	"context"
	"errors"
	"fmt"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

// join notes the job with its session before anybody else sees it: what was accepted before a request is in the
// session's record, or still in the stream of requests, whenever that request's prompt is built. A redelivered request
// finds that it did so. A record that cannot be read, by hand or of a later version, is left as it is.
func (in *ingest) join(ctx context.Context, j *job.Job, t *task.Task) error {
	if !t.Remembers(j.Session) {
		return nil
	}
	p := session.Pending{
		ID: j.ID, Run: j.Run, Deadline: j.Deadline,
		Place: session.Place{Lane: j.Lane, Seq: j.RequestSeq, At: j.AcknowledgedAt},
	}
	err := in.sessions.Join(ctx, j.Tenant, j.Task, j.Session, t.Retention.Session, p)
	if errors.Is(err, session.ErrCrowded) {
		return fate.Rejection(fate.SessionCrowded, fmt.Sprintf("%d requests of this session wait for their results", session.MaxPending))
	}
	if errors.Is(err, broker.ErrUnreadable) {
		in.log.Error().Err(err).Str("job", j.ID).Str("task", j.Task).Str("session", j.Session).
			Msg("the session's record can not be read, its requests are answered without it: look at it, then `spillway session rm`")
		return nil
	}
	if err != nil {
		return fmt.Errorf("join the session of %s: %w", j.ID, err)
	}
	return nil
}
