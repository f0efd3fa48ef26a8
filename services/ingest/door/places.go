package door

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"spillway/pkg/breaker"
	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/limit"
	"spillway/pkg/stage"
)

const (
	// placeTimeout bounds all that is asked for one state: it is a courtesy, and the poll's own answer waits for it.
	placeTimeout = 3 * time.Second
	// askEvery is how often the broker is asked the same at most, whoever polls.
	askEvery = time.Second
)

// places know where jobs wait. They ask the broker at most once a second for each inbox, circuit and limit, and the
// stages once a second for a job.
type places struct {
	conn    *broker.Conn
	locates *rate.Limiter

	mu    sync.Mutex
	known map[string]*answer
}

// answer is what the broker said last to a question.
type answer struct {
	turn  chan struct{} // who holds it may ask and read; waiting for it can be given up
	at    time.Time
	value any
	err   error
}

func newPlaces(conn *broker.Conn) *places {
	return &places{conn: conn, locates: rate.NewLimiter(rate.Every(askEvery), 1), known: map[string]*answer{}}
}

// ask returns the answer to a question, no older than a second. Who asks meanwhile waits for the same answer, until
// his ctx ends. The
// questions are of a bounded number: the names of inboxes, models and providers are in them, nothing of a client's.
func ask[T any](ctx context.Context, p *places, question string, f func(context.Context) (T, error)) (T, bool) {
	p.mu.Lock()
	a := p.known[question]
	if a == nil {
		a = &answer{turn: make(chan struct{}, 1)}
		p.known[question] = a
	}
	p.mu.Unlock()
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		var none T
		return none, false
	}
	defer func() { <-a.turn }()
	if time.Since(a.at) >= askEvery {
		a.value, a.err = f(ctx)
		if ctx.Err() == nil { // else it is this caller's end, not the broker's answer
			a.at = time.Now()
		}
	}
	value, ok := a.value.(T)
	return value, ok && a.err == nil
}

// inbox names a stage's inbox for a lane.
type inbox struct{ stage, stream, consumer string }

func inboxOf(name, lane string) inbox {
	switch {
	case name == broker.Ingest && lane == job.Batch:
		return inbox{name, broker.BatchStream, broker.BatchIngestConsumer}
	case name == broker.Ingest:
		return inbox{name, broker.RequestsStream, broker.Ingest}
	}
	return inbox{name, broker.StageStream(name), broker.StageConsumer(name, lane)}
}

// parkedOf is where the jobs of a lane wait for a model.
func parkedOf(lane, model string) inbox {
	return inbox{broker.Inference, broker.ParkedStream, broker.ParkedConsumer(lane, model)}
}

// depth is what an inbox holds.
type depth struct {
	// waiting messages were not delivered yet, held ones were and are not settled.
	waiting uint64
	held    int
	// pulls are open requests for more.
	pulls int
	// delivered is the newest delivered sequence.
	delivered uint64
	// oldest is when the oldest message was stored that is not settled; zero: there is none.
	oldest time.Time
}

func (d depth) isForsaken() bool { return d.pulls == 0 && d.held == 0 }

func (p *places) depth(ctx context.Context, in inbox) (depth, bool) {
	return ask(ctx, p, "inbox "+in.consumer, func(ctx context.Context) (depth, error) {
		k, err := p.conn.JS.Consumer(ctx, in.stream, in.consumer)
		if err != nil {
			return depth{}, fmt.Errorf("look at the inbox %s: %w", in.consumer, err)
		}
		info := k.CachedInfo()
		d := depth{waiting: info.NumPending, held: info.NumAckPending, pulls: info.NumWaiting, delivered: info.Delivered.Stream}
		if d.waiting == 0 {
			return d, nil
		}
		s, err := p.conn.JS.Stream(ctx, in.stream)
		if err != nil {
			return depth{}, fmt.Errorf("look at the stream %s: %w", in.stream, err)
		}
		d.oldest = s.CachedInfo().State.FirstTime
		return d, nil
	})
}

// hasIngest reports whether a process of ingest answers, be it that it takes no more requests for the moment.
func (p *places) hasIngest(ctx context.Context) bool {
	answers, ok := ask(ctx, p, "ingest", func(ctx context.Context) (bool, error) {
		_, err := p.conn.NC.RequestWithContext(ctx, broker.CancelSubject("ready"), nil)
		return err == nil, err
	})
	return ok && answers
}

// breaker reads a circuit; one that is not known is closed.
func (p *places) breaker(ctx context.Context, c breaker.Circuit) breaker.Record {
	r, _ := ask(ctx, p, "breaker "+c.Key(), func(ctx context.Context) (breaker.Record, error) {
		return breaker.Read(ctx, p.conn, c)
	})
	return r
}

// heldUntil is until when a model's provider, or all of it, asked to be left alone; zero: it did not.
func (p *places) heldUntil(ctx context.Context, model, provider string) time.Time {
	until, _ := ask(ctx, p, "limit "+model, func(ctx context.Context) (time.Time, error) {
		return limit.HeldUntil(ctx, p.conn, model, provider)
	})
	return until
}

// resultsSince is when the oldest result was stored that is still there, if any was dropped.
func (p *places) resultsSince(ctx context.Context) (time.Time, bool) {
	return ask(ctx, p, "results", func(ctx context.Context) (time.Time, error) {
		s, err := p.conn.JS.Stream(ctx, broker.ResultsStream)
		if err != nil {
			return time.Time{}, err
		}
		var since time.Time
		config, state := s.CachedInfo().Config, s.CachedInfo().State
		if config.MaxAge > 0 {
			since = time.Now().Add(-config.MaxAge)
		}
		// A first sequence that is gone may have been replaced by a replay's. An empty stream, and a full one, dropped.
		isFull := config.MaxBytes > 0 && state.Bytes > uint64(config.MaxBytes)/2
		switch {
		case state.FirstSeq > 1 && state.Msgs == 0 && state.LastTime.After(since):
			return state.LastTime, nil
		case state.FirstSeq > 1 && isFull && state.FirstTime.After(since):
			return state.FirstTime, nil
		}
		return since, nil
	})
}

// locate asks the stages who holds a job of which this process has heard nothing. Only one job is asked for in a
// second: for another one it is as if nobody held it.
func (p *places) locate(ctx context.Context, m *job.Marker) (stage.Located, bool) {
	if time.Since(m.AcknowledgedAt) < askEvery || !p.locates.Allow() {
		return stage.Located{}, false // what was only just stored is on its way to ingest
	}
	return stage.Locate(ctx, p.conn, m.ID)
}
