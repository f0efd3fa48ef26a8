package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// replayed is a question that was asked a second time.
type replayed struct {
	*question
	at time.Time
	// run is the new one.
	run int
}

// replay orders a new run of each job that ended without a live answer and has a dead letter, and waits for
// the results.
func (d *drill) replay(ctx context.Context) error {
	began := time.Now()
	defer func() { d.replaying = time.Since(began) }()
	owed := d.owed()
	for n, q := range owed {
		if err := sleepUntil(ctx, began.Add(time.Duration(float64(n)/d.ReplayRate*float64(time.Second)))); err != nil {
			return err
		}
		if err := d.order(ctx, q); err != nil {
			return err
		}
		d.Progress("replays", n+1, len(owed))
	}
	return d.settleReplays(ctx)
}

// settleReplays waits for the results of what was ordered, as settle does for the requests.
func (d *drill) settleReplays(ctx context.Context) error {
	if len(d.replayed) == 0 {
		return nil
	}
	var again []*question
	for _, r := range d.replayed {
		again = append(again, r.question)
	}
	last := d.replayed[len(d.replayed)-1].at
	err := d.ear.await(ctx, again, 2, last.Add(d.task.Deadline.Default+margin), func(n int) { d.Progress("results of the replays", n, len(again)) })
	if err != nil {
		return err
	}
	return d.read(ctx, again, 2)
}

// owed are the requests that were not answered as they should be.
func (d *drill) owed() []*question {
	var all []*question
	for _, q := range d.questions {
		ends := d.ear.of(q)
		if len(ends) > 0 && (ends[0].status == job.Degraded || ends[0].status == job.Failed) {
			all = append(all, q)
		}
	}
	return all
}

// order asks for a new run of a dead job: nobody's but the drill's.
func (d *drill) order(ctx context.Context, q *question) error {
	letter, _, err := d.Conn.Dead(ctx, q.id)
	switch {
	case errors.Is(err, broker.ErrNotFound):
		d.unkept++
		return nil
	case err != nil:
		return fmt.Errorf("replay %s: %w", q.id, err)
	case letter.Job == nil:
		d.unkept++
		return nil
	}
	run := letter.Job.Run + 1
	// The message id makes the order one, however often the broker has to be told.
	m := &nats.Msg{Subject: broker.ReplaySubject(q.id), Header: nats.Header{broker.MsgIDHeader: {fmt.Sprintf("%s-replay-%d", q.id, run)}}}
	if _, err := d.Conn.Publish(ctx, m); err != nil {
		return fmt.Errorf("replay %s: %w", q.id, err)
	}
	d.replayed = append(d.replayed, &replayed{q, time.Now(), run})
	return nil
}
