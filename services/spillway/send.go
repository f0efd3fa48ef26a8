package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/client"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// publishTimeout bounds the wait for one PubAck: it is longer than an election.
const publishTimeout = 30 * time.Second

// request is one request to be published.
type request struct {
	task, lane, id, session string
	// own is true for an id that the client chose: it may have been used before.
	own  bool
	line int
	body []byte
}

// readBody takes from a whole request what must be known here; ingest checks the rest.
func (q *request) readBody() error {
	var told struct {
		ID      *string `json:"id"`
		Lane    string  `json:"lane"`
		Session string  `json:"session"`
	}
	if err := json.Unmarshal(q.body, &told); err != nil {
		return fmt.Errorf("%w: it must be an object like {\"input\": …}, with texts for id, lane and session: %w", errBadLine, err)
	}
	q.session = told.Session
	if told.Lane == job.Batch || told.Lane == job.Interactive {
		q.lane = told.Lane
	}
	if told.ID == nil {
		return nil
	}
	if !job.IsID(*told.ID) {
		return fmt.Errorf("%w: its id must match [A-Za-z0-9_-]{1,64}", errBadLine)
	}
	if q.id != "" && q.id != *told.ID {
		return fmt.Errorf("%w: --id and the body's id differ", errBadLine)
	}
	q.id, q.own = *told.ID, true
	return nil
}

// sender publishes requests; their results arrive at its collector.
type sender struct {
	conn    *broker.Conn
	client  *client.Client
	results *collector // nil: nobody waits
}

func newSender(conn *broker.Conn) *sender { return &sender{conn: conn, client: client.New(conn)} }

// send publishes one request and returns once it is acknowledged. Of an id that was used before it waits
// for ingest's word whether this is a duplicate, whose result is then awaited, or a conflict.
func (s *sender) send(ctx context.Context, q request) error {
	if s.results == nil {
		return s.publish(ctx, q)
	}
	if q.own {
		_, _, err := s.conn.Marker(ctx, q.id)
		if err == nil {
			return s.resend(ctx, q)
		}
		if !errors.Is(err, broker.ErrNotFound) {
			return err
		}
	}
	s.results.expect(awaited{id: q.id, task: q.task, run: 1, line: q.line})
	if err := s.publish(ctx, q); err != nil {
		s.results.forget(q.id)
		return err
	}
	s.results.begin(q.id, false)
	return nil
}

func (s *sender) publish(ctx context.Context, q request) error {
	_, err := s.client.Publish(ctx, q.lane, q.task, q.id, q.body)
	switch {
	case errors.Is(err, broker.ErrTooLarge):
		return fmt.Errorf("%w: it has %s, a request has at most %s", errBadLine, size(len(q.body)), size(job.MaxRequestBytes))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the request was not acknowledged within %s: JetStream does not answer (`spillway broker check`)", publishTimeout)
	}
	return err
}

// resend publishes a request under an id that was admitted before. Its stored result must not be taken
// before ingest has said that the body is the same.
func (s *sender) resend(ctx context.Context, q request) error {
	events := make(chan *nats.Msg, 64)
	sub, err := s.conn.NC.ChanSubscribe(broker.ProgressSubject(q.task, q.id), events)
	if err != nil {
		return fmt.Errorf("subscribe to the progress of %s: %w", q.id, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := flush(ctx, s.conn); err != nil {
		return fmt.Errorf("subscribe to the progress of %s: %w", q.id, err)
	}
	if err := s.publish(ctx, q); err != nil {
		return err
	}
	for {
		select {
		case m := <-events:
			var p stage.Progress
			if json.Unmarshal(m.Data, &p) != nil {
				continue
			}
			switch p.Event {
			case "id_conflict":
				return fmt.Errorf("%s: %s", fate.IDConflict, p.Message)
			case "duplicate":
				s.results.expect(awaited{id: q.id, task: q.task, run: 1, line: q.line})
				s.results.begin(q.id, true)
				return nil
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s was admitted before, and ingest does not say whether with the same body (`spillway broker check`)", q.id)
			}
			return ctx.Err()
		}
	}
}
