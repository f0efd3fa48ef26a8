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
	"github.com/oklog/ulid/v2"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
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

// submit checks a request, publishes it, and answers once JetStream has it.
func (in *ingest) submit(ctx context.Context, m *nats.Msg) job.Receipt {
	name := broker.Token(m.Subject, 2)
	t := in.tasks.Tasks[name]
	lane := job.Interactive
	if t != nil {
		lane = t.Lane
	}
	var asked struct {
		Lane string `json:"lane"`
	}
	if json.Unmarshal(m.Data, &asked) == nil && (asked.Lane == job.Batch || asked.Lane == job.Interactive) {
		lane = asked.Lane
	}
	r := read(m.Data, m.Header.Get(broker.MsgIDHeader), name, lane, t)
	if rejection := r.rejection(); rejection != nil {
		return job.Receipt{ID: r.id, Error: &job.Failure{
			Code: rejection.Code, Message: rejection.Message, Pointer: r.reasons[0].Pointer, Reasons: r.reasons,
		}}
	}
	id := r.id
	if id == "" {
		id = ulid.Make().String()
	}
	if reply, known := in.knownBefore(ctx, id, name, m.Data); known {
		return reply
	}
	msg := &nats.Msg{Subject: broker.RequestSubject(lane, name), Data: m.Data, Header: nats.Header{broker.MsgIDHeader: {id}}}
	if trace := m.Header.Get(broker.TraceParentHeader); trace != "" {
		msg.Header.Set(broker.TraceParentHeader, trace)
	}
	if err := in.conn.PublishRequest(ctx, msg); err != nil {
		return job.Receipt{ID: id, Error: &job.Failure{Code: fate.Internal, Message: "not acknowledged: " + unavailable(err)}}
	}
	return job.Receipt{ID: id, Status: "acknowledged", ResultSubject: broker.ResultSubject(name, id)}
}

func unavailable(err error) string {
	if errors.Is(err, broker.ErrFull) {
		return "too many requests wait for admission; try again later"
	}
	return "JetStream does not answer (is its disk full?); try again later"
}

// knownBefore answers for an id that was admitted already.
func (in *ingest) knownBefore(ctx context.Context, id, name string, body []byte) (job.Receipt, bool) {
	held, _, err := in.conn.Marker(ctx, id)
	if err != nil {
		return job.Receipt{}, false // not admitted, as far as is known; ingest decides when it reads the request
	}
	if held.BodyHash != hashBody(name, body) {
		return job.Receipt{ID: id, Error: &job.Failure{
			Code: fate.IDConflict, Message: "this id was admitted before with another body; use a new id", Pointer: "/id",
		}}, true
	}
	return job.Receipt{ID: id, Status: "duplicate", ResultSubject: broker.ResultSubject(held.Task, id)}, true
}

// cancel ends a run from outside: the cancelled result competes with the run's own, the first write
// decides. Then the id is marked, so that no more work is spent on it.
func (in *ingest) cancel(ctx context.Context, m *nats.Msg) job.Receipt {
	id := broker.Token(m.Subject, 2)
	held, _, err := in.conn.Marker(ctx, id)
	if errors.Is(err, broker.ErrNotFound) {
		return job.Receipt{ID: id, Error: &job.Failure{Code: fate.NotFound, Message: "nothing is known of this id; a request that was only just published is known once ingest has read it"}}
	}
	if err != nil {
		return job.Receipt{ID: id, Error: &job.Failure{Code: fate.Internal, Message: unavailable(err)}}
	}
	subject := broker.ResultSubject(held.Task, id)
	if r, _, err := in.conn.Result(ctx, held.Task, id); err == nil && r.Run >= held.Run {
		return job.Receipt{ID: id, Status: string(r.Status), ResultSubject: subject}
	}
	j := held.Job()
	j.Outcome = &job.Outcome{Status: job.Cancelled}
	if err := stage.HandIn(ctx, in.conn, j, ".cancel"); err != nil {
		return job.Receipt{ID: id, Error: &job.Failure{Code: fate.Internal, Message: unavailable(err)}}
	}
	if err := in.conn.Cancel(ctx, id, held.Run); err != nil {
		in.log.Warn().Err(err).Str("job", id).Msg("cancelled, but calls under way were not told")
	}
	return job.Receipt{ID: id, Status: "cancelling", ResultSubject: subject}
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
