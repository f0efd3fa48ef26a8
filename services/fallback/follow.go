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
	// followPulse is how soon a dead leader is noticed by the consumers that the index follows.
	followPulse = time.Second
	// followAtOnce is how many messages are on their way from the server: they are headers only.
	followAtOnce = 10_000
	// quietFor ends the wait for what was stored at the start: the rest was deleted meanwhile.
	quietFor = 5 * time.Second
	// anewEvery is how often the streams are looked at for a new beginning, beside each reconnect.
	anewEvery = 10 * time.Second
)

// errAnew is a stream whose sequences began anew, so that what comes next is not what follows.
var errAnew = errors.New("the stream was made anew, or has lost its end")

// follow reads which runs have results, then which runs there are, and keeps following both until ctx ends.
// The order keeps the heap small at a start with many kept results: only runs without one enter it.
func (f *fallback) follow(ctx context.Context) error {
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
	known, err := f.resultsKnownSince(ctx)
	if err != nil {
		return err
	}
	if known.After(since) {
		since = known
	}
	markers, err := f.consume(ctx, broker.AdmittedStream, f.areMarkersLabelled(ctx), since, func(m jetstream.Msg) error {
		id, run, answerBy, err := f.readMarker(ctx, m)
		if err == nil && results.run(id) < run {
			f.index.add(id, run, answerBy)
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
	return f.watchTails(ctx, told, markers)
}

// resultsKnownSince is the time from which on all results are kept. Whether a run that was admitted earlier
// has ended cannot be known any more, and nearly all have: to answer them would tell their clients a second
// result. One that is still stuck is answered when a stage takes it up.
func (f *fallback) resultsKnownSince(ctx context.Context) (time.Time, error) {
	s, err := f.conn.JS.Stream(ctx, broker.ResultsStream)
	if err != nil {
		return time.Time{}, fmt.Errorf("look at %s: %w", broker.ResultsStream, err)
	}
	state, config := s.CachedInfo().State, s.CachedInfo().Config
	var since time.Time
	if config.MaxAge > 0 {
		since = time.Now().Add(-config.MaxAge + config.MaxAge/1000) // the server's clock may differ
	}
	// A stream near its bound has dropped its oldest, or is about to.
	full := config.MaxBytes > 0 && state.Bytes >= uint64(config.MaxBytes)/10*9 ||
		config.MaxMsgs > 0 && state.Msgs >= uint64(config.MaxMsgs)/10*9
	if full && state.FirstTime.After(since) {
		since = state.FirstTime
	}
	return since, nil
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

// readMarker takes from a marker's headers, or else from its body, when the run is to be answered. Run 0: the
// marker is gone.
func (f *fallback) readMarker(ctx context.Context, m jetstream.Msg) (id string, run int, answerBy time.Time, err error) {
	id = broker.Token(m.Subject(), 2)
	if run, answerBy, ok := broker.AnswerBy(m.Headers()); ok {
		return id, run, answerBy, nil
	}
	marker := &job.Marker{}
	if len(m.Data()) > 0 {
		err = json.Unmarshal(m.Data(), marker)
	} else {
		marker, _, err = f.conn.Marker(ctx, id)
	}
	if isNotFound(err) {
		return id, 0, time.Time{}, nil
	}
	if err != nil {
		return id, 0, time.Time{}, fmt.Errorf("a marker cannot be read, its deadline is not watched: %w", err)
	}
	return id, marker.Run, marker.AnswerBy, nil
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

// watchTails returns when ctx ends, or errAnew. A server that lost power may give sequences anew, and so does
// a stream that was made anew: a consumer that goes on after its last one would hear nothing of them.
func (f *fallback) watchTails(ctx context.Context, tails ...*tail) error {
	again := make(chan struct{}, 1)
	remove := f.conn.OnReconnect(func() {
		select {
		case again <- struct{}{}:
		default:
		}
	})
	defer remove()
	tick := time.NewTicker(anewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-tick.C:
		}
		for _, t := range tails {
			last := t.last.Load()
			s, err := f.conn.JS.Stream(ctx, t.name)
			if err != nil {
				continue // it is looked at again soon
			}
			if info := s.CachedInfo(); !info.Created.Equal(t.created) || info.State.LastSeq < last {
				return fmt.Errorf("%w: %s", errAnew, t.name)
			}
		}
	}
}
