package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
)

// way is what carries requests to results: the relay, or the pipeline.
type way struct {
	// request makes the n-th request.
	request func(n int) *nats.Msg
	// results is the subject on which results are heard, number the job that one is of; -1: another's.
	results string
	number  func(*nats.Msg) int
	// judge holds a result against its job; nil: it is not looked at.
	judge func(n int, m *nats.Msg) verdict
	// topology names the streams that the way goes through.
	topology broker.Topology
}

// verdict is what is wrong with a result; the zero value: nothing.
type verdict struct {
	failed, foreign bool
	// calls are those that the result tells of.
	calls int
	why   string
}

// ear is a subscriber that shares nothing with those who make the results.
type ear struct {
	conn  *broker.Conn
	w     *way
	first int // number of the first job that is waited for
	// some is closed at the first job's result, all at the last one's.
	some, all chan struct{}

	mu      sync.Mutex
	heard   []int
	at      []time.Time
	missing int
	sum     Checks
}

// listen hears the results of the jobs numbered from first to first+jobs-1.
func listen(url string, w *way, first, jobs int, o *Options) (*ear, error) {
	conn, err := broker.Connect(broker.ConnectOptions{URL: url, As: o.As, Name: "spillway/bench-listener", Log: o.Log})
	if err != nil {
		return nil, err
	}
	e := &ear{
		conn: conn, w: w, first: first, some: make(chan struct{}), all: make(chan struct{}),
		heard: make([]int, jobs), at: make([]time.Time, jobs), missing: jobs,
	}
	sub, err := conn.NC.Subscribe(w.results, e.hear)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	if err == nil {
		err = conn.NC.Flush() // the server knows of the subscription before anything is published
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("subscribe to %s: %w", w.results, err)
	}
	return e, nil
}

// maxExamples bounds the failures that are told of.
const maxExamples = 5

func (e *ear) hear(m *nats.Msg) {
	now := time.Now()
	n := e.w.number(m) - e.first
	if n < 0 || n >= len(e.heard) {
		return
	}
	var v verdict
	if e.w.judge != nil {
		v = e.w.judge(n+e.first, m)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard[n]++
	e.sum.Results++
	e.sum.Calls += v.calls
	if v.failed {
		e.sum.Failed++
	}
	if v.foreign {
		e.sum.Foreign++
	}
	if v.why != "" && len(e.sum.Examples) < maxExamples {
		e.sum.Examples = append(e.sum.Examples, v.why)
	}
	if e.heard[n] > 1 {
		return
	}
	e.at[n] = now
	if e.missing == len(e.heard) {
		close(e.some)
	}
	if e.missing--; e.missing == 0 {
		close(e.all)
	}
}

// wait returns when each job has a result.
func (e *ear) wait(ctx context.Context) error {
	select {
	case <-e.all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d of %d results came: %w", e.done(), len(e.heard), context.Cause(ctx))
	}
}

// noteEvery is how often progress is told.
const noteEvery = 200 * time.Millisecond

// tell lets note know now and then, until stop, how many jobs have a result.
func (e *ear) tell(note func(done int)) (stop func()) {
	return repeat(noteEvery, func() { note(e.done()) })
}

func (e *ear) done() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.heard) - e.missing
}

// checks sums up what was heard so far.
func (e *ear) checks() Checks {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.sum
	c.Jobs, c.Missing = len(e.heard), e.missing
	for _, times := range e.heard {
		if times > 1 {
			c.Repeated++
		}
	}
	return c
}

func (e *ear) close() { e.conn.Close() }
