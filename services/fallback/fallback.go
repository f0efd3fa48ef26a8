package fallback

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/admission"
	"spillway/pkg/broker"
	"spillway/pkg/bundle"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Definition is the stage.
func Definition() stage.Definition {
	a := &admission.Admission{}
	return stage.Definition{
		Name: broker.Fallback, Aside: true, FinishesLate: true,
		SendsOn: []string{broker.ContextBuilder, broker.Inference, broker.ResultWriter},
		Inboxes: append(stage.Lanes(broker.Fallback, stage.DefaultSlots), stage.Inbox{
			Stream: broker.StageStream(broker.Fallback), Subject: broker.AllReplays, Consumer: broker.ReplayConsumer,
			Slots: 16, Decode: decodeReplay, Gate: a.Gate(job.Interactive),
		}),
		New: newFallback,
	}
}

type fallback struct {
	conn     *broker.Conn
	tasks    *task.Book
	versions *bundle.Store
	index    *index
	m        *metrics
	log      zerolog.Logger
}

var (
	_ stage.Handler = (*fallback)(nil)
	_ stage.Worker  = (*fallback)(nil)
)

func newFallback(env *stage.Env) (stage.Handler, error) {
	m := newMetrics(env.Metrics)
	return &fallback{conn: env.Conn, tasks: env.Book(), versions: bundle.NewStore(env.Conn), index: newIndex(m), m: m, log: env.Log}, nil
}

// Handle answers a diverted job, or starts a new run.
func (f *fallback) Handle(ctx context.Context, j *job.Job) error {
	if j.Raw != nil {
		return f.replay(ctx, j)
	}
	if j.Trouble == nil {
		return fate.DivertTo(fate.Internal, "a job without a trouble came to fallback", nil)
	}
	over, err := f.isOver(ctx, j)
	if err != nil {
		return err
	}
	if over != nil {
		return over
	}
	return f.climb(ctx, j)
}

// isOver reports, as an error with a fate, that the run has its result already: the deadline's answer came
// first, or an earlier delivery's. What was not answered properly is kept for a replay.
func (f *fallback) isOver(ctx context.Context, j *job.Job) (over, err error) {
	if j.Trouble.Code != fate.Deadline && j.Arrival.Deliveries <= 1 && time.Until(j.Deadline) > time.Second {
		return nil, nil
	}
	stored, err := f.conn.Last(ctx, broker.ResultsStream, broker.ResultSubject(j.Task, j.ID))
	switch {
	case isNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the result of %s: %w", j.ID, err)
	case broker.RunOf(stored.Header) < j.Run:
		return nil, nil
	}
	status := job.Status(stored.Header.Get(broker.StatusHeader))
	if broker.RunOf(stored.Header) == j.Run && (status == job.Failed || status == job.Degraded) {
		j.Keep = letterOf(j, status == job.Degraded)
	}
	return fate.DoneElsewhere("the run has its result"), nil
}

// letterOf is the dead letter of a job on the ladder.
func letterOf(j *job.Job, degraded bool) *job.Letter {
	return &job.Letter{
		Stage: j.Trouble.Stage, Code: j.Trouble.Code, Message: j.Trouble.Message, Stack: j.Trouble.Stack, Degraded: degraded,
	}
}
