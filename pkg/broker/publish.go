package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Server error codes that the jetstream package does not name.
const (
	codeNoPeers      jetstream.ErrorCode = 10005 // of a cluster that is still coming together
	codeDeleteFailed jetstream.ErrorCode = 10057
	codeInProcess    jetstream.ErrorCode = 10158 // an earlier try with this message id is being stored
	codeStoreFailed  jetstream.ErrorCode = 10077
)

// ErrFull is returned by Publish when the stream has reached its bound.
var ErrFull = errors.New("the stream is full")

// ErrTooLarge is returned by Publish for a message beyond the server's max_payload.
var ErrTooLarge = errors.New("the message is larger than the server takes")

// ErrConflict is returned by Publish when the subject's last sequence is not the expected one.
var ErrConflict = errors.New("another message was stored on the subject first")

// ErrUnreadable is returned by the reads when what is stored is not what it should be.
var ErrUnreadable = errors.New("what is stored there cannot be read")

// ErrNotFound is returned by the reads when nothing is stored.
var ErrNotFound = errors.New("nothing is stored there")

// Publish stores m and returns once JetStream has acknowledged it. It repeats through elections and
// restarts, unchanged, until ctx ends: m needs a message id, or an expected sequence, for that to be safe.
//
// Errors: ErrFull, ErrTooLarge, ErrConflict, the cause of ctx, or what else the server refused.
func (c *Conn) Publish(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	for n := 0; ; n++ {
		ack, err := c.publishOnce(ctx, m)
		switch {
		case err == nil:
			return ack, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("publish on %s: %w", m.Subject, context.Cause(ctx))
		case !isPassing(err):
			return nil, fmt.Errorf("publish on %s: %w", m.Subject, refusal(err))
		}
		if n == 4 {
			c.log.Warn().Err(err).Str("subject", m.Subject).Msg("JetStream does not acknowledge, repeating")
		}
		if pause(ctx, n) != nil {
			return nil, fmt.Errorf("publish on %s: %w", m.Subject, context.Cause(ctx))
		}
	}
}

// PublishRequest stores a client's request. JetStream drops one whose message id came less than
// clientDedupeWindow ago without a look at its body; it is sent again then, for ingest to judge.
func (c *Conn) PublishRequest(ctx context.Context, m *nats.Msg) error {
	for {
		ack, err := c.Publish(ctx, m)
		if err != nil || !ack.Duplicate {
			return err
		}
		t := time.NewTimer(clientDedupeWindow + clientDedupeWindow/2)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("publish on %s: %w", m.Subject, context.Cause(ctx))
		}
	}
}

func (c *Conn) publishOnce(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	future, err := c.JS.PublishMsgAsync(m)
	if err != nil {
		return nil, err
	}
	select {
	case ack := <-future.Ok():
		return ack, nil
	case err = <-future.Err():
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// refusal turns the server's answer into one of this package's errors where there is one for it.
func refusal(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return err
	}
	switch {
	case isFull(api):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence,
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

// isFull tells a stream at its bound from the other failures of a store, which pass.
func isFull(api *jetstream.APIError) bool {
	return api.ErrorCode == codeStoreFailed && strings.HasPrefix(api.Description, "maximum ")
}

// PublishExpecting stores m if the last message on its subject has the sequence last (0: there is none).
// A conflict is ErrConflict, also when the message there is an earlier try of this very call: the caller
// reads it back from the leader and compares.
func (c *Conn) PublishExpecting(ctx context.Context, m *nats.Msg, last uint64) (uint64, error) {
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	m.Header[expectedHeader] = []string{strconv.FormatUint(last, 10)}
	ack, err := c.Publish(ctx, m)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// ExpiresAfter is the header of a message that the stream drops after d, in whole seconds, at least one.
func ExpiresAfter(d time.Duration) nats.Header {
	return nats.Header{ttlHeader: {strconv.FormatInt(max(int64(d/time.Second), 1), 10)}}
}

// TTLOf returns after which time the stream drops a message that ExpiresAfter made the header of; false: it stays.
func TTLOf(h map[string][]string) (time.Duration, bool) {
	values := h[ttlHeader]
	if len(values) == 0 {
		return 0, false
	}
	seconds, err := strconv.ParseInt(values[0], 10, 64)
	return time.Duration(seconds) * time.Second, err == nil && seconds > 0
}
