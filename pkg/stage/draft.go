package stage

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	json "github.com/go-json-experiment/json/v1"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/metric"
)

// PublishDraft tells a draft to whoever listens. It may be lost: nothing depends on its arrival.
func PublishDraft(c *broker.Conn, d job.Draft) {
	_ = publishDraft(c, &d)
}

func publishDraft(c *broker.Conn, d *job.Draft) error {
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode a draft: %w", err)
	}
	return c.NC.PublishMsg(&nats.Msg{
		Subject: broker.DeltaSubject(d.Task, d.ID), Data: body, Header: broker.Belonging(nil, d.Tenant, d.Session),
	})
}

// The bounds of an Outbox. Of the places some are kept for what takes drafts back.
const (
	outboxPlaces = 4096
	outboxParts  = outboxPlaces * 3 / 4
	outboxBytes  = 16 << 20
	// outboxPause is the time between two tries while the connection is away.
	outboxPause = 100 * time.Millisecond
)

// Outbox publishes drafts beside the calls that they come from, in their order: a broker that is slow or away
// holds no call up. What finds no room is refused, and its owner may offer more of it later.
type Outbox struct {
	conn  *broker.Conn
	queue chan job.Draft
	bytes atomic.Int64
	lost  *prometheus.CounterVec
	told  uint64 // how many refusals by the server are counted in lost
}

// Why drafts are lost.
const (
	draftFull    = "full"
	draftRefused = "refused"
	draftFailed  = "failed"
)

// NewOutbox makes one. Two of one process count together.
func NewOutbox(c *broker.Conn, r prometheus.Registerer) (*Outbox, error) {
	o := &Outbox{conn: c, queue: make(chan job.Draft, outboxPlaces), lost: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_drafts_lost_total",
		Help: "Drafts that were not published: full (offered again later, with more in them), refused by the server, failed. Results do not depend on them.",
	}, []string{"reason"})}
	if err := metric.Register(r, &o.lost); err != nil {
		return nil, fmt.Errorf("registering the metrics of drafts: %w", err)
	}
	return o, nil
}

// Offer takes a draft, if there is room, and never waits.
func (o *Outbox) Offer(d job.Draft) bool {
	size := int64(len(d.Text) + len(d.Partial))
	if d.Event != job.DraftPart || len(o.queue) < outboxParts && o.bytes.Load()+size <= outboxBytes {
		select {
		case o.queue <- d:
			o.bytes.Add(size)
			return true
		default:
		}
	}
	o.lost.WithLabelValues(draftFull).Inc()
	return false
}

// Run publishes until ctx ends, and then what is left, if it can be published at once.
func (o *Outbox) Run(ctx context.Context) error {
	for {
		select {
		case d := <-o.queue:
			o.publish(ctx, &d)
			continue
		default:
		}
		select {
		case d := <-o.queue:
			o.publish(ctx, &d)
		case <-ctx.Done():
			return nil
		}
	}
}

// publish waits for a connection that is away.
func (o *Outbox) publish(ctx context.Context, d *job.Draft) {
	defer o.bytes.Add(-int64(len(d.Text) + len(d.Partial)))
	for {
		err := publishDraft(o.conn, d)
		switch {
		case err == nil:
			o.count()
			return
		case !broker.IsAway(err) || wait(ctx, outboxPause) != nil:
			o.lost.WithLabelValues(draftFailed).Inc()
			return
		}
	}
}

// count adds what the server refused meanwhile: it says so later.
func (o *Outbox) count() {
	if n := o.conn.RefusedDrafts(); n > o.told {
		o.lost.WithLabelValues(draftRefused).Add(float64(n - o.told))
		o.told = n
	}
}
