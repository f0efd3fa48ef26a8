package task

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// ErrNoVersion says that a version of a task is not stored: it never was, or nothing named it any more.
var ErrNoVersion = errors.New("no such version of the task is stored")

// ErrUnfit says that a version of a task is stored and can not be used in this process, however often it is tried: its
// files have faults for this Spillway, or are not what was stored.
var ErrUnfit = errors.New("does not load here")

// Fetch gets a version of a task that is not loaded here. ErrNoVersion: there is none; ErrUnfit: none for this process;
// other errors pass.
type Fetch func(ctx context.Context, name, version string) (*Task, error)

// Pause is why a task takes no requests for a while. Jobs in flight go on.
type Pause struct {
	Since   time.Time
	By, Why string
}

// Bounds of what a book does for the versions that are not live.
const (
	// maxVersions is how many of them are kept.
	maxVersions = 128
	// fetchTimeout bounds one fetch, which several jobs may wait for.
	fetchTimeout = 10 * time.Second
	// unfitFor is how long a version that is unfit is not fetched again.
	unfitFor = 5 * time.Second
)

// A job whose version is unfit here is left to other processes, for about six seconds: while another Spillway is rolled
// out, they have the one that stored it.
const (
	unfitWait  = 250 * time.Millisecond
	unfitTries = 24
)

// Book has the tasks as new requests take them, and the versions that jobs name: a job ends under the version that
// admitted it, however often its task changes meanwhile. It is safe for concurrent use.
type Book struct {
	live  atomic.Pointer[page]
	fetch Fetch
	group singleflight.Group

	mu       sync.Mutex
	versions map[versionKey]*Task
	order    []versionKey // the one that was asked for last is the last
	unfit    map[versionKey]unfit
}

// unfit is why a version can not be used, and until when that is believed.
type unfit struct {
	why   error
	until time.Time
}

// page is what a book says at one moment.
type page struct {
	set    *Set
	paused map[string]Pause
}

type versionKey struct{ name, version string }

// NewBook has the tasks of a set, in this version alone. nil: no task.
func NewBook(set *Set) *Book {
	b := &Book{versions: map[versionKey]*Task{}, unfit: map[versionKey]unfit{}}
	if set == nil {
		set = &Set{}
	}
	b.live.Store(&page{set: set})
	return b
}

// SetFetch says where versions come from that are not loaded. It is called before the book is used.
func (b *Book) SetFetch(f Fetch) { b.fetch = f }

// Live is the set as it is now: its tasks are those that new requests take, its models and providers this process's
// own. It must not be changed.
func (b *Book) Live() *Set { return b.live.Load().set }

// SetLive replaces what is live. Versions that were live are kept for the jobs that name them.
func (b *Book) SetLive(set *Set, paused map[string]Pause) {
	before := b.live.Swap(&page{set: set, paused: paused})
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, t := range before.set.Tasks {
		if now := set.Tasks[name]; now == nil || now.Version != t.Version {
			b.keep(t)
		}
	}
}

// Paused returns why a task takes no requests; false: it does.
func (b *Book) Paused(name string) (Pause, bool) {
	p, ok := b.live.Load().paused[name]
	return p, ok
}

// For returns the task of a job in the version that the job names. Where that version is stored no more, or the job
// names none, it is the live one; nil: the task is not known. So it is where that version is unfit, once the job was left
// to others for a while, which the error asks for. Another error passes: try again.
func (b *Book) For(ctx context.Context, j *job.Job) (*Task, error) {
	t, err := b.of(ctx, j.Task, j.TaskVersion)
	if !errors.Is(err, ErrUnfit) {
		return t, err
	}
	message := fmt.Sprintf("version %s of the task does not load here", job.Cut(j.TaskVersion, 64))
	if j.Mixed || triesOf(j, message) >= unfitTries {
		return b.Live().Tasks[j.Task], nil
	}
	return nil, fate.WaitFor(unfitWait, message)
}

// triesOf is how often a job was put off for this reason without a break.
func triesOf(j *job.Job, message string) int {
	if n := len(j.History); n > 0 {
		if last := j.History[n-1]; last.Kind == job.KindHop && last.Fate == fate.Retry.String() && last.Detail == message {
			return max(last.N, 1)
		}
	}
	return 0
}

// ForMarker does for what a marker names.
func (b *Book) ForMarker(ctx context.Context, m *job.Marker) (*Task, error) {
	return b.of(ctx, m.Task, m.TaskVersion)
}

func (b *Book) of(ctx context.Context, name, version string) (*Task, error) {
	live := b.Live().Tasks[name]
	if version == "" || live != nil && live.Version == version {
		return live, nil
	}
	t, err := b.Version(ctx, name, version)
	if errors.Is(err, ErrNoVersion) {
		return live, nil
	}
	return t, err
}

// Version returns a task in exactly this version, or ErrNoVersion.
func (b *Book) Version(ctx context.Context, name, version string) (*Task, error) {
	if live := b.Live().Tasks[name]; live != nil && live.Version == version {
		return live, nil
	}
	key := versionKey{name, version}
	if t, err := b.kept(key); t != nil || err != nil {
		return t, err
	}
	if b.fetch == nil {
		return nil, ErrNoVersion
	}
	fetching := b.group.DoChan(name+"/"+version, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
		defer cancel()
		t, err := b.fetch(ctx, name, version)
		b.mu.Lock()
		defer b.mu.Unlock()
		if err != nil {
			b.refuse(key, err)
			return nil, err
		}
		b.keep(t)
		return t, nil
	})
	select {
	case r := <-fetching:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*Task), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// kept returns a version that is remembered, which is then forgotten last, or why it was found to be unfit just now.
func (b *Book) kept(key versionKey) (*Task, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u, ok := b.unfit[key]; ok && time.Now().Before(u.until) {
		return nil, u.why
	}
	t := b.versions[key]
	if i := slices.Index(b.order, key); i >= 0 && i < len(b.order)-1 {
		b.order = append(slices.Delete(b.order, i, i+1), key)
	}
	return t, nil
}

// refuse remembers that a version is unfit. The caller holds b.mu.
func (b *Book) refuse(key versionKey, err error) {
	if !errors.Is(err, ErrUnfit) {
		return
	}
	if len(b.unfit) >= maxVersions {
		clear(b.unfit)
	}
	b.unfit[key] = unfit{err, time.Now().Add(unfitFor)}
}

// keep remembers a version. The caller holds b.mu.
func (b *Book) keep(t *Task) {
	key := versionKey{t.Name, t.Version}
	if b.versions[key] == nil {
		b.order = append(b.order, key)
	}
	b.versions[key] = t
	for len(b.order) > maxVersions {
		delete(b.versions, b.order[0])
		b.order = b.order[1:]
	}
}

// Model returns a model as a version of a task has it, else as this process does; nil: it is in neither.
func (b *Book) Model(t *Task, name string) *Model {
	if t != nil {
		if m := t.Models[name]; m != nil {
			return m
		}
	}
	return b.Live().Models[name]
}
