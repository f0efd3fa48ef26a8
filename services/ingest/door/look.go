package door

import (
	"context"

	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// known is what the leader says of a job: its stored result, or its marker while it has none.
type known struct {
	marker *job.Marker
	result *broker.Stored
}

// look asks the leader for a job that the caller may see. The problem says why there is nothing: 404 (not
// known, or another tenant's), 410 (expired), 503 (JetStream does not answer).
func (d *Door) look(ctx context.Context, c *caller, id string) (*known, *Problem) {
	return nil, notFound(id)
}

// State is what is said of a job without a result.
type State struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

// state says where a job is and why it waits.
func (d *Door) state(ctx context.Context, m *job.Marker) *State { return &State{ID: m.ID} }
