package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// publishTimeout bounds the wait for one PubAck: it is longer than an election.
const publishTimeout = 30 * time.Second

// markerTimeout bounds the look for an id's marker. Who may not read markers gets no answer at all.
const markerTimeout = time.Second

// dedupePause is longer than the window in which JetStream itself swallows an id that it knows.
const dedupePause = 150 * time.Millisecond

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
		return badf("not a request like {\"input\": …}, with texts for id, lane and session: %w", err)
	}
	q.session = told.Session
	if told.Lane == job.Batch || told.Lane == job.Interactive {
		q.lane = told.Lane
	}
	if told.ID == nil {
		return nil
	}
	if !job.IsID(*told.ID) {
		return badf("not a request: its id must match [A-Za-z0-9_-]{1,64}")
	}
	if q.id != "" && q.id != *told.ID {
		return badf("not this request: --id and the body's id differ")
	}
	q.id, q.own = *told.ID, true
	return nil
}

// wrap makes a whole request the body. A line's number becomes its metadata.
func (q *request) wrap(whole job.Request) error {
	if q.line > 0 {
		whole.Metadata = fmt.Appendf(nil, `{"line":%d}`, q.line)
	}
	// The body of another client must be the same for the same input: < stays <.
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(whole); err != nil {
		return badf("no request can be made of it: %w", err)
	}
	q.body = bytes.TrimSpace(body.Bytes())
	return nil
}

// sender publishes requests; their results arrive at its collector.
type sender struct {
	conn    *broker.Conn
	results *collector // nil: nobody waits
}

func newSender(conn *broker.Conn) *sender { return &sender{conn: conn} }

// send publishes one request and returns once it is acknowledged. Of an id that was used before it waits
// for ingest's word whether this is a duplicate, whose result is then awaited, or a conflict.
func (s *sender) send(ctx context.Context, q request) error {
	if s.results == nil {
		_, err := s.publish(ctx, q)
		return err
	}
	if q.own {
		if used := s.isUsed(ctx, q.id); used != unused {
			return s.resend(ctx, q, used)
		}
	}
	s.results.expect(awaited{id: q.id, task: q.task, run: 1, line: q.line})
	swallowed, err := s.publish(ctx, q)
	if err != nil || swallowed {
		s.results.forget(q.id)
	}
	switch {
	case err != nil:
		return err
	case swallowed:
		return s.resend(ctx, q, used)
	}
	s.results.begin(q.id, false)
	return nil
}

// usage is what is known of an id before its request is published.
type usage int

const (
	unused usage = iota
	used
	// untold: an application may not be allowed to read markers.
	untold
)

func (s *sender) isUsed(ctx context.Context, id string) usage {
	ctx, cancel := context.WithTimeout(ctx, markerTimeout)
	defer cancel()
	switch _, _, err := s.conn.Marker(ctx, id); {
	case err == nil:
		return used
	case isNotFound(err):
		return unused
	}
	return untold
}

// publish stores a request. swallowed: JetStream took one with this id a moment ago, and ingest will not
// see the new one.
func (s *sender) publish(ctx context.Context, q request) (swallowed bool, err error) {
	ack, err := s.conn.Publish(ctx, &nats.Msg{
		Subject: broker.RequestSubject(q.lane, q.task), Data: q.body, Header: nats.Header{broker.MsgIDHeader: {q.id}},
	})
	switch {
	case err == nil:
		return ack.Duplicate && q.own, nil
	case errors.Is(err, broker.ErrTooLarge):
		return false, badf("larger than the server takes: it has %s, a request has at most %s", size(len(q.body)), size(job.MaxRequestBytes))
	case errors.Is(err, context.DeadlineExceeded):
		return false, fmt.Errorf("the request was not acknowledged within %s: JetStream does not answer; is its disk full? (`spillway broker check`)", publishTimeout)
	}
	return false, fmt.Errorf("the request was not acknowledged: %w", err)
}

// resend publishes a request under an id that was, or may have been, admitted before. A stored result must
// not be taken before ingest has said that the body is the same.
func (s *sender) resend(ctx context.Context, q request, before usage) error {
	events := make(chan *nats.Msg, 64)
	sub, err := s.conn.NC.ChanSubscribe(broker.ProgressSubject(q.task, q.id), events)
	if err != nil {
		return fmt.Errorf("subscribe to the progress of %s: %w", q.id, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := flush(ctx, s.conn); err != nil {
		return fmt.Errorf("subscribe to the progress of %s: %w", q.id, err)
	}
	for swallowed := true; swallowed; {
		if swallowed, err = s.publish(ctx, q); err != nil {
			return err
		}
		if swallowed && sleep(ctx, dedupePause) != nil {
			break
		}
	}
	return s.verdict(ctx, q, before, events)
}

// verdict waits for ingest's word: a duplicate, a conflict, or of an id whose past is untold the hop of a
// new job.
func (s *sender) verdict(ctx context.Context, q request, before usage, events <-chan *nats.Msg) error {
	for {
		select {
		case m := <-events:
			var p stage.Progress
			if json.Unmarshal(m.Data, &p) != nil {
				continue
			}
			switch {
			case p.Event == "id_conflict":
				return fmt.Errorf("%s: %s", fate.IDConflict, p.Message)
			case p.Event == "duplicate", before == untold && p.Stage == broker.Ingest:
				s.results.expect(awaited{id: q.id, task: q.task, run: 1, line: q.line})
				s.results.begin(q.id, true)
				return nil
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s is acknowledged, but ingest does not say whether its id was used before with another body (`spillway broker check`)", q.id)
			}
			return ctx.Err()
		}
	}
}
