package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/job"
)

// Admit takes the marker of m.ID for the request that m names, if no other holds it, and returns the
// marker that does. The caller compares RequestStream and RequestSeq to know whether it is its own.
//
// After any doubt (a conflict, a timeout) the marker is read back from the leader: only what is stored
// there decides.
func (c *Conn) Admit(ctx context.Context, m *job.Marker) (*job.Marker, error) {
	for n := 0; ; n++ {
		err := c.putMarker(ctx, m, 0)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
		held, _, err := c.Marker(ctx, m.ID)
		if !errors.Is(err, ErrNotFound) {
			return held, err
		}
		// A conflict without a marker: another's write was in flight and failed, or just expired.
		if pause(ctx, n) != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// Readmit replaces the marker at sequence with m, for a new run. ErrConflict: it was replaced before.
func (c *Conn) Readmit(ctx context.Context, m *job.Marker, sequence uint64) error {
	return c.putMarker(ctx, m, sequence)
}

func (c *Conn) putMarker(ctx context.Context, m *job.Marker, last uint64) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the marker of %s: %w", m.ID, err)
	}
	_, err = c.PublishExpecting(ctx, &nats.Msg{Subject: AdmittedSubject(m.ID), Data: data, Header: MarkerHeader(m)}, last)
	return err
}

// MarkerHeader says of a marker what the deadline index, the doors and who collects versions need, so that they need not
// read the rest.
func MarkerHeader(m *job.Marker) nats.Header {
	h := nats.Header{RunHeader: {strconv.Itoa(m.Run)}, AnswerByHeader: {m.AnswerBy.Format(time.RFC3339Nano)}}
	if m.TaskVersion != "" {
		h[TaskHeader], h[VersionHeader] = []string{m.Task}, []string{m.TaskVersion}
	}
	return Belonging(h, m.Tenant, m.Session)
}

// Belonging says in h, which may be nil, of which tenant and session a message is, if it is of any: the doors
// route by it. What is no label, of a request that was not checked, is left out.
func Belonging(h nats.Header, tenant, session string) nats.Header {
	for name, value := range map[string]string{TenantHeader: tenant, SessionHeader: session} {
		if !job.IsLabel(value) {
			continue
		}
		if h == nil {
			h = nats.Header{}
		}
		h[name] = []string{value}
	}
	return h
}

// AnswerBy reads it. A marker of an earlier version does not say it: false.
func AnswerBy(h map[string][]string) (run int, at time.Time, ok bool) {
	values := h[AnswerByHeader]
	if len(values) == 0 {
		return 0, time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, values[0])
	return RunOf(h), at, err == nil
}
