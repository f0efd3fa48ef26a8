package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// How a collector looks for results that its subscription did not see.
const (
	sweepEvery = 250 * time.Millisecond
	// firstLook and lastPause bound the time between two reads from the leader for one id.
	firstLook = 5 * time.Second
	lastPause = 30 * time.Second
	// looksAtOnce is how many reads are under way at once.
	looksAtOnce = 16
	// maxPendingBytes of results may wait for this process; what is dropped beyond is read from the leader.
	maxPendingBytes = 256 << 20
)

// errNoResult is why an awaited result did not arrive.
var errNoResult = errors.New("no result came in time")

// awaited is a result that somebody waits for.
type awaited struct {
	id string
	// task may be "" when it is not known.
	task string
	// run is the least run that counts.
	run int
	// line is where the request stood in the input; 0: nowhere.
	line int

	begun bool
	since time.Time
	look  time.Time
	pause time.Duration
}

// arrival is an awaited result as it was stored, or why there is none.
type arrival struct {
	awaited
	result *job.Result
	raw    []byte
	err    error
}

// collector gathers the results of many ids from one subscription. Those that it did not see in time, or
// that came while the connection was away, it reads from the leader. Its owner takes all that arrives.
type collector struct {
	conn     *broker.Conn
	timeout  time.Duration
	arrivals chan arrival

	sub    *nats.Subscription
	off    func() // ends the watch for reconnects
	stop   context.CancelFunc
	ended  chan struct{}
	sweeps sync.WaitGroup
	kick   chan struct{}

	mu      sync.Mutex
	pending map[string]*awaited
}

// newCollector subscribes to results. timeout is how long each is waited for.
func newCollector(ctx context.Context, conn *broker.Conn, subject string, timeout time.Duration) (*collector, error) {
	c := &collector{
		conn: conn, timeout: timeout, arrivals: make(chan arrival, 256),
		ended: make(chan struct{}), kick: make(chan struct{}, 1), pending: map[string]*awaited{},
	}
	sub, err := conn.NC.Subscribe(subject, c.message)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	_ = sub.SetPendingLimits(-1, maxPendingBytes) // fails for a closed subscription only
	if err := flush(ctx, conn); err != nil {
		_ = sub.Unsubscribe()
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	ctx, c.stop = context.WithCancel(ctx)
	c.sub, c.off = sub, conn.OnReconnect(c.lookForAll)
	c.sweeps.Go(func() { c.sweep(ctx) })
	return c, nil
}

// flush returns once the server has heard of what was subscribed to.
func flush(ctx context.Context, conn *broker.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return conn.NC.FlushWithContext(ctx)
}

// close ends the subscription and waits for the reads under way.
func (c *collector) close() {
	c.off()
	c.stop()
	close(c.ended)
	_ = c.sub.Unsubscribe()
	c.sweeps.Wait()
}

// expect announces an id whose request is about to be published: a result that comes from now on counts.
func (c *collector) expect(a awaited) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending[a.id] = &a
}

// begin starts the clock of an expected id; known means that its result may be there already.
func (c *collector) begin(id string, known bool) {
	c.mu.Lock()
	a := c.pending[id]
	if a != nil {
		a.begun, a.since, a.pause = true, time.Now(), firstLook
		a.look = a.since.Add(firstLook)
		if known {
			a.look = a.since
		}
	}
	c.mu.Unlock()
	if known {
		c.sweepNow()
	}
}

// forget drops an id: nothing of it arrives any more.
func (c *collector) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// waiting returns how many ids are expected.
func (c *collector) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

func (c *collector) message(m *nats.Msg) {
	c.found(broker.Token(m.Subject, 3), broker.RunOf(m.Header), m.Data)
}

// found hands over a result if it is an expected one.
func (c *collector) found(id string, run int, raw []byte) {
	c.mu.Lock()
	a, ok := c.pending[id]
	if !ok || run < a.run {
		c.mu.Unlock()
		return
	}
	delete(c.pending, id)
	c.mu.Unlock()
	r := &job.Result{}
	if err := json.Unmarshal(raw, r); err != nil {
		c.deliver(arrival{awaited: *a, err: fmt.Errorf("decode the result of %s: %w", id, err)})
		return
	}
	c.deliver(arrival{awaited: *a, result: r, raw: raw})
}

func (c *collector) deliver(a arrival) {
	select {
	case c.arrivals <- a:
	case <-c.ended:
	}
}

func (c *collector) lookForAll() {
	c.mu.Lock()
	for _, a := range c.pending {
		a.look = time.Now()
	}
	c.mu.Unlock()
	c.sweepNow()
}

func (c *collector) sweepNow() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// sweep looks for what the subscription missed, and gives up on what takes too long.
func (c *collector) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	dropped := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.kick:
		}
		if n, err := c.sub.Dropped(); err == nil && n > dropped {
			dropped = n
			c.lookForAll()
		}
		group, reading := errgroup.WithContext(ctx)
		group.SetLimit(looksAtOnce)
		for _, a := range c.due(time.Now()) {
			group.Go(func() error {
				c.read(reading, a)
				return nil
			})
		}
		_ = group.Wait() // no read returns an error: what was not found is looked for again
	}
}

// due returns copies of the ids to be looked for now.
func (c *collector) due(now time.Time) []awaited {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []awaited
	for _, a := range c.pending {
		if !a.begun || now.Before(a.look) && now.Sub(a.since) < c.timeout {
			continue
		}
		a.look = now.Add(a.pause)
		a.pause = min(2*a.pause, lastPause)
		list = append(list, *a)
	}
	return list
}

// read asks the leader for one result.
func (c *collector) read(ctx context.Context, a awaited) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	subject := broker.AnyTaskResult(a.id)
	if a.task != "" {
		subject = broker.ResultSubject(a.task, a.id)
	}
	stored, err := c.conn.Last(ctx, broker.ResultsStream, subject)
	if err == nil {
		c.found(a.id, broker.RunOf(stored.Header), stored.Data)
	}
	if time.Since(a.since) < c.timeout {
		return
	}
	c.mu.Lock()
	_, ok := c.pending[a.id]
	delete(c.pending, a.id)
	c.mu.Unlock()
	if ok {
		c.deliver(arrival{awaited: a, err: errNoResult})
	}
}
