package bundle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/metric"
	"spillway/pkg/task"
)

// Options of a Keeper.
type Options struct {
	Conn *broker.Conn
	// Book is kept as the records say; its versions are fetched from the bucket.
	Book *task.Book
	// Own are the tasks, models and providers of the process's own files; Simulate, that it calls nothing real.
	Own      *task.Set
	Simulate bool
	// Changed is called after each change of what is live, by one goroutine at a time. nil: nobody is told.
	Changed func()
	Log     zerolog.Logger
	Metrics prometheus.Registerer
}

// Keeper makes a process follow the records: what is live is what they say, whatever the process's own files are. A task
// that no record knows is live as it is in the files; without the bucket all are. The models of live versions that are
// in no file of this process are added to its own.
type Keeper struct {
	o       Options
	store   *Store
	missing prometheus.Gauge

	// again asks for a look at the bucket, kicked for another try with what is known.
	again, kicked chan struct{}
	// applying: what is live is being changed.
	applying sync.Mutex

	mu     sync.Mutex
	own    *task.Set
	looked bool
	known  map[string]known // by task
	lent   map[string]*task.Model
	told   map[string]string // by task: why its live version is not loaded
	giveUp context.CancelFunc
}

// known is the newest record that was heard of. It is nil after its removal.
type known struct {
	record   *Record
	revision uint64
}

const (
	// lookTimeout bounds a look at all records, applyTimeout the loading of what they name.
	lookTimeout  = 10 * time.Second
	applyTimeout = 20 * time.Second
	// lookEvery is for what a follower may have missed without noticing; lookAgain is after a look that failed.
	lookEvery = time.Minute
	lookAgain = time.Second
	// maxLent bounds the models that are in no file of this process.
	maxLent = 128
)

// NewKeeper makes the book fetch what it does not have. Look or Run makes it follow.
func NewKeeper(o Options) (*Keeper, error) {
	k := &Keeper{
		o: o, store: NewStore(o.Conn), own: o.Own, again: make(chan struct{}, 1), kicked: make(chan struct{}, 1),
		known: map[string]known{}, lent: map[string]*task.Model{}, told: map[string]string{},
		missing: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "spillway", Name: "tasks_not_live", Help: "Tasks whose live version does not load in this process, which goes on with an earlier one. Not zero: see the log.",
		}),
	}
	if err := metric.Register(o.Metrics, &k.missing); err != nil {
		return nil, err
	}
	o.Book.SetFetch(k.fetch)
	return k, nil
}

// Own are the tasks of the process's own files.
func (k *Keeper) Own() *task.Set {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.own
}

// SetOwn replaces them. Their versions become live when a record says so.
func (k *Keeper) SetOwn(ctx context.Context, set *task.Set) error {
	k.mu.Lock()
	k.own = set
	k.mu.Unlock()
	return k.apply(ctx)
}

// Record is the newest record of a task that was heard of; nil: none.
func (k *Keeper) Record(name string) *Record {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[name].record
}

// Unready says what is not known yet; "": all is.
func (k *Keeper) Unready() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.looked {
		return "which versions of the tasks are live is not known yet"
	}
	return ""
}

// Run follows the records until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	defer k.o.Conn.OnReconnect(k.lookAnew)()
	var unfollow func()
	forget := func() {
		if unfollow != nil {
			unfollow()
		}
		unfollow = nil
	}
	defer forget()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		do := k.Look
		select {
		case <-ctx.Done():
			return nil
		case <-k.kicked:
			do = k.apply
		case <-k.again:
			forget() // what follows would notice a restarted server only when its heartbeats stay away
		case <-next.C:
		}
		if unfollow == nil && k.o.Conn.NC.IsConnected() {
			unfollow = k.follow(ctx)
		}
		wait := lookEvery
		if err := do(ctx); err != nil {
			k.o.Log.Debug().Err(err).Msg("the live versions of the tasks are not all known, repeating")
			wait = lookAgain
		}
		next.Reset(wait)
	}
}

// follow hears of changes as they are stored. nil: there is nothing to follow, or not now.
func (k *Keeper) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stop, err := k.o.Conn.FollowRecords(ctx, broker.VersionsBucket, func(stored broker.Record) {
		if k.learn(stored) {
			k.kick()
		}
	})
	if err != nil {
		k.o.Log.Debug().Err(err).Msg("the records of tasks are not followed, they are looked at now and then")
	}
	return stop
}

var errAway = errors.New("there is no connection to NATS")

// Look reads all records from their leader and makes live what they say.
func (k *Keeper) Look(ctx context.Context) error {
	if !k.o.Conn.NC.IsConnected() {
		return errAway
	}
	own, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	k.mu.Lock()
	k.giveUp = cancel
	k.mu.Unlock()
	all, err := k.o.Conn.RecordsNow(own, broker.VersionsBucket)
	if err != nil {
		return fmt.Errorf("look at the records of tasks: %w", err)
	}
	for _, stored := range all {
		k.learn(stored)
	}
	err = k.apply(ctx)
	k.mu.Lock()
	k.looked = true
	k.mu.Unlock()
	return err
}

// lookAnew asks for a look. One that is under way may wait for an answer that was lost with the connection.
func (k *Keeper) lookAnew() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case k.again <- struct{}{}:
	default: // it is asked for
	}
	if k.giveUp != nil {
		k.giveUp()
	}
}

func (k *Keeper) kick() {
	select {
	case k.kicked <- struct{}{}:
	default:
	}
}

// learn takes a record over, unless a newer one is known, and reports whether it did.
func (k *Keeper) learn(stored broker.Record) bool {
	next := known{revision: stored.Revision}
	if stored.Data != nil {
		r, err := readRecord(stored)
		if err != nil {
			k.o.Log.Error().Err(err).Str("task", stored.Key).Msg("the record of a task cannot be read, its version stays")
			return false
		}
		next.record = r
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known[stored.Key].revision >= stored.Revision {
		return false
	}
	k.known[stored.Key] = next
	return true
}

// apply makes live what the records say. A version that can not be had leaves what was live before; the error says so.
func (k *Keeper) apply(ctx context.Context) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	k.mu.Lock()
	own, records := k.own, maps.Clone(k.known)
	k.mu.Unlock()
	before := k.o.Book.Live()
	set := &task.Set{Tasks: maps.Clone(own.Tasks), Models: maps.Clone(own.Models), Providers: own.Providers}
	paused := map[string]task.Pause{}
	var faults []error
	n := 0
	for _, name := range slices.Sorted(maps.Keys(records)) {
		r := records[name].record
		if r == nil {
			continue
		}
		if p := r.Paused; p != nil {
			paused[name] = task.Pause{Since: p.Since, By: p.By, Why: p.Why}
		}
		if r.Live == "" {
			delete(set.Tasks, name)
			continue
		}
		t, err := k.version(ctx, own, name, r.Live)
		if k.tell(name, r, err); err != nil {
			faults, n = append(faults, err), n+1
			t = before.Tasks[name]
		}
		if t != nil {
			set.Tasks[name] = t
		}
	}
	k.missing.Set(float64(n))
	k.lend(set, before)
	k.o.Book.SetLive(set, paused)
	if k.o.Changed != nil {
		k.o.Changed()
	}
	return errors.Join(faults...)
}

// version is that of the process's own files, if it is the same.
func (k *Keeper) version(ctx context.Context, own *task.Set, name, version string) (*task.Task, error) {
	if t := own.Tasks[name]; t != nil && t.Version == version {
		return t, nil
	}
	return k.o.Book.Version(ctx, name, version)
}

// tell says once why a live version is not loaded, and that it is.
func (k *Keeper) tell(name string, r *Record, err error) {
	why := ""
	if err != nil {
		why = r.Live + ": " + err.Error()
	}
	k.mu.Lock()
	was := k.told[name]
	k.told[name] = why
	k.mu.Unlock()
	switch {
	case why == was:
	case err != nil:
		k.o.Log.Error().Err(err).Str("task", name).Str("version", r.Live).Str("by", r.By).
			Msg("the live version of a task does not load here, this process goes on with the one that it had")
	default:
		k.o.Log.Info().Str("task", name).Str("version", r.Live).Msg("the live version of a task is loaded")
	}
}

// lend adds to a set the models of versions that are in no file of this process: of those that are live, and of those
// that were so, for jobs that name them.
func (k *Keeper) lend(set, before *task.Set) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.lent) > maxLent {
		k.lent = map[string]*task.Model{}
	}
	for _, from := range []*task.Set{before, set} {
		for _, name := range slices.Sorted(maps.Keys(from.Tasks)) {
			maps.Copy(k.lent, from.Tasks[name].Models)
		}
	}
	for name, m := range k.lent {
		if set.Models[name] == nil {
			set.Models[name] = m
		}
	}
}

// fetch gets a version from the bucket for the book.
func (k *Keeper) fetch(ctx context.Context, name, version string) (*task.Task, error) {
	b, err := k.store.Get(ctx, name, version)
	if err != nil {
		return nil, err
	}
	own := k.Own()
	t, err := b.Load(own)
	if err != nil {
		return nil, err
	}
	if k.o.Simulate {
		t = own.Simulate(t)
	}
	k.borrow(t)
	return t, nil
}

// borrow lets the models of a version be known that is live no more.
func (k *Keeper) borrow(t *task.Task) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, m := range t.Models {
		if k.own.Models[name] == nil && k.lent[name] == nil {
			k.lent[name] = m
			k.kick()
		}
	}
}
