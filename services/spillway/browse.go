package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/broker"
)

// Bounds of one pull of what a stream keeps: memory, not speed.
const (
	pullMessages  = 256
	pullBytes     = 16 << 20
	quietMessages = 2 * time.Second
	patientQuiets = 5
)

// errEnough ends a browse before the last message.
var errEnough = errors.New("enough")

// browse calls each for every message of a stream that cfg picks, the oldest first, as they are stored now.
func browse(ctx context.Context, conn *broker.Conn, stream string, cfg jetstream.OrderedConsumerConfig, each func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := conn.JS.OrderedConsumer(asking, stream, cfg)
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, unanswerable(err))
	}
	if c.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := c.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes))
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	defer messages.Stop()
	for {
		m, err := nextMessage(ctx, c, messages)
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		if m == nil {
			return nil
		}
		md, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		err = each(m, md)
		switch {
		case errors.Is(err, errEnough):
			return nil
		case err != nil:
			return err
		case md.NumPending == 0:
			return nil
		}
	}
}

// nextMessage returns the next message; nil when those that were to come are gone.
func nextMessage(ctx context.Context, c jetstream.Consumer, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	for quiets := 0; ; quiets++ {
		waiting, cancel := context.WithTimeout(ctx, quietMessages)
		m, err := messages.Next(jetstream.NextContext(waiting))
		cancel()
		if err == nil {
			return m, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !errors.Is(err, context.DeadlineExceeded) || quiets == patientQuiets {
			return nil, err
		}
		if info, err := c.Info(ctx); err == nil && info.NumPending == 0 {
			return nil, nil
		}
	}
}
