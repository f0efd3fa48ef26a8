// Package client publishes requests and waits for their results, as any NATS client can: it uses nothing
// but the public subjects. The command line and the benchmark are built on it.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// Client talks to a pipeline. It is safe for concurrent use.
type Client struct {
	conn *broker.Conn
}

// New makes a client on a connection, which stays the caller's.
func New(conn *broker.Conn) *Client { return &Client{conn: conn} }

// Publish stores a request and returns its id once JetStream has acknowledged it: from then on it ends in
// one result. An empty id is drawn; lane is job.Interactive or job.Batch.
func (c *Client) Publish(ctx context.Context, lane, task, id string, body []byte) (string, error) {
	if id == "" {
		id = ulid.Make().String()
	}
	m := &nats.Msg{Subject: broker.RequestSubject(lane, task), Data: body, Header: nats.Header{broker.MsgIDHeader: {id}}}
	if err := c.conn.PublishRequest(ctx, m); err != nil {
		return "", fmt.Errorf("the request was not acknowledged: %w", err)
	}
	return id, nil
}

// Submit sends a request to llm.submit.<task> and returns what ingest says of it at once.
func (c *Client) Submit(ctx context.Context, task string, body []byte) (*job.Receipt, error) {
	return c.ask(ctx, broker.SubmitSubject(task), body)
}

// Cancel asks for the cancellation of id.
func (c *Client) Cancel(ctx context.Context, id string) (*job.Receipt, error) {
	return c.ask(ctx, broker.CancelSubject(id), nil)
}

func (c *Client) ask(ctx context.Context, subject string, body []byte) (*job.Receipt, error) {
	reply, err := c.conn.NC.RequestWithContext(ctx, subject, body)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("nobody answers on %s: no ingest is running", subject)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", subject, err)
	}
	receipt := &job.Receipt{}
	if err := json.Unmarshal(reply.Data, receipt); err != nil {
		return nil, fmt.Errorf("decode the answer of %s: %w", subject, err)
	}
	return receipt, nil
}

// Wait returns the result of an id as soon as a run of at least minRun has one. task may be empty.
func (c *Client) Wait(ctx context.Context, task, id string, minRun int) (*job.Result, error) {
	subject := broker.AnyTaskResult(id)
	if task != "" {
		subject = broker.ResultSubject(task, id)
	}
	// Subscribed before the look: a result that comes in between is seen by one or the other.
	sub, err := c.conn.NC.SubscribeSync(subject)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.conn.NC.FlushWithContext(ctx); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	for {
		r, _, err := c.conn.Result(ctx, task, id)
		if err == nil && r.Run >= minRun {
			return r, nil
		}
		if err != nil && !errors.Is(err, broker.ErrNotFound) {
			return nil, err
		}
		r, err = next(ctx, sub, minRun)
		if err != nil {
			return nil, fmt.Errorf("wait for the result of %s: %w", id, err)
		}
		if r != nil {
			return r, nil
		}
	}
}

// lookAgain is how often the stored result is read while it is waited for: a result that is stored in the
// middle of an election is not republished.
const lookAgain = time.Second

// next returns the next result that is published, or nil when it is time to look at the stored one.
func next(ctx context.Context, sub *nats.Subscription, minRun int) (*job.Result, error) {
	try, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(try)
		if err != nil {
			if ctx.Err() == nil && try.Err() != nil {
				return nil, nil
			}
			return nil, err
		}
		r := &job.Result{}
		if err := json.Unmarshal(m.Data, r); err != nil {
			return nil, fmt.Errorf("decode it: %w", err)
		}
		if r.Run >= minRun {
			return r, nil
		}
	}
}
