package bench

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
)

// credit pulls from a consumer as many messages as there are free slots, so that nothing waits in a
// client's buffer. It is the pipeline's way of pulling without what the pipeline needs it for: leases, a
// lost connection, an election.
type credit struct {
	conn    *broker.Conn
	request string
	inbox   string
	slots   int64
	free    atomic.Int64
	sub     *nats.Subscription
	work    chan *nats.Msg
	workers sync.WaitGroup
}

// pullByCredit calls handle for each message, at most slots at once, until stop is called.
func pullByCredit(conn *broker.Conn, stream, consumer string, slots int, handle func(*nats.Msg)) (*credit, error) {
	c := &credit{
		conn: conn, request: broker.PullSubject(stream, consumer), inbox: conn.NC.NewRespInbox(),
		slots: int64(slots), work: make(chan *nats.Msg, slots),
	}
	c.free.Store(c.slots)
	for range slots {
		c.workers.Go(func() {
			for m := range c.work {
				handle(m)
				c.free.Add(1)
				c.pull()
			}
		})
	}
	var err error
	if c.sub, err = conn.NC.Subscribe(c.inbox, c.receive); err != nil {
		close(c.work)
		return nil, fmt.Errorf("subscribe for %s: %w", consumer, err)
	}
	c.pull()
	return c, nil
}

// pull asks for the free slots, once a quarter of them is free.
func (c *credit) pull() {
	n := c.free.Load()
	if n < (c.slots+3)/4 || !c.free.CompareAndSwap(n, 0) {
		return // who freed the other slot asks for both
	}
	body := append(strconv.AppendInt([]byte(`{"batch":`), n, 10), `,"expires":5000000000}`...)
	if c.conn.NC.PublishRequest(c.request, c.inbox, body) != nil {
		c.free.Add(n) // the connection is gone; the round ends by its timeout
	}
}

func (c *credit) receive(m *nats.Msg) {
	if len(m.Data) == 0 && m.Header.Get("Status") != "" {
		if left, err := strconv.ParseInt(m.Header.Get("Nats-Pending-Messages"), 10, 64); err == nil {
			c.free.Add(left)
			c.pull()
		}
		return
	}
	c.work <- m // never blocks: there is a slot for each credit
}

// stop pulls no more and waits for the handlers. What was delivered and not handled is dropped.
func (c *credit) stop() {
	ended := make(chan struct{})
	c.sub.SetClosedHandler(func(string) { close(ended) })
	if c.sub.Unsubscribe() == nil {
		<-ended // receive has returned for the last time
	}
	close(c.work)
	c.workers.Wait()
}
