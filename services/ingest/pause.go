package ingest

import (
	"fmt"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// paused refuses a request that was published while its task is paused. What was taken before goes on: what JetStream
// acknowledged before the pause, and what a desk has acknowledged, which had not heard of it yet. mine: the marker was
// not a desk's.
func (in *ingest) paused(j *job.Job, mine bool) *fate.Error {
	p, paused := in.tasks.Paused(j.Task)
	if !paused || j.AcknowledgedAt.Before(p.Since) || j.Arrival.Header[broker.DeskHeader] != "" && !mine {
		return nil
	}
	return fate.Rejection(fate.TaskPaused, pausedBy(j.Task, p)+"send it again under a new id when it is resumed")
}

// pausedBy says who paused a task, since when and why; what to do is to follow.
func pausedBy(name string, p task.Pause) string {
	why := ""
	if p.Why != "" {
		why = " (" + job.Cut(p.Why, job.MaxDetail) + ")"
	}
	return fmt.Sprintf("the task %s was paused by %s at %s%s and takes no new requests: ", name, p.By, p.Since.UTC().Format(time.RFC3339), why)
}
