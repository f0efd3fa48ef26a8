package fallback

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"spillway/pkg/broker"
	"spillway/pkg/bundle"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/schema"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// overrides are what the body of a replay may change.
type overrides struct {
	Model       string `json:"model"`
	TaskVersion string `json:"task_version"`
}

// refusal is why a job is not replayed.
type refusal struct {
	code    fate.Code
	message string
}

func (r *refusal) Error() string { return r.message }

// decodeReplay makes a job of a replay order: an id, and the order itself.
func decodeReplay(data []byte, a job.Arrival) (*job.Job, error) {
	id := broker.Token(a.Subject, 2)
	if !job.IsID(id) {
		return nil, fmt.Errorf("a replay of %q: not an id", job.Cut(id, 80))
	}
	if data == nil {
		data = []byte{}
	}
	return &job.Job{V: job.Version, ID: id, Task: unknownTask, Run: 1, Lane: job.Interactive, Raw: data, Arrival: a}, nil
}

// unknownTask stands in subjects for the task of an id that nothing is known of.
const unknownTask = "unknown"

// replay turns the order j into the new run of the job that it names, or refuses it aloud.
func (f *fallback) replay(ctx context.Context, j *job.Job) error {
	order := j.Arrival
	err := f.renew(ctx, j, order)
	refused, ok := errors.AsType[*refusal](err)
	if !ok {
		return err
	}
	f.m.replays.WithLabelValues("refused").Inc()
	f.log.Warn().Str("job", j.ID).Str("code", string(refused.code)).Msg("replay refused: " + refused.message)
	stage.Announce(f.conn, stage.Progress{
		ID: j.ID, Task: j.Task, Stage: broker.Fallback, Event: "replay_refused", Code: refused.code, Message: refused.message,
	})
	return fate.DoneElsewhere("replay refused")
}

func (f *fallback) renew(ctx context.Context, j *job.Job, order job.Arrival) error {
	wanted, err := readOverrides(j.Raw)
	if err != nil {
		return err
	}
	letter, stored, err := f.conn.Dead(ctx, j.ID)
	if isNotFound(err) {
		return f.notDead(ctx, j)
	}
	if errors.Is(err, broker.ErrUnreadable) {
		return &refusal{fate.NotReplayable, "the dead letter was written by another version and cannot be read by this one"}
	}
	if err != nil {
		return fmt.Errorf("read the dead letter of %s: %w", j.ID, err)
	}
	if !letter.IsReplayable() {
		return &refusal{fate.NotReplayable, "the dead letter holds no job with an input"}
	}
	j.Task = letter.Job.Task
	supersedes, err := f.supersedable(ctx, j)
	if err != nil {
		return err
	}
	t, err := f.wanted(ctx, wanted, j.Task)
	if err != nil {
		return err
	}
	run, err := f.take(ctx, letter.Job, order, supersedes, t)
	if err != nil {
		return err
	}
	if t, err = f.tasks.ForMarker(ctx, run); err != nil { // of an earlier delivery of this order, it may be another one
		return fmt.Errorf("get the task of %s: %w", j.ID, err)
	}
	if run.Run <= letter.Job.Run {
		return fate.DoneElsewhere("this order's run has ended already")
	}
	f.m.replays.WithLabelValues("started").Inc()
	renewed(j, letter.Job, run)
	j.ForgetDead = stored.Sequence
	if t != nil {
		j.Model = t.Model
	}
	if wanted.Model != "" {
		j.Model = wanted.Model
	}
	j.To = broker.ContextBuilder
	return nil
}

func readOverrides(body []byte) (overrides, error) {
	var o overrides
	if len(bytes.TrimSpace(body)) == 0 {
		return o, nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return o, &refusal{fate.InvalidRequest, "the body of a replay is empty or {\"model\", \"task_version\"}: " + err.Error()}
	}
	return o, nil
}

// wanted is the task in the version that a new run is to end under: the live one, unless the order names another.
func (f *fallback) wanted(ctx context.Context, o overrides, name string) (*task.Task, error) {
	t := f.tasks.Live().Tasks[name]
	if o.TaskVersion != "" && (t == nil || t.Version != o.TaskVersion) {
		var err error
		if t, err = f.stored(ctx, name, o.TaskVersion); err != nil {
			return nil, err
		}
	}
	switch {
	case t == nil:
		return nil, &refusal{fate.UnknownTask, "the task was taken out, or never loaded; a replay may name a task_version that is stored"}
	case o.Model != "" && f.tasks.Model(t, o.Model) == nil:
		return nil, &refusal{fate.InvalidRequest, fmt.Sprintf("there is no model %q", job.Cut(o.Model, 64))}
	}
	return t, nil
}

// maxNamed is how many versions a refusal names.
const maxNamed = 10

// stored is a version that the task's record knows. What it knows no more is about to be collected, even if it can still
// be had.
func (f *fallback) stored(ctx context.Context, name, version string) (*task.Task, error) {
	r, _, err := f.versions.Record(ctx, name)
	if err != nil && !errors.Is(err, bundle.ErrNoTask) {
		return nil, err
	}
	var known []string
	if r != nil {
		for _, v := range r.Versions[:min(len(r.Versions), maxNamed)] {
			known = append(known, v.Version)
		}
	}
	no := &refusal{fate.InvalidRequest, fmt.Sprintf("version %q of the task is not stored; stored are, the last one first: %s", job.Cut(version, 64), cmp.Or(strings.Join(known, ", "), "none"))}
	if r == nil || r.Known(version) == nil {
		return nil, no
	}
	t, err := f.tasks.Version(ctx, name, version)
	switch {
	case errors.Is(err, task.ErrNoVersion):
		return nil, no
	case errors.Is(err, task.ErrUnfit):
		return nil, &refusal{fate.InvalidRequest, job.Cut(err.Error(), job.MaxDetail)}
	}
	return t, err
}

// notDead says why an id without a dead letter is not replayed.
func (f *fallback) notDead(ctx context.Context, j *job.Job) error {
	held, _, err := f.conn.Marker(ctx, j.ID)
	if isNotFound(err) {
		return &refusal{fate.NotFound, "nothing is known of this id"}
	}
	if err != nil {
		return fmt.Errorf("read the marker of %s: %w", j.ID, err)
	}
	j.Task = held.Task
	if held.ReplaySeq == j.Arrival.Sequence {
		return fate.DoneElsewhere("this order has started its run already")
	}
	if held.Run > 1 {
		if run, err := f.conn.ResultRun(ctx, held.Task, j.ID); err == nil && run < held.Run {
			return &refusal{fate.ReplayInFlight, fmt.Sprintf("run %d is under way", held.Run)}
		}
	}
	return &refusal{fate.NotReplayable, "no dead letter is kept of this job"}
}

// supersedable returns the sequence of the result that a new run would replace; 0: there is none.
func (f *fallback) supersedable(ctx context.Context, j *job.Job) (uint64, error) {
	r, sequence, err := f.conn.Result(ctx, j.Task, j.ID)
	switch {
	case isNotFound(err):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read the result of %s: %w", j.ID, err)
	case r.Status == job.Degraded || r.Status == job.Failed:
		return sequence, nil
	}
	return 0, &refusal{fate.NotReplayable, fmt.Sprintf("run %d ended as %s", r.Run, r.Status)}
}

// take moves the marker to the new run under t, in the name of this order. A redelivered order finds that it did so
// before, and goes on.
func (f *fallback) take(ctx context.Context, dead *job.Job, order job.Arrival, supersedes uint64, t *task.Task) (*job.Marker, error) {
	for {
		held, sequence, err := f.conn.Marker(ctx, dead.ID)
		if err != nil && !isNotFound(err) {
			return nil, fmt.Errorf("read the marker of %s: %w", dead.ID, err)
		}
		if held == nil {
			held = &job.Marker{
				V: job.Version, ID: dead.ID, Task: dead.Task, Tenant: dead.Tenant, Lane: dead.Lane,
				RequestStream: broker.RequestStream(dead.Lane), RequestSeq: dead.RequestSeq,
				Session: dead.Session, Parent: dead.Parent, CacheKey: dead.CacheKey, Run: dead.Run,
			}
			if len(dead.Metadata) <= job.MaxMarkedMetadata {
				held.Metadata = dead.Metadata
			}
		}
		if held.ReplaySeq == order.Sequence {
			return held, nil
		}
		if held.Run > dead.Run {
			return nil, &refusal{fate.ReplayInFlight, fmt.Sprintf("run %d is under way", held.Run)}
		}
		next := *held
		next.Run, next.ReplaySeq, next.Supersedes = dead.Run+1, order.Sequence, supersedes
		total := dead.Deadline.Sub(dead.AcknowledgedAt)
		next.AcknowledgedAt, next.Deadline = order.At.UTC(), order.At.UTC().Add(total)
		next.AnswerBy, next.TraceParent = next.Deadline.Add(-t.AnswerLead(total)), dead.TraceParent
		f.markVersion(&next, dead, t)
		err = f.conn.Readmit(ctx, &next, sequence)
		if err == nil {
			return &next, nil
		}
		if !errors.Is(err, broker.ErrConflict) {
			return nil, fmt.Errorf("move the marker of %s to run %d: %w", dead.ID, next.Run, err)
		}
	}
}

// markVersion makes the marker that of a version of the task, which may not be the one of the run before.
func (f *fallback) markVersion(m *job.Marker, dead *job.Job, t *task.Task) {
	m.TaskVersion, m.CacheKey, m.Canned = t.Version, "", 0
	input, err := schema.Decode(dead.Input)
	if err != nil {
		f.log.Warn().Err(err).Str("job", dead.ID).Msg("the input of a replay cannot be read for cached and canned answers")
		return
	}
	m.CacheKey, m.Canned = t.StandIns(dead.Tenant, dead.Session, input)
	if dead.CacheBypass {
		m.CacheKey = ""
	}
}

// renewed makes j the job of the new run: what the client asked, without what the last run made of it.
// Its history is kept.
func renewed(j, dead *job.Job, m *job.Marker) {
	*j = job.Job{
		V: job.Version, ID: dead.ID, Task: dead.Task, Tenant: dead.Tenant, Lane: dead.Lane, Session: dead.Session,
		Parent: dead.Parent, TraceParent: dead.TraceParent, RequestSeq: m.RequestSeq, Run: m.Run, Supersedes: m.Supersedes,
		AcknowledgedAt: m.AcknowledgedAt, Deadline: m.Deadline, HandedOverAt: m.AcknowledgedAt,
		Input: dead.Input, Metadata: dead.Metadata, Webhook: dead.Webhook, Stream: dead.Stream,
		TaskVersion: m.TaskVersion, CacheBypass: dead.CacheBypass, CacheRenew: dead.CacheRenew, CacheKey: m.CacheKey, History: dead.History, Arrival: j.Arrival,
	}
}
