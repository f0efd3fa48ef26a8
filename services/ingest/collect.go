package ingest

import (
	"context"
	"math/rand/v2"
	"time"

	"spillway/pkg/bundle"
)

// Versions of tasks that nothing names any more are looked for every collectEvery, by each process of ingest at a moment
// of its own; collectFor bounds one look.
const (
	collectEvery = time.Hour
	collectFor   = 10 * time.Minute
)

// collectVersions collects until ctx ends.
func (in *ingest) collectVersions(ctx context.Context) {
	c := bundle.NewCollector(bundle.NewStore(in.conn))
	next := time.NewTimer(time.Minute + rand.N(collectEvery))
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
		in.collectOnce(ctx, c)
		next.Reset(collectEvery)
	}
}

func (in *ingest) collectOnce(ctx context.Context, c *bundle.Collector) {
	ctx, cancel := context.WithTimeout(ctx, collectFor)
	defer cancel()
	gone, err := c.Collect(ctx, time.Now())
	for _, n := range gone {
		in.log.Info().Str("task", n.Task).Str("version", n.Version).Msg("a version of a task is not kept any more: no job, result or dead letter names it")
	}
	if err != nil && ctx.Err() == nil {
		in.log.Warn().Err(err).Msg("old versions of tasks are not collected, trying again in an hour")
	}
}
