package fallback

import (
	"container/heap"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// index is the heap of runs that have no result yet, by the time to answer them. It is safe for
// concurrent use.
type index struct {
	mu    sync.Mutex
	queue queue
	byID  map[string]*entry
	wake  chan struct{}
	m     *metrics
	// early and earlier are runs whose results came before their markers, in two generations: the two come
	// on ways of their own.
	early, earlier map[string]told
	// complete is set once all is in that was stored when the process began.
	complete atomic.Bool
}

// told is when a run's result was heard of.
type told struct {
	run int
	at  time.Time
}

// earlyFor is how long a result may be ahead of its marker. An id that is admitted anew after its marker
// has expired is another matter.
const earlyFor = time.Minute

// earlyKept bounds a generation.
const earlyKept = 1 << 14

// entry is one run that waits for its result. There may be a million.
type entry struct {
	id       string
	answerBy int64 // Unix time in nanoseconds
	run      int32
	place    int32 // in the heap
	// unsure is set when a result of the run may have come and gone before this process could read it.
	unsure bool
}

// anyRun is the run of an entry whose marker could not be read yet: whichever is the newest.
const anyRun = math.MaxInt32

func newIndex(m *metrics) *index {
	return &index{byID: map[string]*entry{}, wake: make(chan struct{}, 1), m: m, early: map[string]told{}}
}

// nanoseconds is t as Unix time; what they cannot tell is as far away as they can.
func nanoseconds(t time.Time) int64 {
	switch {
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	case t.Before(time.Unix(0, 0)):
		return 0
	}
	return t.UnixNano()
}

// put notes a run. A later run replaces the entry of an earlier one.
func (x *index) put(e entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.isTold(e.id, int(e.run)) {
		return
	}
	if known, ok := x.byID[e.id]; ok {
		if known.run < e.run {
			known.run, known.answerBy, known.unsure = e.run, e.answerBy, e.unsure
			heap.Fix(&x.queue, int(known.place))
		}
	} else {
		// The id is part of a subject, which need not be kept with it.
		e.id = strings.Clone(e.id)
		x.byID[e.id] = &e
		heap.Push(&x.queue, &e)
	}
	x.m.waiting.Set(float64(len(x.queue)))
	if x.queue[0].id == e.id {
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
}

func (x *index) isTold(id string, run int) bool {
	for _, t := range []told{x.early[id], x.earlier[id]} {
		if t.run >= run && time.Since(t.at) < earlyFor {
			return true
		}
	}
	return false
}

// done notes a result of a run.
func (x *index) done(id string, run int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.byID[id]
	switch {
	case ok && int(e.run) <= run:
		heap.Remove(&x.queue, int(e.place))
		delete(x.byID, id)
		x.m.waiting.Set(float64(len(x.queue)))
	case !ok:
		if len(x.early) >= earlyKept {
			x.early, x.earlier = map[string]told{}, x.early
		}
		x.early[id] = told{run, time.Now()}
	}
}

// size is how many runs wait.
func (x *index) size() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.queue)
}

// due takes out the runs whose time has come, at most limit, and says when to look again.
func (x *index) due(now time.Time, limit int) (runs []entry, next time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.queue) > 0 && len(runs) < limit {
		first := x.queue[0]
		if first.answerBy > now.UnixNano() {
			return runs, min(time.Duration(first.answerBy-now.UnixNano()), time.Minute)
		}
		heap.Pop(&x.queue)
		delete(x.byID, first.id)
		runs = append(runs, *first)
	}
	x.m.waiting.Set(float64(len(x.queue)))
	if len(runs) == limit {
		return runs, 0
	}
	return runs, time.Minute
}

// queue implements heap.Interface.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].answerBy < q[j].answerBy }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = int32(i), int32(j)
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.place = int32(len(*q))
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	old := *q
	last := len(old) - 1
	e := old[last]
	old[last] = nil
	*q = old[:last]
	return e
}
