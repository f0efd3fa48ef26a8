package ingest

import (
	"context"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/task"
)

// Desk accepts requests and cancellations for whoever asks: NATS clients, HTTP doors.
type Desk struct {
	conn  *broker.Conn
	tasks *task.Set
	log   zerolog.Logger
}

// NewDesk makes a desk.
func NewDesk(conn *broker.Conn, tasks *task.Set, log zerolog.Logger) *Desk {
	return &Desk{conn: conn, tasks: tasks, log: log}
}

// Submission is a request as a client brings it.
type Submission struct {
	Task string
	Body []byte
	// ID binds: a body that names another is refused. "": the body's, else one is drawn.
	ID string
	// Tenant is the key's, which binds if Tenanted; else the body's label counts.
	Tenant      string
	Tenanted    bool
	TraceParent string
}

// Submit accepts a request: it returns after the PubAck and the marker.
func (d *Desk) Submit(ctx context.Context, s Submission) job.Receipt { return job.Receipt{} }

// Cancel ends a run from outside.
func (d *Desk) Cancel(ctx context.Context, id string) job.Receipt { return job.Receipt{} }
