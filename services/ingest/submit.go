package ingest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// replyTimeout bounds the work for one request-reply.
const replyTimeout = 10 * time.Second

// repliesAtOnce bounds the requests that are answered in parallel; the others wait in the subscription.
const repliesAtOnce = 256

// Run answers submits and cancellations until ctx ends.
func (in *ingest) Run(ctx context.Context) error {
	room := make(chan struct{}, repliesAtOnce)
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { in.collectVersions(ctx) })
	for subject, answer := range map[string]func(context.Context, *nats.Msg) job.Receipt{
		broker.AllSubmits: in.submit, broker.AllCancels: in.cancel,
	} {
		sub, err := in.conn.NC.QueueSubscribe(subject, broker.Ingest, func(m *nats.Msg) {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			all.Go(func() {
				defer func() { <-room }()
				in.reply(ctx, m, answer)
			})
		})
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		defer func() { _ = sub.Unsubscribe() }() // the connection may be gone already
	}
	<-ctx.Done()
	return nil
}

func (in *ingest) reply(ctx context.Context, m *nats.Msg, answer func(context.Context, *nats.Msg) job.Receipt) {
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	body, err := json.Marshal(in.answer(ctx, m, answer))
	if err != nil {
		in.log.Error().Err(err).Msg("a reply cannot be encoded")
		return
	}
	if err := m.Respond(body); err != nil && !errors.Is(err, nats.ErrMsgNoReply) {
		in.log.Warn().Err(err).Msg("a reply was not sent")
	}
}

// answer keeps a panic to the message that caused it.
func (in *ingest) answer(ctx context.Context, m *nats.Msg, answer func(context.Context, *nats.Msg) job.Receipt) (r job.Receipt) {
	defer func() {
		if v := recover(); v != nil {
			in.log.Error().Str("subject", m.Subject).Str("stack", string(debug.Stack())).Msgf("answering panicked: %v", v)
			r = job.Receipt{Error: &job.Failure{Code: fate.Internal, Message: "this request cannot be handled here"}}
		}
	}()
	return answer(ctx, m)
}

// submit accepts a request.
func (in *ingest) submit(ctx context.Context, m *nats.Msg) job.Receipt {
	receipt, _ := in.desk.Submit(ctx, Submission{
		Task: broker.Token(m.Subject, 2), Body: m.Data, MsgID: m.Header.Get(broker.MsgIDHeader), TraceParent: m.Header.Get(broker.TraceParentHeader),
	})
	return receipt
}

// cancel takes up a cancellation.
func (in *ingest) cancel(ctx context.Context, m *nats.Msg) job.Receipt {
	receipt, _ := in.desk.Cancel(ctx, broker.Token(m.Subject, 2))
	return receipt
}

// traceParent keeps the client's W3C traceparent, or makes one, so that each result has a trace id.
func traceParent(given string) string {
	if job.TraceID(given) != "" {
		return given
	}
	ids := make([]byte, 24)
	_, _ = rand.Read(ids) // never fails: it ends the process instead
	return "00-" + hex.EncodeToString(ids[:16]) + "-" + hex.EncodeToString(ids[16:]) + "-01"
}
