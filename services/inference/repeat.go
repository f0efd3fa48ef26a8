package inference

import (
	"context"
	"fmt"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// Results tells which run of a job has its result already: 0 when none has.
type Results interface {
	ResultRun(ctx context.Context, task, id string) (run int, err error)
}

// fromBroker returns what the connection can do for the guards; without one they are off.
func fromBroker(conn *broker.Conn) (Results, Cancels) {
	if conn == nil {
		return nil, nil
	}
	return conn, conn
}

// answeredBefore is the guard before paying: a job that was delivered before may have ended meanwhile,
// in another process or by fallback, and is then dropped without a call.
func (h *Handler) answeredBefore(ctx context.Context, j *job.Job) error {
	if j.Arrival.Deliveries <= 1 || h.results == nil {
		return nil
	}
	run, err := h.results.ResultRun(ctx, j.Task, j.ID)
	if err != nil {
		return fmt.Errorf("reading the result of a redelivered job: %w", err)
	}
	if run >= j.Run {
		return fate.DoneElsewhere("the run has its result already")
	}
	return nil
}
