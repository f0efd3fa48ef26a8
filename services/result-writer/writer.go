package resultwriter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/drift"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/killpoint"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Definition is the stage.
func Definition() stage.Definition {
	return stage.Definition{Name: broker.ResultWriter, FinishesLate: true, Slots: 256, New: newWriter}
}

type writer struct {
	conn  *broker.Conn
	tasks *task.Book
	m     *metrics
	drift *drift.Watch
	log   zerolog.Logger
}

var _ stage.Handler = (*writer)(nil)

func newWriter(env *stage.Env) (stage.Handler, error) {
	watch, err := drift.NewWatch(env.Log.With().Str("stage", broker.ResultWriter).Logger(), env.Metrics)
	if err != nil {
		return nil, err
	}
	return &writer{conn: env.Conn, tasks: env.Book(), m: newMetrics(env.Metrics), drift: watch, log: env.Log}, nil
}

// Handle writes the job's result, unless its run has one already.
func (w *writer) Handle(ctx context.Context, j *job.Job) error {
	if j.Outcome == nil {
		return fate.DivertTo(fate.Internal, "a job without an outcome came to result-writer", nil)
	}
	// Before the result, so that who saw it and asks the same again finds it; also when the result is another
	// by now: a late real answer does not replace it, but may serve others.
	w.feedCache(ctx, j)
	stored, err := w.write(ctx, j)
	if err != nil {
		return err
	}
	if stored != nil {
		keepLate(j, stored)
		return fate.DoneElsewhere("the run has its result")
	}
	killpoint.Here("result-written")
	return nil
}

// tryFor bounds one try to write: a result that is stored later than it says it was finished would hide a missed
// deadline, so after an outage it is made anew.
const (
	tryFor       = time.Second
	connectPause = 20 * time.Millisecond
	// maxTried bounds the tries that are remembered: an older one was stored long ago, or never will be.
	maxTried = 8
)

// write stores the result. It returns what is stored instead when the run has its result already; a
// result of an older run is superseded.
func (w *writer) write(ctx context.Context, j *job.Job) (instead *broker.Stored, err error) {
	var tried [][]byte // what may have been stored though no acknowledgement came
	for {
		r := j.Result(time.Now().UTC())
		m, err := message(j, r)
		if err != nil {
			return nil, err
		}
		switch err = w.try(ctx, m, j.Supersedes); {
		case err == nil:
			w.count(r)
			return nil, nil
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			tried = append(tried[max(0, len(tried)-maxTried):], m.Data)
			continue
		case !errors.Is(err, broker.ErrConflict):
			return nil, fmt.Errorf("write the result of %s: %w", j.ID, err)
		}
		stored, err := w.conn.Last(ctx, broker.ResultsStream, broker.ResultSubject(j.Task, j.ID))
		switch {
		case errors.Is(err, broker.ErrNotFound):
			// What this run was to replace has expired, or another's write was in flight and failed.
			j.Supersedes = 0
		case err != nil:
			return nil, fmt.Errorf("read the result of %s back: %w", j.ID, err)
		case isAmong(append(tried, m.Data), stored.Data):
			r.Late = !r.Deadline.IsZero() && stored.At.After(r.Deadline)
			w.count(r)
			return nil, nil
		case broker.RunOf(stored.Header) >= j.Run:
			return stored, nil
		default:
			j.Supersedes = stored.Sequence
		}
	}
}

// count adds a result that was written to what is counted and watched.
func (w *writer) count(r *job.Result) {
	w.m.count(r)
	w.weigh(r)
}

func (w *writer) try(ctx context.Context, m *nats.Msg, last uint64) error {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	// What is published without a connection is sent, as it is, when there is one again.
	for !w.conn.NC.IsConnected() {
		pause := time.NewTimer(connectPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
	_, err := w.conn.PublishExpecting(ctx, m, last)
	return err
}

// isAmong reports whether what is stored is one of this process's own tries.
func isAmong(tried [][]byte, stored []byte) bool {
	return slices.ContainsFunc(tried, func(own []byte) bool { return bytes.Equal(own, stored) })
}

// keepLate keeps a job whose real answer came after the deadline's, so that it can be replayed.
func keepLate(j *job.Job, stored *broker.Stored) {
	status := job.Status(stored.Header.Get(broker.StatusHeader))
	if j.Outcome.Status != job.Succeeded || broker.RunOf(stored.Header) != j.Run || status != job.Degraded && status != job.Failed {
		return
	}
	j.Keep = &job.Letter{
		Stage: broker.ResultWriter, Code: fate.Deadline, Message: "the answer came after the deadline's", Degraded: status == job.Degraded,
	}
}

func message(j *job.Job, r *job.Result) (*nats.Msg, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the result of %s: %w", j.ID, err)
	}
	h := nats.Header{
		broker.JobHeader: {j.ID}, broker.RunHeader: {strconv.Itoa(j.Run)}, broker.StatusHeader: {string(r.Status)},
	}
	broker.Belonging(h, j.Tenant, j.Session)
	if j.TaskVersion != "" {
		h[broker.VersionHeader] = []string{j.TaskVersion}
	}
	if j.TraceParent != "" {
		h[broker.TraceParentHeader] = []string{j.TraceParent}
	}
	return &nats.Msg{Subject: broker.WriteSubject(j.Task, j.ID), Data: body, Header: h}, nil
}
