package door

import (
	"context"
	"errors"
	"net/http"
	"time"

	json "github.com/go-json-experiment/json/v1"

	"spillway/pkg/apikey"
	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
)

// known is what the leader says of a job: its stored result, or its marker while it has none. Who follows a job is
// told both when a newer run than the result's is under way.
type known struct {
	marker *job.Marker
	result *broker.Stored
}

// run is the one of the stored result; 0: there is none.
func (k *known) run() int {
	if k.result == nil {
		return 0
	}
	return broker.RunOf(k.result.Header)
}

const (
	// lookTimeout bounds the reads for one answer.
	lookTimeout = 5 * time.Second
	// overdue is how long after its deadline a job without a result may still get one: then it is asked whether
	// results of its time are kept at all.
	overdue = time.Minute
)

// look asks the leader for a job that the caller may see. The problem says why there is nothing: 404 (not
// known, or another tenant's), 410 (expired), 503 (JetStream does not answer).
func (d *Door) look(ctx context.Context, c *caller, id string) (*known, *Problem) {
	return d.lookFor(ctx, c, id, apikey.Read)
}

// lookFor does for a caller who needs another scope.
func (d *Door) lookFor(ctx context.Context, c *caller, id string, scope apikey.Scope) (*known, *Problem) {
	if !job.IsID(id) {
		return nil, notFound(id)
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stored, err := d.o.Conn.Last(ctx, broker.ResultsStream, broker.AnyTaskResult(id))
	if err == nil {
		if !c.may(scope, id, broker.Token(stored.Subject, 2), tenantOf(c, stored)) {
			return nil, notFound(id)
		}
		return &known{result: stored}, nil
	}
	var m *job.Marker
	if errors.Is(err, broker.ErrNotFound) {
		m, _, err = d.o.Conn.Marker(ctx, id)
	}
	switch {
	case errors.Is(err, broker.ErrNotFound):
		return nil, d.buried(ctx, c, id, scope, nil)
	case err != nil:
		return nil, d.unanswered(id, err)
	case !c.may(scope, id, m.Task, m.Tenant):
		return nil, notFound(id)
	case d.hasExpired(ctx, m):
		return nil, d.buried(ctx, c, id, scope, m)
	}
	return &known{marker: m}, nil
}

// lookInTurn looks at a job when it is its turn, for the many who want to at once, and for who follows the job: of one
// with a result, the marker tells whether a replay is under way.
func (d *Door) lookInTurn(ctx context.Context, c *caller, id string) (k *known, p *Problem) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout) // for the turn to come too
	defer cancel()
	err := d.hub.reading(ctx, func(ctx context.Context) error {
		if k, p = d.look(ctx, c, id); p != nil || k.result == nil {
			return nil
		}
		m, _, err := d.o.Conn.Marker(ctx, id)
		if errors.Is(err, broker.ErrNotFound) {
			return nil
		}
		if err == nil && m.Run > k.run() {
			k.marker = m
		}
		return err
	})
	if err != nil {
		return nil, d.unanswered(id, err)
	}
	return k, p
}

// tenantOf reads whose a result is, for callers to whom that matters.
func tenantOf(c *caller, result *broker.Stored) string {
	if _, bound := c.tenant(); !bound {
		return ""
	}
	var of struct {
		Tenant string `json:"tenant"`
	}
	if json.Unmarshal(result.Data, &of) != nil {
		return "\x00" // nobody's
	}
	return of.Tenant
}

// buried is said of a job of which neither a result nor, without m, a marker is kept: a dead letter may be.
func (d *Door) buried(ctx context.Context, c *caller, id string, scope apikey.Scope, m *job.Marker) *Problem {
	letter, stored, err := d.o.Conn.Dead(ctx, id)
	switch {
	case err == nil && letter.Job != nil && c.may(scope, id, letter.Job.Task, letter.Job.Tenant):
		p := refuse(http.StatusGone, fate.Gone, "the result has expired; the job is kept as a dead letter, and `spillway dead replay` runs it again").of(id)
		p.DeadLetter = stored.Subject
		return p
	case err != nil && !errors.Is(err, broker.ErrNotFound):
		return d.unanswered(id, err)
	case m != nil:
		return refuse(http.StatusGone, fate.Gone, "the result has expired").of(id)
	}
	return notFound(id)
}

func (d *Door) unanswered(id string, err error) *Problem {
	d.log.Warn().Err(err).Str("job", id).Msg("a job could not be looked at")
	return refuse(http.StatusServiceUnavailable, fate.Unavailable, "JetStream does not answer; ask again").of(id).retryAfter(comeAgain)
}

// hasExpired reports whether a job without a result had one that is kept no more: it is long past its deadline, and
// the results of its time have been dropped.
func (d *Door) hasExpired(ctx context.Context, m *job.Marker) bool {
	if time.Since(m.Deadline) < overdue {
		return false
	}
	since, ok := d.places.resultsSince(ctx)
	if p, heard := d.hub.lastProgress(m.ID); heard && p.At.After(since) {
		return false // it is under way, late as it is
	}
	return ok && m.AcknowledgedAt.Before(since)
}
