package stage

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
)

// The pull protocol's times and sizes.
const (
	windows = 4
	// pullExpires is how long the broker keeps a pull request; lostAfter that, its credit is taken back.
	pullExpires = 5 * time.Second
	lostAfter   = time.Second
	// leaseEvery is how often everything held gets a sign of life: a third of broker.AckWait.
	leaseEvery = 2 * time.Second
	// refusedPause follows a pull request that the broker ended early (no responders, an election).
	refusedPause = 150 * time.Millisecond
	// gatePause follows a gate that granted nothing.
	gatePause = 50 * time.Millisecond
	// maxAskedBytes bounds what one inbox may be sent at once. All inboxes of a process share a connection, and
	// the server closes one that leaves more than its max_pending (512 MB) unread.
	maxAskedBytes = 24 << 20
)

// puller takes messages from one inbox, as many as there are free slots.
type puller struct {
	conn    *broker.Conn
	inbox   Inbox
	gate    Gate
	slots   int
	deliver func(*held)
	work    *sync.WaitGroup // counts what was delivered and has not returned
	m       *metrics
	request string // the subject of pull requests
	made    bool   // its consumer is made by the stage itself

	mu      sync.Mutex
	windows [windows]*window
	held    map[uint64]*held
	bytes   int // of what is held
	size    int // of a message, lately
	settled settled
	// started is false until all windows are open: their makings may take a while.
	started bool
	stopped bool
	retry   *time.Timer
	// missing is true while the broker knows no such inbox.
	missing atomic.Bool
	// delivered counts deliveries; seen is its value at the last look for a stall.
	delivered, seen uint64
}

// window is one subscription with at most one pull request under way on it.
type window struct {
	p    *puller
	sub  *nats.Subscription
	open int // promised by the request and not yet delivered or returned
	due  time.Time
}

func newPuller(conn *broker.Conn, in Inbox, gate Gate, slots int, m *metrics, work *sync.WaitGroup, deliver func(*held)) *puller {
	p := &puller{
		conn: conn, inbox: in, gate: gate, slots: slots, deliver: deliver, work: work, m: m,
		request: broker.PullSubject(in.Stream, in.Consumer),
		held:    map[uint64]*held{}, settled: newSettled(),
	}
	for i := range p.windows {
		p.windows[i] = &window{p: p}
	}
	return p
}

// start subscribes and pulls.
func (p *puller) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.windows {
		if err := w.subscribe(); err != nil {
			return fmt.Errorf("subscribe for inbox %s: %w", p.inbox.Consumer, err)
		}
	}
	p.started = true
	p.pull()
	return nil
}

func (w *window) subscribe() error {
	// An inbox of its own, not one under the connection's reply subscription: the broker must see that
	// nobody listens any more once this one is left, or it delivers into the void for a lease's time.
	sub, err := w.p.conn.NC.Subscribe(w.p.conn.NC.NewInbox(), w.receive)
	if err != nil {
		return err
	}
	// What is delivered has a slot; the limits guard only against a server that ignores the credit.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	w.sub = sub
	return nil
}

// pull asks for the free slots: a quarter of them or more at a time, or what there is when nothing is
// under way. The caller holds p.mu.
func (p *puller) pull() {
	quarter := (p.slots + windows - 1) / windows
	for _, w := range p.windows {
		if p.stopped || !p.started || w.open > 0 {
			continue
		}
		asked := p.asked()
		free := p.slots - len(p.held) - asked
		if free < 1 || (free < quarter && asked > 0) {
			return
		}
		want := min(free, quarter, p.room(asked))
		if want < 1 {
			return // what is released asks again
		}
		if p.gate != nil {
			if want = p.gate.Open(want, len(p.held)+asked); want == 0 {
				if asked == 0 {
					p.again(gatePause) // else what is asked for comes, or is given back, and asks again
				}
				return
			}
		}
		if err := w.ask(want); err != nil {
			p.giveBack(want)
			p.again(refusedPause)
			return
		}
	}
}

// room is how many more messages of the usual size fit beside what is held and asked for. One always does
// when there is nothing else.
func (p *puller) room(asked int) int {
	if p.size == 0 {
		return p.slots
	}
	most := p.inbox.HeldBytes
	if most == 0 {
		most = DefaultHeldBytes
	}
	fit := min(most-p.bytes, maxAskedBytes)/p.size - asked
	if len(p.held)+asked == 0 {
		fit = max(fit, 1)
	}
	return fit
}

// weigh counts a message of n bytes. Large ones count at once, small ones slowly: the mistake should be to
// ask for too few.
func (p *puller) weigh(n int) {
	p.bytes += n
	p.size = max(n, p.size-p.size/64)
}

// ask sends the pull request of n messages.
func (w *window) ask(n int) error {
	body := make([]byte, 0, 48)
	body = append(body, `{"batch":`...)
	body = strconv.AppendInt(body, int64(n), 10)
	body = append(body, `,"expires":`...)
	body = strconv.AppendInt(body, int64(pullExpires), 10)
	body = append(body, '}')
	if err := w.p.conn.NC.PublishRequest(w.p.request, w.sub.Subject, body); err != nil {
		return err
	}
	w.open = n
	w.due = time.Now().Add(pullExpires + lostAfter)
	return nil
}

// asked counts what pull requests under way may still deliver. The caller holds p.mu.
func (p *puller) asked() int {
	n := 0
	for _, w := range p.windows {
		n += w.open
	}
	return n
}

// again pulls after a pause. The caller holds p.mu.
func (p *puller) again(after time.Duration) {
	if p.retry != nil || p.stopped {
		return
	}
	p.retry = time.AfterFunc(after, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.retry = nil
		p.pull()
	})
}

func (p *puller) giveBack(n int) {
	if p.gate != nil && n > 0 {
		p.gate.Returned(n)
	}
}

// close takes the rest of the window's credit back. The caller holds p.mu.
func (w *window) close() {
	w.p.giveBack(w.open)
	w.open = 0
}

// receive is called, one at a time, for what the broker sends to the window.
func (w *window) receive(m *nats.Msg) {
	p := w.p
	if status := m.Header.Get("Status"); status != "" && len(m.Data) == 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		w.close()
		if status == "408" || status == "404" {
			p.pull()
		} else {
			p.again(refusedPause)
		}
		return
	}
	h, err := newHeld(p, m)
	if err != nil {
		return // not a JetStream delivery: somebody guessed the inbox
	}
	if p.take(w, h) {
		p.deliver(h)
	}
}

// take accounts for a delivery and reports whether it is new work.
func (p *puller) take(w *window, h *held) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.open = max(w.open-1, 0)
	p.delivered++
	if known, ok := p.held[h.seq]; ok && known.stored == h.stored {
		known.renew(h)
		p.m.redelivered.WithLabelValues("held").Inc()
		p.handBackCredit()
		return false
	}
	if p.settled.has(h.seq, h.stored) {
		h.ack()
		p.m.redelivered.WithLabelValues("settled").Inc()
		p.handBackCredit()
		return false
	}
	if p.stopped {
		h.nak(0)
		return false
	}
	if h.deliveries > 1 {
		p.m.redelivered.WithLabelValues("taken").Inc()
	}
	if other, ok := p.held[h.seq]; ok {
		p.bytes -= len(other.data) // of a stream that was deleted and made anew
	}
	p.held[h.seq] = h
	p.weigh(len(h.data))
	p.work.Add(1) // under the lock: after stop, nothing is added
	return true
}

func (p *puller) handBackCredit() {
	p.giveBack(1)
	p.pull()
}

// release ends the holding of h; done says that it was acknowledged.
func (p *puller) release(h *held, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[h.seq] == h {
		delete(p.held, h.seq)
		p.bytes -= len(h.data)
	}
	if done {
		p.settled.add(h.seq, h.stored)
	} else {
		p.giveBack(1)
	}
	p.pull()
}

// tick renews the leases and takes lost windows back; it is called every leaseEvery.
func (p *puller) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.held {
		h.inProgress()
	}
	for _, w := range p.windows {
		if w.open > 0 && now.After(w.due) {
			w.close()
		}
	}
	p.settled.age(now)
	p.pull()
}

// reset forgets the pull requests of a connection that is gone, renews the leases, then pulls anew. The
// new inboxes keep what an old request may still deliver apart from the new credit.
func (p *puller) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.held {
		h.inProgress()
	}
	for _, w := range p.windows {
		if p.stopped || !p.started {
			return
		}
		old := w.sub
		w.close()
		if err := w.subscribe(); err != nil {
			p.again(refusedPause)
			continue
		}
		_ = old.Unsubscribe() // the connection was just renewed; a failure leaves an unused inbox
	}
	p.pull()
}

// starving reports whether the inbox has room, is not held back, and got nothing since the last call.
func (p *puller) starving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.delivered == p.seen
	p.seen = p.delivered
	return idle && !p.stopped && len(p.held) < p.slots && p.room(p.asked()) > 0 && p.retry == nil
}

// stop pulls no more. What still arrives is handed back at once.
func (p *puller) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.retry != nil {
		p.retry.Stop()
		p.retry = nil
	}
	// The broker hears that nobody listens before it hears of what is handed back, or it would deliver that
	// here again until the pull requests are used up. What is on its way is still received.
	for _, w := range p.windows {
		if w.sub != nil {
			_ = w.sub.Drain() // fails when the connection is gone, and the requests with it
		}
	}
}

// isListening reports whether a subscription is still being drained.
func (p *puller) isListening() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.windows {
		if w.sub != nil && w.sub.IsValid() {
			return true
		}
	}
	return false
}

// leave ends the subscriptions.
func (p *puller) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.windows {
		if w.sub != nil {
			_ = w.sub.Unsubscribe() // the process is ending
		}
	}
}

// inHand counts the messages held.
func (p *puller) inHand() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)
}
