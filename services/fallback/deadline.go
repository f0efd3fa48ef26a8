package fallback

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// Bounds of the deadline watch.
const (
	// longestRun is how far back a marker can be whose run has not ended.
	longestRun = 25 * time.Hour
	// answersAtOnce is how many overdue runs are answered in parallel.
	answersAtOnce = 64
	// answerTimeout bounds one try to answer; a run that could not be answered is tried again.
	answerTimeout = 10 * time.Second
	// followPulse is how soon a dead leader is noticed by the consumers that the index follows.
	followPulse = time.Second
)

// Run keeps the deadline index until ctx ends.
func (f *fallback) Run(ctx context.Context) error {
	for {
		stop, err := f.follow(ctx)
		if err == nil {
			defer stop()
			f.keepDeadlines(ctx)
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		f.log.Error().Err(err).Msg("deadlines are not watched, trying again")
		again := time.NewTimer(time.Second)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil
		}
	}
}

// follow reads which runs have results, then which runs there are, and keeps following both. The order
// keeps the heap small at a start with many kept results: only runs without one enter it.
func (f *fallback) follow(ctx context.Context) (stop func(), err error) {
	since := time.Now().Add(-longestRun)
	results := newSeen()
	stopResults, err := f.consume(ctx, broker.ResultsStream, true, since, func(m jetstream.Msg) {
		id, run := broker.Token(m.Subject(), 3), broker.RunOf(m.Headers())
		results.add(id, run)
		f.index.done(id, run)
	})
	if err != nil {
		return nil, err
	}
	stopMarkers, err := f.consume(ctx, broker.AdmittedStream, false, since, func(m jetstream.Msg) {
		var marker job.Marker
		if err := json.Unmarshal(m.Data(), &marker); err != nil {
			f.log.Error().Err(err).Str("subject", m.Subject()).Msg("a marker cannot be read, its deadline is not watched")
			return
		}
		if results.run(marker.ID) < marker.Run {
			f.index.add(marker.ID, marker.Run, marker.AnswerBy)
		}
	})
	if err != nil {
		stopResults()
		return nil, err
	}
	results.forget()
	f.log.Debug().Msg("deadline index is complete")
	return func() { stopMarkers(); stopResults() }, nil
}

// consume follows a stream from since on and returns once what is stored by now was handled.
func (f *fallback) consume(ctx context.Context, stream string, headersOnly bool, since time.Time, handle func(jetstream.Msg)) (func(), error) {
	c, err := f.conn.JS.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since, HeadersOnly: headersOnly,
	})
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", stream, err)
	}
	s, err := f.conn.JS.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", stream, err)
	}
	last := s.CachedInfo().State.LastSeq
	caught := make(chan struct{})
	var once sync.Once
	if s.CachedInfo().State.Msgs == 0 {
		once.Do(func() { close(caught) })
	}
	following, err := c.Consume(func(m jetstream.Msg) {
		handle(m)
		if md, err := m.Metadata(); err == nil && (md.NumPending == 0 || md.Sequence.Stream >= last) {
			once.Do(func() { close(caught) })
		}
	}, jetstream.PullHeartbeat(followPulse), jetstream.PullExpiry(10*followPulse),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			f.log.Debug().Err(err).Str("stream", stream).Msg("following is interrupted")
		}))
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", stream, err)
	}
	quiet := time.NewTimer(caughtUpAtLatest)
	defer quiet.Stop()
	select {
	case <-caught:
	case <-quiet.C: // everything stored is older than since, or was deleted meanwhile
	case <-ctx.Done():
		following.Stop()
		return nil, ctx.Err()
	}
	return following.Stop, nil
}

// caughtUpAtLatest ends the wait for a stream in which nothing is left to deliver.
const caughtUpAtLatest = 30 * time.Second

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
			f.log.Error().Str("job", e.id).Str("stack", string(debug.Stack())).Msgf("answering at the deadline panicked: %v", v)
		}
	}()
	err := f.answerOverdue(try, e)
	if err == nil || ctx.Err() != nil {
		return
	}
	f.log.Warn().Err(err).Str("job", e.id).Msg("deadline not answered yet, trying again")
	f.index.add(e.id, e.run, time.Now().Add(time.Second))
}

// answerOverdue gives a run without a result its answer, from what the marker knows of it.
func (f *fallback) answerOverdue(ctx context.Context, e entry) error {
	m, _, err := f.conn.Marker(ctx, e.id)
	if isNotFound(err) {
		f.m.markersLost.Inc()
		f.log.Error().Str("job", e.id).Int("run", e.run).Msg("a marker is gone before its deadline: the bound of the markers is too small")
		return nil
	}
	if err != nil {
		return err
	}
	if m.Run > e.run {
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
