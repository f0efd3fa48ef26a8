package drill

import (
	"context"
	"fmt"
	"time"

	"spillway/pkg/fakellm"
)

// UnreachedError says that the pipeline does not call the provider that is to misbehave.
type UnreachedError struct{ Why string }

func (e *UnreachedError) Error() string {
	return e.Why + ": the drill begins only where the pipeline's models answer at the simulated provider. " +
		"Start the pipeline with OPENAI_BASE_URL=<address of the provider>/v1 (or base_url in its models.yaml), see that no breaker is open (`spillway breaker ls`), and give the drill the same --schemas"
}

const (
	// reachTimeout is how long the first request may take to arrive at the provider.
	reachTimeout = 8 * time.Second
	lookEvery    = 20 * time.Millisecond
)

// reach sends one request and sees it arrive at the provider, as a call for the task's model with the nonce
// that the drill expects. Nothing is made to misbehave before.
func (d *drill) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, reachTimeout, &UnreachedError{
		fmt.Sprintf("a request for task %s was acknowledged, and no call of it arrived at %s within %s", d.Task, d.Provider.root, reachTimeout),
	})
	defer cancel()
	before, err := d.Provider.Counts(ctx)
	if err != nil {
		return err
	}
	if _, err := d.Conn.Publish(ctx, d.request(d.probe)); err != nil {
		return err
	}
	for {
		counts, err := d.Provider.Counts(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case counts.Nonces[d.probe.nonce] > 0:
			return d.asked(before, counts)
		}
		if err := sleepUntil(ctx, time.Now().Add(lookEvery)); err != nil {
			return err
		}
	}
}

// asked returns an UnreachedError unless the call was for the task's model, by the name that is known here.
func (d *drill) asked(before, after fakellm.Counts) error {
	id := d.Tasks.Models[d.task.Model].ID
	if after.Models[id].Calls > before.Models[id].Calls {
		return nil
	}
	return &UnreachedError{fmt.Sprintf("the first call arrived, but not for %s, which is model %s here", id, d.task.Model)}
}
