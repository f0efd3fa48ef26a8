package stage

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/job"
)

// held is a delivery in this process's hands: from its arrival until it is settled.
type held struct {
	p          *puller
	seq        uint64
	stored     int64 // the message's timestamp: with seq, its identity
	deliveries int
	data       []byte
	arrival    job.Arrival
	header     nats.Header
	taken      time.Time

	mu    sync.Mutex
	reply string
}

func newHeld(p *puller, m *nats.Msg) (*held, error) {
	md, err := m.Metadata()
	if err != nil {
		return nil, err
	}
	return &held{
		p: p, seq: md.Sequence.Stream, stored: md.Timestamp.UnixNano(), deliveries: int(md.NumDelivered),
		data: m.Data, header: m.Header, reply: m.Reply, taken: time.Now(),
		arrival: job.Arrival{
			Subject: m.Subject, Stream: md.Stream, Sequence: md.Sequence.Stream, At: md.Timestamp,
			Deliveries: int(md.NumDelivered),
		},
	}, nil
}

// renew takes the handle of a redelivery: what was lost is its lease, not the work.
func (h *held) renew(again *held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reply = again.reply
}

func (h *held) say(verb string) {
	h.mu.Lock()
	reply := h.reply
	h.mu.Unlock()
	// Not confirmed: a lost verb means a redelivery, which settled and held know how to take.
	_ = h.p.conn.NC.Publish(reply, []byte(verb))
}

func (h *held) ack()        { h.say("+ACK") }
func (h *held) inProgress() { h.say("+WPI") }

// nak hands the message back, to be delivered again after wait.
func (h *held) nak(wait time.Duration) {
	if wait <= 0 {
		h.say("-NAK")
		return
	}
	h.say(`-NAK {"delay":` + strconv.FormatInt(int64(wait), 10) + `}`)
}

// term ends the message for good, with a reason for the server's advisory.
func (h *held) term(reason string) { h.say("+TERM " + reason) }

// confirm acknowledges and waits until the broker has it. It repeats until ctx ends.
func (h *held) confirm(ctx context.Context) error {
	for ctx.Err() == nil {
		h.mu.Lock()
		reply := h.reply
		h.mu.Unlock()
		try, cancel := context.WithTimeout(ctx, leaseEvery)
		_, err := h.p.conn.NC.RequestWithContext(try, reply, []byte("+ACK"))
		cancel()
		if err == nil {
			return nil
		}
		if t := time.NewTimer(refusedPause); true {
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
	}
	return fmt.Errorf("confirm the ack of message %d: %w", h.seq, context.Cause(ctx))
}

// settledKept and settledAge bound the memory of what was settled; it covers acks lost with a connection.
const (
	settledKept = 1 << 15
	settledAge  = 30 * time.Second
)

// settled remembers the messages that were acknowledged lately, in two generations.
type settled struct {
	young, old map[uint64]int64
	since      time.Time
}

func newSettled() settled {
	return settled{young: map[uint64]int64{}, old: map[uint64]int64{}, since: time.Now()}
}

func (s *settled) add(seq uint64, stored int64) {
	if len(s.young) >= settledKept {
		s.turn(time.Now())
	}
	s.young[seq] = stored
}

func (s *settled) has(seq uint64, stored int64) bool {
	if at, ok := s.young[seq]; ok {
		return at == stored
	}
	at, ok := s.old[seq]
	return ok && at == stored
}

func (s *settled) age(now time.Time) {
	if now.Sub(s.since) > settledAge && len(s.young)+len(s.old) > 0 {
		s.turn(now)
	}
}

func (s *settled) turn(now time.Time) {
	s.old, s.young, s.since = s.young, map[uint64]int64{}, now
}
