package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// Conn is a connection to NATS with what the pipeline does over it. It is safe for concurrent use.
type Conn struct {
	NC  *nats.Conn
	JS  jetstream.JetStream
	log zerolog.Logger
	id  *identity

	refused refusedDrafts

	mu          sync.Mutex
	onReconnect []func()
	cancels     *cancels
}

// ConnectOptions say where and as whom to connect.
type ConnectOptions struct {
	// URL is one or more server addresses, separated by commas.
	URL string
	// Name is shown by the server's monitoring: spillway/<role>.
	Name string
	// Patient keeps trying when no server answers at first; tools leave it false and fail at once.
	Patient bool
	// As says who connects, where the URL does not.
	As  Credentials
	Log zerolog.Logger
}

// The publisher's bounds: how many hand-overs may await their PubAck at once in a process, and how long
// one waits before it is sent again under the same message id.
const (
	maxAwaitedAcks = 1 << 16
	ackTimeout     = 4 * time.Second
	dialTimeout    = 5 * time.Second
)

// Connect opens a connection that reconnects for ever. Nothing is buffered while it is away: a publish
// fails at once and its owner decides. A server that refuses to be connected to ends also a patient try.
func Connect(o ConnectOptions) (*Conn, error) {
	id, err := newIdentity(o)
	if err != nil {
		return nil, err
	}
	c := &Conn{log: o.Log, id: id}
	options := append(c.options(o), id.options()...)
	nc, err := nats.Connect(id.url, options...)
	if err != nil && o.Patient && !isRefusal(err) {
		nc, err = nats.Connect(id.url, append(options, nats.RetryOnFailedConnect(true))...)
	}
	if err != nil {
		return nil, id.explain(err)
	}
	id.nc.Store(nc)
	js, err := jetstream.New(nc,
		jetstream.WithPublishAsyncMaxPending(maxAwaitedAcks),
		jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	c.NC, c.JS = nc, js
	return c, nil
}

func (c *Conn) options(o ConnectOptions) []nats.Option {
	return []nats.Option{
		nats.Name(o.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		// While a secret is rotated, the server and this process know different ones for a while.
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(20 * time.Second),
		nats.Timeout(dialTimeout),
		nats.ErrorHandler(c.asyncError),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				o.Log.Warn().Err(err).Msg("connection to NATS lost, reconnecting")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			o.Log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("connected to NATS again")
			c.reconnected()
		}),
	}
}

// Close ends the connection and what watches over it.
func (c *Conn) Close() {
	c.mu.Lock()
	watch := c.cancels
	c.mu.Unlock()
	if watch != nil {
		watch.stop()
	}
	c.JS.CleanupPublisher()
	c.NC.Close()
}

// OnReconnect calls f after each reconnect, until the returned function is called.
func (c *Conn) OnReconnect(f func()) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onReconnect = append(c.onReconnect, f)
	i := len(c.onReconnect) - 1
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.onReconnect[i] = nil
	}
}

func (c *Conn) reconnected() {
	c.mu.Lock()
	calls := append([]func(){}, c.onReconnect...)
	c.mu.Unlock()
	for _, f := range calls {
		if f != nil {
			f()
		}
	}
}

// asyncError is told what no call returns: a denied publish arrives only here.
func (c *Conn) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if c.refused.note(&c.log, err) {
		return
	}
	if isRefusal(err) {
		c.id.tell(err)
		return
	}
	e := c.log.Error().Err(err)
	if sub != nil {
		e = e.Str("subject", sub.Subject)
	}
	e.Msg("NATS refused or dropped something")
}

// pause waits before the n-th repetition, from 0: 50 ms, doubled up to 1 s.
func pause(ctx context.Context, n int) error {
	wait := min(50*time.Millisecond<<min(n, 5), time.Second)
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// IsAway reports whether err of a publish means that the connection is away: the message went nowhere, and may go
// when the connection is back.
func IsAway(err error) bool {
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

// isPassing reports whether err is the broker's being away for a moment: an election, a restart.
func isPassing(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return !isFull(api) && (api.Code == 503 || api.Code == 429 || api.ErrorCode == codeInProcess)
	}
	for _, passing := range []error{
		nats.ErrNoResponders, nats.ErrTimeout, nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded,
		jetstream.ErrNoStreamResponse, jetstream.ErrAsyncPublishTimeout, jetstream.ErrTooManyStalledMsgs, context.DeadlineExceeded,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
