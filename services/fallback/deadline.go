package fallback

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Bounds of the deadline watch.
const (
	// answersAtOnce is how many overdue runs are answered in parallel.
	answersAtOnce = 64
	// answerTimeout bounds one try to answer; a run that could not be answered is tried again.
	answerTimeout = 10 * time.Second
	// triedAgain is how soon. What panicked may do so for ever, and says so each time.
	triedAgain, panickedAgain = time.Second, 10 * time.Second
)

// Run keeps the deadline index until ctx ends. What is in it is answered while the rest is still being read.
func (f *fallback) Run(ctx context.Context) error {
	var answering sync.WaitGroup
	defer answering.Wait()
	answering.Go(func() { f.keepDeadlines(ctx) })
	for {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.log.Error().Err(err).Msg("the deadline index falls behind, reading all anew")
		again := time.NewTimer(time.Second)
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
}

// Unready is why this process should not stand in for another yet; "": it may.
func (f *fallback) Unready() string {
	if f.index.complete.Load() {
		return ""
	}
	return "the deadlines of unfinished runs are still being read"
}

// keepDeadlines answers the runs whose time has come.
func (f *fallback) keepDeadlines(ctx context.Context) {
	room := make(chan struct{}, answersAtOnce)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		runs, next := f.index.due(time.Now(), answersAtOnce)
		for _, e := range runs {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			all.Go(func() {
				defer func() { <-room }()
				f.keepDeadline(ctx, e)
			})
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-f.index.wake:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// keepDeadline answers one run, or puts it back to be tried again.
func (f *fallback) keepDeadline(ctx context.Context, e entry) {
	try, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			f.log.Error().Str("job", e.id).Str("stack", string(debug.Stack())).Msgf("answering at the deadline panicked, trying again: %v", v)
			f.index.add(e.id, int(e.run), time.Now().Add(panickedAgain))
		}
	}()
	err := f.answerOverdue(try, e)
	if err == nil || ctx.Err() != nil {
		return
	}
	f.log.Warn().Err(err).Str("job", e.id).Msg("deadline not answered yet, trying again")
	f.index.add(e.id, int(e.run), time.Now().Add(triedAgain))
}

// answerOverdue gives a run without a result its answer, from what the marker knows of it.
func (f *fallback) answerOverdue(ctx context.Context, e entry) error {
	m, _, err := f.conn.Marker(ctx, e.id)
	if isNotFound(err) {
		f.m.markersLost.Inc()
		f.log.Error().Str("job", e.id).Int32("run", e.run).Msg("a marker is gone before its deadline: the bound of the markers is too small")
		return nil
	}
	if err != nil {
		return err
	}
	if m.Run > int(e.run) {
		return nil // a newer run has an entry of its own
	}
	run, err := f.conn.ResultRun(ctx, m.Task, m.ID)
	if err != nil || run >= m.Run {
		return err
	}
	late := time.Now().After(m.Deadline)
	j := f.overdue(ctx, m)
	f.m.overdue.WithLabelValues(string(j.Outcome.Status)).Inc()
	f.log.Warn().Str("job", m.ID).Str("task", m.Task).Int("run", m.Run).Bool("late", late).
		Str("status", string(j.Outcome.Status)).Msg("deadline reached without a result, answered from the ladder")
	return stage.HandIn(ctx, f.conn, j, ".deadline")
}

// overdue is the job of a run that is answered at its deadline: the rungs that need no job, in order.
func (f *fallback) overdue(ctx context.Context, m *job.Marker) *job.Job {
	j := m.Job()
	j.Trouble = &job.Trouble{Stage: broker.Fallback, Code: fate.Deadline, Message: "no result by the deadline", At: time.Now().UTC()}
	t := f.tasks.Tasks[m.Task]
	if t != nil {
		for _, rung := range t.Ladder {
			outcome, detail := rungSkipped, "no time for a call"
			switch {
			case rung.Kind == task.RungCache:
				outcome, detail = f.fromCache(ctx, j, t, rung)
			case rung.Kind == task.RungCanned && m.Canned > 0 && m.TaskVersion == t.Version:
				f.answer(j, t, cannedOutcome(t, m.Canned))
				outcome, detail = rungTaken, ""
			case rung.Kind == task.RungCanned:
				outcome, detail = rungMissed, "no canned answer was chosen"
			}
			j.Record(job.Event{Kind: job.KindRung, Stage: broker.Fallback, At: time.Now().UTC(), Rung: rung.Kind, Model: rung.Model, Outcome: outcome, Detail: detail})
			if outcome == rungTaken {
				return j
			}
		}
	}
	j.Fail(fate.Deadline, j.Trouble.Message+"; the job is kept where it is stuck and becomes a dead letter there", "")
	return j
}
