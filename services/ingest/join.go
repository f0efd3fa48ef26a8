package ingest

import (
	"context"
	"errors"
	"fmt"

	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/session"
	"spillway/pkg/task"
)

// join notes the job with its session before anybody else sees it: what was accepted before a request is in the
// session's record, or still in the stream of requests, whenever that request's prompt is built. A redelivered request
// finds that it did so.
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
	if err != nil {
		return fmt.Errorf("join the session of %s: %w", j.ID, err)
	}
	return nil
}
