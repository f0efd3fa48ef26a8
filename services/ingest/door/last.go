package door

import "sync"

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

func (l *lastHeard) put(id string, progress []byte) {
	if len(progress) > maxProgressBytes {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
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

// remove forgets a job that is done.
func (l *lastHeard) remove(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.young, id)
	delete(l.old, id)
}
