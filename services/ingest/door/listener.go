package door

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Bounds of what waits for a client that does not read. Beyond them its drafts and progress are dropped, and it
// is told anew where things are; beyond those of results it is cut, and finds them when it comes back.
const (
	maxQueued       = 256
	maxQueuedBytes  = 512 << 10
	maxResults      = 256
	maxResultsBytes = 8 << 20
)

var (
	errClosed = errors.New("the door is closed")
	errSlow   = errors.New("the client does not read")
)

// listener is somebody who waits for what concerns a job, or a session.
type listener struct {
	hub     *hub
	job     string
	session session
	// link and back are the next one and the one before of the same job or session; the hub's, as isIn.
	link, back *listener
	isIn       bool
	wake       chan struct{}

	mu     sync.Mutex
	queue  []event
	bytes  int // of the queue
	behind bool
	ended  error
}

// close ends it. It may be called again.
func (l *listener) close() { l.hub.forget(l) }

// next returns the events that came since the last call, at least one, or none when the listener lagged: then
// what is stored is to be read anew. A result that came is among them all the same.
func (l *listener) next(ctx context.Context) ([]event, error) {
	for {
		select {
		case <-l.wake:
			events, err := l.take()
			if err != nil || len(events) > 0 || l.hasLagged() {
				return events, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take returns the events that wait.
func (l *listener) take() ([]event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := l.queue
	l.queue, l.bytes = nil, 0
	return events, l.ended
}

// lagged reports whether something was missed since the last call.
func (l *listener) lagged() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	behind := l.behind
	l.behind = false
	return behind
}

func (l *listener) hasLagged() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.behind
}

// offer queues an event.
func (l *listener) offer(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return
	}
	l.queue = append(l.queue, e)
	l.bytes += len(e.msg.Data)
	if len(l.queue) > maxQueued || l.bytes > maxQueuedBytes {
		l.shed()
	}
	l.signal()
}

// shed drops all but results, the queue being too long. The newest draft alone may be larger than the bound.
func (l *listener) shed() {
	if len(l.queue) == 1 {
		return
	}
	kept := slices.DeleteFunc(l.queue, func(e event) bool { return e.kind != resultEvent })
	l.behind = l.behind || len(kept) < len(l.queue)
	l.queue, l.bytes = kept, 0
	for _, e := range kept {
		l.bytes += len(e.msg.Data)
	}
	if len(kept) > maxResults || l.bytes > maxResultsBytes {
		l.queue, l.bytes, l.ended = nil, 0, errSlow
	}
}

// lag makes the listener read anew.
func (l *listener) lag() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind = true
	l.signal()
}

// cut ends what is waited for.
func (l *listener) cut(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = cause
	l.signal()
}

func (l *listener) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
