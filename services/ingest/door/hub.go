package door

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/stage"
	"spillway/services/ingest"
)

// kind is what an event tells.
type kind int

const (
	resultEvent kind = iota + 1
	progressEvent
	deltaEvent
)

// source is a subject that a door listens to.
type source struct {
	kind    kind
	name    string
	subject string
	// maxBytes may wait to be handed on. They hold what comes while the process is busy with other things; beyond
	// them all who listen read anew.
	maxBytes int
}

func sources() []source {
	return []source{
		{resultEvent, "result", broker.AllResults, 256 << 20},
		{progressEvent, "progress", broker.AnyProgress, 64 << 20},
		{deltaEvent, "draft", broker.AllDeltas, 128 << 20},
	}
}

// event is a message as it was heard. All who listen share it, so nobody changes it.
type event struct {
	kind kind
	msg  *nats.Msg
}

func (e event) id() string { return broker.Token(e.msg.Subject, 3) }

const (
	pulseEvery = 15 * time.Second
	cutAfter   = 10 * time.Second
	renewEvery = tokenLife / 2
	flushFor   = 5 * time.Second
)

// hub hears results, progress and drafts with one core subscription each, whoever waits, and hands them to
// those whom they concern. What it hears may have gaps: a listener that lagged, and now and then each that
// waits, reads what is stored.
type hub struct {
	conn   *broker.Conn
	log    zerolog.Logger
	subs   []*nats.Subscription
	off    func() // ends the watch for reconnects
	stop   context.CancelFunc
	filled chan struct{} // closed once the sessions of before are known

	reads chan struct{} // a place each

	// pulseEvery is how often a client that waits is sent a sign of life. Then its result is looked for too: what
	// is heard may have gaps. cutAfter is how long a client may take to read what was written before it is cut.
	// renewEvery is how often one that came with a token is told addresses with fresh ones.
	pulseEvery, cutAfter, renewEvery time.Duration

	last   *lastHeard
	recent *recent

	mu       sync.Mutex
	closed   bool
	jobs     map[string]*listener
	sessions map[session]*listener
	waiting  int
	dropped  map[*nats.Subscription]int
}

// newHub starts to hear.
func newHub(ctx context.Context, conn *broker.Conn, metrics prometheus.Registerer, log zerolog.Logger) (*hub, error) {
	h := &hub{
		conn: conn, log: log, filled: make(chan struct{}), last: newLastHeard(), recent: newRecent(),
		reads: make(chan struct{}, readsAtOnce), pulseEvery: pulseEvery, cutAfter: cutAfter, renewEvery: renewEvery, jobs: map[string]*listener{}, sessions: map[session]*listener{}, dropped: map[*nats.Subscription]int{},
	}
	for _, s := range sources() {
		sub, err := conn.NC.Subscribe(s.subject, func(m *nats.Msg) { h.hear(event{s.kind, m}) })
		if err != nil {
			h.unsubscribe()
			return nil, fmt.Errorf("subscribe to %s: %w", s.subject, err)
		}
		_ = sub.SetPendingLimits(-1, s.maxBytes) // fails for a closed subscription only
		h.subs = append(h.subs, sub)
	}
	if err := h.flush(ctx); err != nil && conn.NC.IsConnected() {
		h.unsubscribe()
		return nil, fmt.Errorf("subscribe to results, progress and drafts: %w", err)
	}
	h.register(metrics)
	h.off = conn.OnReconnect(h.wakeAll)
	ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(h.filled)
		h.fill(ctx)
	}()
	return h, nil
}

// flush returns once the server has heard of what was subscribed to.
func (h *hub) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushFor)
	defer cancel()
	return h.conn.NC.FlushWithContext(ctx)
}

// close ends the subscriptions, and what anybody still waits for.
func (h *hub) close() {
	h.off()
	h.stop()
	h.unsubscribe()
	<-h.filled
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.each(func(l *listener) { l.cut(errClosed) })
}

func (h *hub) unsubscribe() {
	for _, sub := range h.subs {
		_ = sub.Unsubscribe() // the connection may be gone already
	}
}

// Progress with an event is of no hop: a repeated request was told something. Only that a request was acknowledged
// is news of the job itself.
const (
	aside      = `"event":`
	asideOfNew = aside + `"` + ingest.Acknowledged + `"`
)

// hear hands an event on. It is called by each subscription for itself.
func (h *hub) hear(e event) {
	id, of := e.id(), sessionOf(e.msg.Header)
	switch e.kind {
	case progressEvent:
		if bytes.Contains(e.msg.Data, []byte(aside)) && !bytes.Contains(e.msg.Data, []byte(asideOfNew)) {
			return
		}
		h.last.put(id, e.msg.Data)
	case resultEvent:
		h.last.remove(id)
	}
	if of.name != "" && e.kind != deltaEvent {
		h.recent.note(of, id, time.Now())
	}
	h.checkDrops(e.msg.Sub)
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := h.jobs[id]; l != nil; l = l.link {
		l.offer(e)
	}
	if of.name != "" {
		for l := h.sessions[of]; l != nil; l = l.link {
			l.offer(e)
		}
	}
}

// checkDrops makes all read anew when the client library dropped something: whose it was is not known.
func (h *hub) checkDrops(sub *nats.Subscription) {
	n, err := sub.Dropped()
	if err != nil {
		return
	}
	h.mu.Lock()
	more := n > h.dropped[sub]
	h.dropped[sub] = n
	h.mu.Unlock()
	if more {
		h.log.Error().Str("subject", sub.Subject).Int("dropped", n).Msg("this process does not keep up with what it hears, all who wait read anew")
		h.wakeAll()
	}
}

// wakeAll makes all who listen read anew.
func (h *hub) wakeAll() {
	h.each((*listener).lag)
}

func (h *hub) each(f func(*listener)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.jobs {
		for ; l != nil; l = l.link {
			f(l)
		}
	}
	for _, l := range h.sessions {
		for ; l != nil; l = l.link {
			f(l)
		}
	}
}

// lastProgress is what was heard last of a job under way, if this process has heard of it.
func (h *hub) lastProgress(id string) (stage.Progress, bool) {
	var p stage.Progress
	data, ok := h.last.get(id)
	if !ok || json.Unmarshal(data, &p) != nil {
		return stage.Progress{}, false
	}
	return p, true
}

// watchJob listens for what concerns a job, from now on.
func (h *hub) watchJob(id string) *listener {
	return h.watch(&listener{hub: h, job: id, wake: make(chan struct{}, 1)})
}

// watchSession listens for what concerns the jobs of a session.
func (h *hub) watchSession(tenant, name string) *listener {
	return h.watch(&listener{hub: h, session: session{tenant, name}, wake: make(chan struct{}, 1)})
}

func (h *hub) watch(l *listener) *listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		l.cut(errClosed)
		return l
	}
	l.link, l.isIn = h.first(l), true
	if l.link != nil {
		l.link.back = l
	}
	h.setFirst(l, l)
	h.waiting++
	return l
}

// forget takes a listener out, in no more time when many listen to the same.
func (h *hub) forget(l *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !l.isIn {
		return
	}
	l.isIn = false
	h.waiting--
	if l.link != nil {
		l.link.back = l.back
	}
	if l.back != nil {
		l.back.link = l.link
	} else {
		h.setFirst(l, l.link)
	}
}

// first is the first one who listens to the same as l; nil: nobody does.
func (h *hub) first(l *listener) *listener {
	if l.job != "" {
		return h.jobs[l.job]
	}
	return h.sessions[l.session]
}

func (h *hub) setFirst(l, first *listener) {
	switch {
	case l.job != "" && first != nil:
		h.jobs[l.job] = first
	case l.job != "":
		delete(h.jobs, l.job)
	case first != nil:
		h.sessions[l.session] = first
	default:
		delete(h.sessions, l.session)
	}
}
