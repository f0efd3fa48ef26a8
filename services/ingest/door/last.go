package door

import (
	"bytes"
	"sync"
)

// maxLastHeard bounds of how many jobs the last progress is known: twice that, for a moment.
const (
	maxLastHeard = 10_000
	// maxProgressBytes is more than progress has; what is larger is not kept.
	maxProgressBytes = 2 << 10
)

// lastHeard keeps the last progress of the jobs of which something was heard lately, as it came.
type lastHeard struct {
	mu sync.Mutex
	// young takes what comes; when it is full it becomes old, and what was old is forgotten.
	young, old map[string][]byte
}

func newLastHeard() *lastHeard { return &lastHeard{young: map[string][]byte{}} }

// put keeps what is of a later hop than what is kept: what two stages say of a job comes in any order.
func (l *lastHeard) put(id string, progress []byte) {
	if len(progress) > maxProgressBytes {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before, ok := l.young[id]
	if !ok {
		before, ok = l.old[id]
	}
	if ok && isLater(before, progress) {
		return
	}
	if len(l.young) >= maxLastHeard {
		l.young, l.old = map[string][]byte{}, l.young
	}
	l.young[id] = progress
}

func (l *lastHeard) get(id string) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	progress, ok := l.young[id]
	if !ok {
		progress, ok = l.old[id]
	}
	return progress, ok
}

// isLater reports whether progress a is of a later hop than b. It reads no more of them than that: most of what is
// heard nobody asks for.
func isLater(a, b []byte) bool {
	if runA, runB := number(a, `"run":`), number(b, `"run":`); runA != runB {
		return runA > runB
	}
	return number(a, `"hop":`) > number(b, `"hop":`)
}

// number reads the first number of a name; 0: there is none.
func number(progress []byte, name string) int {
	n := 0
	if i := bytes.Index(progress, []byte(name)); i >= 0 {
		for _, c := range progress[i+len(name):] {
			if c < '0' || c > '9' || n > 1<<30 {
				break
			}
			n = 10*n + int(c-'0')
		}
	}
	return n
}

// remove forgets a job that is done.
func (l *lastHeard) remove(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.young, id)
	delete(l.old, id)
}
