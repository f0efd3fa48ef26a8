package fallback

import (
	"context"
	"errors"
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
		if errors.Is(err, errBack) {
			f.log.Info().Msg("reading the deadline index anew")
		} else {
			f.log.Error().Err(err).Msg("the deadline index falls behind, reading all anew")
		}
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
			f.retry(e, panickedAgain)
		}
	}()
	err := f.answerOverdue(try, e)
	if err == nil || ctx.Err() != nil {
		return
	}
	f.log.Warn().Err(err).Str("job", e.id).Msg("deadline not answered yet, trying again")
	if e.run == anyRun {
		f.retry(e, panickedAgain) // its marker may be unreadable for ever
		return
	}
	f.retry(e, triedAgain)
}

func (f *fallback) retry(e entry, after time.Duration) {
	e.answerBy = nanoseconds(time.Now().Add(after))
	f.index.put(e)
}

// answerOverdue gives a run without a result its answer, from what the marker knows of it.
func (f *fallback) answerOverdue(ctx context.Context, e entry) error {
	m, _, err := f.conn.Marker(ctx, e.id)
	if isNotFound(err) && e.run == anyRun {
		return nil // it may have been long over
	}
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
	if f.isPutBack(e, m) {
		return nil
	}
	run, err := f.conn.ResultRun(ctx, m.Task, m.ID)
	if err != nil || run >= m.Run {
		return err
	}
	if e.unsure {
		f.m.unknown.Inc()
		f.log.Warn().Str("job", m.ID).Str("task", m.Task).Int("run", m.Run).
			Msg("deadline reached, and a result may be kept no longer, so none is written: the bound of the results is too small")
		return nil
	}
	return f.standIn(ctx, m)
}

// isPutBack makes a run wait on whose marker has its time clearly ahead: what the index was told was wrong,
// or nothing. A time that no run can have is not waited for.
func (f *fallback) isPutBack(e entry, m *job.Marker) bool {
	if ahead := time.Until(m.AnswerBy); ahead <= time.Second || ahead > farthest {
		return false
	}
	e.run, e.answerBy = int32(m.Run), nanoseconds(m.AnswerBy)
	f.index.put(e)
	return true
}

// standIn hands in what the ladder has for a run that is overdue.
func (f *fallback) standIn(ctx context.Context, m *job.Marker) error {
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
	t := f.versionOf(ctx, m)
	if t != nil {
		t.Sign(j, broker.Fallback)
		for _, rung := range t.Ladder {
			outcome, detail := rungSkipped, "no time for a call"
			switch {
			case rung.Kind == task.RungCache:
				outcome, detail = f.fromCache(ctx, j, t, rung)
			case rung.Kind == task.RungCanned:
				outcome, detail = f.fromChosen(j, t, m)
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

// versionOf is the task in the version that the marker names, the live one if that is not to be had in time; nil: it is
// not known.
func (f *fallback) versionOf(ctx context.Context, m *job.Marker) *task.Task {
	try, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	t, err := f.tasks.ForMarker(try, m)
	if err != nil {
		f.log.Warn().Err(err).Str("job", m.ID).Str("task", m.Task).Msg("version of the task not read, answering from the live one")
		return f.tasks.Live().Tasks[m.Task]
	}
	return t
}

// fromChosen answers with the canned answer that was chosen at admission. The number that another version of
// the task chose may mean another answer here; the last one is for every input.
func (f *fallback) fromChosen(j *job.Job, t *task.Task, m *job.Marker) (outcome, detail string) {
	n := m.Canned
	if m.TaskVersion != t.Version {
		n, detail = len(t.Canned), "chosen by another version of the task; the answer for everything else"
	}
	if n == 0 {
		return rungMissed, "no canned answer was chosen"
	}
	f.answer(j, t, cannedOutcome(t, n))
	return rungTaken, detail
}
