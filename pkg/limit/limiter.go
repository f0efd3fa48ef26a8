package limit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/task"
)

// Bounds are the limits of a model or a provider, over all replicas. 0: none.
type Bounds = task.Limits

// Options of a Limiter.
type Options struct {
	Conn *broker.Conn
	// Replica names this process among all that share the limits; no two may have the same name.
	Replica string
	// Models, Providers and Tasks are the limits by name. Of a task it is how many calls may be in flight; 0: any number.
	Models    map[string]Bounds
	Providers map[string]Bounds
	Tasks     map[string]int
	Log       zerolog.Logger
	// Metrics may be nil.
	Metrics prometheus.Registerer
}

// Limiter keeps, with those of all other replicas, the limits of calls. It is safe for concurrent use.
type Limiter struct {
	conn    *broker.Conn
	replica string
	log     zerolog.Logger
	metrics *metrics
	rhythm  rhythm

	// These hold only what has a limit, and never change.
	models, providers, tasks map[string]*entity
	entities                 []*entity
	// free is the permit of all calls without a limit.
	free *Permit

	mu      sync.Mutex
	clock   clock
	queues  map[place]*queue
	active  [lanes][]*queue // those with waiters
	waiting int             // in all of them
	turn    uint64
	round   uint64
}

// New prepares a limiter; Run makes it work.
func New(o Options) (*Limiter, error) { return newLimiter(o, perMinute(), time.Now) }

func newLimiter(o Options, r rhythm, read func() time.Time) (*Limiter, error) {
	if o.Conn == nil || o.Replica == "" {
		return nil, errors.New("a limiter needs a connection and the replica's name")
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("registering the metrics of limits: %w", err)
	}
	l := &Limiter{
		conn: o.Conn, replica: o.Replica, log: o.Log, metrics: m, rhythm: r, clock: newClock(read), round: 1,
		models: map[string]*entity{}, providers: map[string]*entity{}, tasks: map[string]*entity{},
		queues: map[place]*queue{}, free: &Permit{},
	}
	for name, b := range o.Models {
		l.addEntity(l.models, kindModel, name, b)
	}
	for name, b := range o.Providers {
		l.addEntity(l.providers, kindProvider, name, b)
	}
	for name, n := range o.Tasks {
		// A task has no lanes: they meet where the calls go.
		l.addEntity(l.tasks, kindTask, name, Bounds{Concurrency: n, BatchShare: mostShare})
	}
	return l, nil
}

func (l *Limiter) addEntity(to map[string]*entity, kind, name string, b Bounds) {
	if e := newEntity(l, kind, name, b); e != nil {
		to[name] = e
		l.entities = append(l.entities, e)
	}
}

// Run fetches permits, gives back what is not used and keeps the claims alive until ctx ends; then it gives
// back everything, in a second at most. A Take before Run waits for it, one after Run for ever.
func (l *Limiter) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, e := range l.entities {
		all.Go(func() { e.run(ctx) })
	}
	<-ctx.Done()
	all.Wait()
	return nil
}

// needs are the limits that apply to an Ask.
func (l *Limiter) needs(a *Ask) needs {
	var s needs
	s.add(l.models[a.Model])
	s.add(l.providers[a.Provider])
	s.add(l.tasks[a.Task])
	return s
}

// IsLimited reports whether some limit applies to a at all.
func (l *Limiter) IsLimited(a Ask) bool {
	s := l.needs(&a)
	return s.n > 0
}

// Waiting is how many Takes of a model and lane wait in this process.
func (l *Limiter) Waiting(model, lane string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.queues[place{model, laneOf(lane)}]; q != nil {
		return q.n
	}
	return 0
}

// The least and the most that Room lets wait.
const (
	leastRoom = 16
	mostRoom  = 256
)

// Room is about how many more calls of a model and lane may wait here for the next second's permits to find
// takers: a second's worth, 16 to 256, less those that wait. Without a limit it is a large number. A provider's
// limits count once a call of the model was asked for.
func (l *Limiter) Room(model, lane string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var s needs
	s.add(l.models[model])
	asked, waiting := 0, 0
	if q := l.queues[place{model, laneOf(lane)}]; q != nil {
		s, asked, waiting = q.needs, q.asked, q.n
	}
	now, worth := l.clock.now(), math.MaxInt
	for _, e := range s.all() {
		if e.kind != kindTask {
			worth = min(worth, e.throughput(asked, now))
		}
	}
	if worth == math.MaxInt {
		return math.MaxInt32
	}
	return max(min(max(worth, leastRoom), mostRoom)-waiting, 0)
}

// throughput is about how many calls a second an entity lets through.
func (e *entity) throughput(asked int, now time.Duration) int {
	seconds := float64(time.Second) / float64(e.l.rhythm.block)
	n := math.MaxFloat64
	if e.slots != nil {
		n = float64(e.slots.limit)
		if e.slots.lasts > 0 {
			n *= float64(time.Second) / float64(e.slots.lasts)
		}
	}
	if e.requests != nil {
		n = min(n, float64(e.l.rhythm.worth(e.requests.bound(now)))*seconds)
	}
	if e.tokens != nil {
		n = min(n, float64(e.l.rhythm.worth(e.tokens.bound(now)))/float64(max(e.tokens.cost(asked), 1))*seconds)
	}
	return int(min(n, mostRoom))
}
