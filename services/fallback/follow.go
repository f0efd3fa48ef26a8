package fallback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// This file keeps the index in step with the streams.

const (
	// longestRun is how far back a marker can be whose run has not ended.
	longestRun = 25 * time.Hour
	// longestDeadline is what a task may allow a run at most.
	longestDeadline = 24 * time.Hour
	// farthest is how far from its marker's time a run's answer-by can be: twice that, for clocks that differ.
	farthest = 2 * longestDeadline
	// followPulse is how soon a dead leader is noticed by the consumers that the index follows.
	followPulse = time.Second
	// followAtOnce is how many messages are on their way from the server: they are headers only.
	followAtOnce = 10_000
	// quietFor ends the wait for what was stored at the start: the rest was deleted meanwhile.
	quietFor = 5 * time.Second
	// anewEvery is how often the streams are looked at for a new beginning.
	anewEvery = 10 * time.Second
)

// errAnew is a stream whose sequences began anew, so that what comes next is not what follows.
var errAnew = errors.New("the stream was made anew, or has lost its end")

// errBack is a connection that was away.
var errBack = errors.New("connected again")

// follow reads which runs have results, then which runs there are, and keeps following both until ctx ends.
// The order keeps the heap small at a start with many kept results: only runs without one enter it.
func (f *fallback) follow(ctx context.Context) error {
	back := make(chan struct{}, 1)
	remove := f.conn.OnReconnect(func() {
		select {
		case back <- struct{}{}:
		default:
		}
	})
	defer remove()
	since := time.Now().Add(-longestRun)
	results := newSeen()
	told, err := f.consume(ctx, broker.ResultsStream, true, since, func(m jetstream.Msg) error {
		id, run := broker.Token(m.Subject(), 3), broker.RunOf(m.Headers())
		results.add(id, run)
		f.index.done(id, run)
		return nil
	})
	if err != nil {
		return err
	}
	defer told.stop()
	kept, err := f.resultsKept(ctx)
	if err != nil {
		return err
	}
	markers, err := f.consume(ctx, broker.AdmittedStream, f.areMarkersLabelled(ctx), since, func(m jetstream.Msg) error {
		e, at, err := f.readMarker(ctx, m)
		if kept.isWatched(&e, at) && results.run(e.id) < int(e.run) {
			f.index.put(e)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer markers.stop()
	results.forget()
	f.index.complete.Store(true)
	f.log.Debug().Int("unfinished", f.index.size()).Msg("deadline index is complete")
	return f.watchTails(ctx, back, told, markers)
}

// kept says of which runs every result can still be read.
type kept struct {
	// since is the time from which on all results are kept.
	since time.Time
	// sure is the time from which on a run whose deadline is ahead cannot have lost one. It is not since when
	// results leave by their age alone: such a run is younger than any that left.
	sure time.Time
}

// isWatched reports whether the run of a marker from at is to be answered at its time, and notes when that can
// not be known. Of those whose results may have left, nearly all that had their time have ended: to answer them
// would tell their clients a second result. One that is still stuck is answered when a stage takes it up.
func (k kept) isWatched(e *entry, at time.Time) bool {
	e.unsure = at.Before(k.sure)
	return e.run > 0 && (e.run == anyRun || !at.Before(k.since) || e.answerBy > time.Now().UnixNano())
}

// resultsKept asks the stream of the results.
func (f *fallback) resultsKept(ctx context.Context) (kept, error) {
	s, err := f.conn.JS.Stream(ctx, broker.ResultsStream)
	if err != nil {
		return kept{}, fmt.Errorf("look at %s: %w", broker.ResultsStream, err)
	}
	return keptOf(s.CachedInfo(), time.Now()), nil
}

func keptOf(info *jetstream.StreamInfo, now time.Time) kept {
	state, config := info.State, info.Config
	var k kept
	if config.MaxAge > 0 {
		k.since = now.Add(-config.MaxAge + config.MaxAge/1000) // the server's clock may differ
	}
	if config.MaxAge < longestDeadline { // with none, since is the beginning
		k.sure = k.since
	}
	// A stream near its bound has dropped its oldest, or is about to.
	full := config.MaxBytes > 0 && state.Bytes >= uint64(config.MaxBytes)/10*9 ||
		config.MaxMsgs > 0 && state.Msgs >= uint64(config.MaxMsgs)/10*9
	if full && state.FirstTime.After(k.since) {
		k.since = state.FirstTime
	}
	if full && state.FirstTime.After(k.sure) {
		k.sure = state.FirstTime
	}
	return k
}

// areMarkersLabelled looks at the oldest marker: an earlier version wrote them without headers.
func (f *fallback) areMarkersLabelled(ctx context.Context) bool {
	first, err := f.conn.First(ctx, broker.AdmittedStream, broker.AllAdmitted)
	if err != nil {
		return isNotFound(err)
	}
	_, _, ok := broker.AnswerBy(first.Header)
	return ok
}

// readMarker takes from a marker's headers, or else from its body, when the run is to be answered, and tells
// when the marker was stored. Run 0: the marker is gone. One that cannot be read now is due at once, which
// reads it again.
func (f *fallback) readMarker(ctx context.Context, m jetstream.Msg) (e entry, at time.Time, err error) {
	e.id = broker.Token(m.Subject(), 2)
	md, err := m.Metadata()
	if err != nil {
		return e, at, fmt.Errorf("a marker without a place in its stream, its deadline is not watched: %w", err)
	}
	at = md.Timestamp
	run, answerBy, ok := broker.AnswerBy(m.Headers())
	if ok && isNear(answerBy, at) {
		e.run, e.answerBy = int32(run), nanoseconds(answerBy)
		return e, at, nil
	}
	if ok {
		f.log.Error().Str("job", e.id).Time("answer_by", answerBy).Msg("a marker's header has a time that no run can have, reading the marker")
	}
	marker, err := f.wholeMarker(ctx, e.id, m.Data())
	switch {
	case isNotFound(err):
		return e, at, nil
	case err != nil:
		e.run = anyRun
		return e, at, fmt.Errorf("a marker cannot be read yet, trying again: %w", err)
	}
	answerBy = marker.AnswerBy
	if !isNear(answerBy, at) {
		f.log.Error().Str("job", e.id).Time("answer_by", answerBy).Msg("a marker has a time that no run can have, taking the longest deadline")
		answerBy = at.Add(longestDeadline)
	}
	e.run, e.answerBy = int32(marker.Run), nanoseconds(answerBy)
	return e, at, nil
}

// isNear reports whether a run whose marker is from at can have to be answered by t.
func isNear(t, at time.Time) bool { return t.Sub(at).Abs() <= farthest }

// wholeMarker is the marker in data; of a message that came without it, the one that is stored.
func (f *fallback) wholeMarker(ctx context.Context, id string, data []byte) (*job.Marker, error) {
	if len(data) == 0 {
		marker, _, err := f.conn.Marker(ctx, id)
		return marker, err
	}
	marker := &job.Marker{}
	return marker, json.Unmarshal(data, marker)
}

// tail is the end of a stream that is followed.
type tail struct {
	name    string
	created time.Time
	last    atomic.Uint64 // sequence that was handled
	stop    func()
}

// consume follows a stream from since on and returns once what is stored by now was handled.
func (f *fallback) consume(ctx context.Context, stream string, headersOnly bool, since time.Time, handle func(jetstream.Msg) error) (*tail, error) {
	s, err := f.conn.JS.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", stream, err)
	}
	c, err := f.conn.JS.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since, HeadersOnly: headersOnly,
	})
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", stream, err)
	}
	t := &tail{name: stream, created: s.CachedInfo().Created}
	stored := c.CachedInfo().NumPending
	var handled atomic.Uint64
	caught := make(chan struct{})
	catchUp := sync.OnceFunc(func() { close(caught) })
	if stored == 0 {
		catchUp()
	}
	following, err := c.Consume(func(m jetstream.Msg) {
		if err := handle(m); err != nil && ctx.Err() == nil {
			f.log.Error().Err(err).Str("subject", m.Subject()).Msg("following goes on without a message")
		}
		md, err := m.Metadata()
		if err != nil {
			return
		}
		t.last.Store(md.Sequence.Stream)
		if handled.Add(1) >= stored || md.NumPending == 0 {
			catchUp()
		}
	}, jetstream.PullHeartbeat(followPulse), jetstream.PullExpiry(10*followPulse), jetstream.PullMaxMessages(followAtOnce),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			f.log.Debug().Err(err).Str("stream", stream).Msg("following is interrupted")
		}))
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", stream, err)
	}
	t.stop = following.Stop
	if err := f.untilCaught(ctx, caught, &handled); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// untilCaught waits until all is handled, or nothing comes any more though the server is there.
func (f *fallback) untilCaught(ctx context.Context, caught <-chan struct{}, handled *atomic.Uint64) error {
	quiet := time.NewTicker(quietFor)
	defer quiet.Stop()
	for before := handled.Load(); ; before = handled.Load() {
		select {
		case <-caught:
			return nil
		case <-quiet.C:
			if handled.Load() == before && f.conn.NC.IsConnected() {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isCut reports whether the stream was made anew, or has lost its end: a consumer that goes on after its last
// sequence would hear nothing of those that are given again.
func (t *tail) isCut(info *jetstream.StreamInfo, last uint64) bool {
	return !info.Created.Equal(t.created) || info.State.LastSeq < last
}

// watchTails returns when ctx ends, or why all is to be read anew. After each reconnect it is: a server that
// lost power may have lost its last messages and have given their sequences to others meanwhile, so that
// nothing can be seen of it.
func (f *fallback) watchTails(ctx context.Context, back <-chan struct{}, tails ...*tail) error {
	tick := time.NewTicker(anewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-back:
			return errBack
		case <-tick.C:
		}
		for _, t := range tails {
			last := t.last.Load() // before the look: it grows
			s, err := f.conn.JS.Stream(ctx, t.name)
			if err != nil {
				continue // it is looked at again soon
			}
			if t.isCut(s.CachedInfo(), last) {
				return fmt.Errorf("%w: %s", errAnew, t.name)
			}
		}
	}
}
