package ingest

import (
	"context"
	"errors"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// deskTakes is after which time a request of a desk has its marker as a rule. A younger one may not: then it costs less
// to try to take it than to look first.
const deskTakes = 50 * time.Millisecond

// marked returns the marker that a desk took for the very request that arrived; nil: whether there is one is found out by
// trying to take it. The header is a hint alone: whoever sent it, what is stored decides.
func (in *ingest) marked(ctx context.Context, id string, a *job.Arrival) (*job.Marker, error) {
	if a.Header[broker.DeskHeader] == "" || in.desk.clock.read(ctx).Sub(a.At) < deskTakes {
		return nil, nil
	}
	held, _, err := in.conn.Marker(ctx, id)
	if errors.Is(err, broker.ErrNotFound) || err == nil && !isOf(held, a) {
		return nil, nil
	}
	return held, err
}

// isOf reports whether a marker was taken for the message that arrived.
func isOf(m *job.Marker, a *job.Arrival) bool {
	return m.RequestSeq == a.Sequence && m.RequestStream == a.Stream
}
