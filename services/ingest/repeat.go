package ingest

import (
	"context"
	"errors"
	"fmt"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// repeated deals with a request whose id another request was admitted with. Nothing runs and nothing is
// written: the sender is told, on the id's progress subject.
func (in *ingest) repeated(ctx context.Context, mine, held *job.Marker) error {
	p := stage.Progress{ID: mine.ID, Task: mine.Task, Run: held.Run, Stage: broker.Ingest}
	if held.BodyHash != mine.BodyHash {
		in.m.repeated.WithLabelValues("conflict").Inc()
		in.log.Warn().Str("job", mine.ID).Str("task", mine.Task).Msg("id conflict: another body was admitted under this id")
		p.Event, p.Code, p.Message = "id_conflict", fate.IDConflict, "this id was admitted before with another body; use a new id"
		stage.Announce(in.conn, p)
		return fate.DoneElsewhere("id conflict")
	}
	in.m.repeated.WithLabelValues("duplicate").Inc()
	p.Event = "duplicate"
	r, _, err := in.conn.Result(ctx, held.Task, held.ID)
	switch {
	case err == nil:
		p.Run, p.Status, p.Result, p.Message = r.Run, r.Status, r, "admitted before; this is its result"
	case errors.Is(err, broker.ErrNotFound):
		p.Message = "admitted before; its result is on its way"
	default:
		return fmt.Errorf("read the result of %s: %w", mine.ID, err)
	}
	stage.Announce(in.conn, p)
	return fate.DoneElsewhere("duplicate")
}
