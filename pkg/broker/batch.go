package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of a read of many messages.
const (
	// batchMessages and batchBytes bound one answer: it waits in memory until it is read.
	batchMessages = 4096
	batchBytes    = 1 << 20
	// headersAtOnce is how many messages without their bodies one request asks for.
	headersAtOnce = 5000
	// passingConsumer is how long the server keeps a consumer whose owner died before he could delete it.
	passingConsumer = 30 * time.Second
)

// Each reads all messages on subject, the oldest first, from any replica of the stream: it may be a moment behind.
// It asks once, and again only where there is more than one answer may hold. None is no error.
func (c *Conn) Each(ctx context.Context, stream, subject string, f func(Stored)) error {
	for next := uint64(1); next > 0; {
		var err error
		if next, err = c.batch(ctx, stream, subject, next, f); err != nil {
			return fmt.Errorf("read %s from %s: %w", subject, stream, err)
		}
	}
	return nil
}

// batch reads from a sequence on; next is where more is to be had, 0: nowhere.
func (c *Conn) batch(ctx context.Context, stream, subject string, from uint64, f func(Stored)) (next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	ask, err := json.Marshal(map[string]any{"batch": batchMessages, "max_bytes": batchBytes, "seq": from, "next_by_subj": subject})
	if err != nil {
		return 0, err
	}
	inbox := c.NC.NewInbox()
	sub, err := c.NC.SubscribeSync(inbox)
	if err != nil {
		return 0, err
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone already
	if err := c.NC.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, ask); err != nil {
		return 0, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return 0, err
		}
		switch m.Header.Get("Status") {
		case "":
			f(direct(m))
		case "204":
			return following(m.Header), nil
		case "404":
			return 0, nil
		default:
			return 0, errors.New("the server answers " + m.Header.Get("Status") + " " + m.Header.Get("Description"))
		}
	}
}

// following is the sequence after the last one that was sent, if more are pending.
func following(h nats.Header) uint64 {
	last, err := strconv.ParseUint(h.Get("Nats-Last-Sequence"), 10, 64)
	if err != nil || h.Get("Nats-Num-Pending") == "0" {
		return 0
	}
	return last + 1
}

// direct is a stored message as it comes by a direct get.
func direct(m *nats.Msg) Stored {
	s := Stored{Subject: m.Header.Get(jetstream.SubjectHeader), Header: textproto.MIMEHeader(m.Header), Data: m.Data}
	s.Sequence, _ = strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64) // the server's own
	s.At, _ = time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	return s
}

// HeadersSince reads the messages stored since then, without their bodies, the oldest first. The consumer that it
// needs for that is not kept.
func (c *Conn) HeadersSince(ctx context.Context, stream string, since time.Time, f func(Stored)) error {
	k, err := c.JS.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since, HeadersOnly: true, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: passingConsumer,
	})
	if err != nil {
		return fmt.Errorf("read the headers of %s: %w", stream, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		_ = c.JS.DeleteConsumer(ctx, stream, k.CachedInfo().Name) // the server forgets it by itself
	}()
	for pending := k.CachedInfo().NumPending; pending > 0 && ctx.Err() == nil; {
		batch, err := k.FetchNoWait(headersAtOnce)
		if err != nil {
			return fmt.Errorf("read the headers of %s: %w", stream, err)
		}
		n := 0
		for m := range batch.Messages() {
			md, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("read the headers of %s: %w", stream, err)
			}
			n, pending = n+1, md.NumPending
			f(Stored{Subject: m.Subject(), Sequence: md.Sequence.Stream, At: md.Timestamp, Header: textproto.MIMEHeader(m.Headers())})
		}
		if err := batch.Error(); err != nil {
			return fmt.Errorf("read the headers of %s: %w", stream, err)
		}
		if n == 0 {
			return nil // the rest was deleted meanwhile
		}
	}
	return context.Cause(ctx)
}
