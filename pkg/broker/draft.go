package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"spillway/pkg/job"
)

// StoredDraft is a draft as LLM_DELTAS keeps it.
type StoredDraft struct {
	Stored
	Draft job.Draft
	// Behind is how many of its request are stored behind it already; 0: it is the newest.
	Behind uint64
}

// How a follower of drafts finds out that it hears nothing because the server is gone, and how long the server
// keeps its consumer when it is the follower that is gone.
const (
	followPulse = time.Second
	forgetAfter = 30 * time.Second
)

// FollowDrafts gives each draft of a request to take, those that are kept and those that come, until ctx ends
// or take returns an error, which is returned. It begins behind the sequence after; 0: with the first that is
// kept. One that the stream has not reached is of a stream that was lost: all are given then. What was given
// before a reconnect may be given again.
func (c *Conn) FollowDrafts(ctx context.Context, task, id string, after uint64, take func(StoredDraft) error) error {
	subject := DeltaSubject(task, id)
	failed := func(err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("follow %s: %w", subject, err)
	}
	stream, err := c.JS.Stream(ctx, DeltasStream)
	if err != nil {
		return failed(err)
	}
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}, InactiveThreshold: forgetAfter}
	if after > 0 && after <= stream.CachedInfo().State.LastSeq {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	}
	consumer, err := stream.OrderedConsumer(ctx, cfg)
	if err != nil {
		return failed(err)
	}
	messages, err := consumer.Messages(jetstream.PullHeartbeat(followPulse), jetstream.PullExpiry(10*followPulse), jetstream.PullMaxMessages(64))
	if err != nil {
		return failed(err)
	}
	defer c.forget(ctx, stream, consumer)
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		m, err := messages.Next()
		switch {
		case err == nil:
		case ctx.Err() == nil && errors.Is(err, jetstream.ErrNoHeartbeat):
			continue // the consumer is being made anew
		default:
			return failed(err)
		}
		if err := giveDraft(m, take); err != nil {
			return err
		}
	}
}

// forget removes the consumer of a follower that leaves; if that fails the server does, after a while.
func (c *Conn) forget(ctx context.Context, stream jetstream.Stream, consumer jetstream.Consumer) {
	if info := consumer.CachedInfo(); info != nil && c.NC.IsConnected() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = stream.DeleteConsumer(ctx, info.Name)
	}
}

// giveDraft passes what is no draft over.
func giveDraft(m jetstream.Msg, take func(StoredDraft) error) error {
	at, err := m.Metadata()
	if err != nil {
		return err
	}
	d := StoredDraft{Stored: Stored{Subject: m.Subject(), Sequence: at.Sequence.Stream, At: at.Timestamp, Data: m.Data()}, Behind: at.NumPending}
	if isDraft := json.Unmarshal(m.Data(), &d.Draft) == nil; isDraft {
		return take(d)
	}
	return nil
}

// refusedDrafts counts the drafts that the server did not let this user publish.
type refusedDrafts struct{ n atomic.Uint64 }

// note counts err if it says so, and logs the first: a server says it of every message.
func (r *refusedDrafts) note(log *zerolog.Logger, err error) bool {
	text := err.Error()
	if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(strings.ToLower(text), `publish to "`+deltasStart) {
		return false
	}
	if r.n.Add(1) == 1 {
		log.Error().Err(err).Msg("NATS does not let this user publish drafts (allow it to publish on " + AllDeltas + "); requests with \"stream\" are answered without")
	}
	return true
}

// RefusedDrafts is how many drafts the server has refused on this connection.
func (c *Conn) RefusedDrafts() uint64 { return c.refused.n.Load() }
