package inference

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/limit"
	"spillway/pkg/task"
)

// halfOpenWait is how long a job waits at least while another job probes its model. It is short, for the
// gate of the parked jobs stays shut as long as that takes.
const halfOpenWait = 500 * time.Millisecond

// lookAgain is how long a job waits at most before it looks whether the breaker was closed by hand, less up to
// lookSpread of it: jobs that were parked together do not come back together.
const (
	lookAgain  = 15 * time.Second
	lookSpread = 0.5
)

// enter lets the call through the limits and the breakers of its model, or says what becomes of the job
// instead. A call that was let through is left, once.
func (h *Handler) enter(ctx context.Context, c *call) error {
	if err := h.spread(ctx, c); err != nil {
		return err
	}
	if h.breakers == nil {
		return nil
	}
	if open := h.breakers.Look(c.model.Name).Open; open != nil {
		return h.blocked(c, open)
	}
	if err := h.reserve(ctx, c); err != nil {
		return err
	}
	pass, err := h.breakers.Enter(ctx, c.model.Name)
	if err == nil {
		c.pass = pass
		return h.start(c)
	}
	c.permit.Done(limit.Used{})
	if open, ok := errors.AsType[*breaker.OpenError](err); ok {
		return h.blocked(c, open)
	}
	return fmt.Errorf("asking the breaker of model %s: %w", c.model.Name, err)
}

// start is the moment from which the call's time counts: what came before may have been a wait.
func (h *Handler) start(c *call) error {
	err := c.begin(time.Now())
	if err != nil {
		c.pass.Done(breaker.Verdict{Result: breaker.NoVerdict})
		c.permit.Done(limit.Used{})
	}
	return err
}

// leave tells breakers and limits what came of the call. given says that it was given up on this side.
func (h *Handler) leave(c *call, failed *failure, given bool) {
	if h.breakers == nil {
		return
	}
	spent := c.spent()
	c.permit.Done(limit.Used{Sent: c.sent, Tokens: spent.input + spent.output, Said: c.said(failed)})
	if given || !c.sent {
		c.pass.Done(breaker.Verdict{Result: breaker.NoVerdict})
		return
	}
	h.usual.learn(c.job.Task, c.model.Name, spent.output)
	c.pass.Done(c.ruling(failed))
}

// leaveAnyway leaves for a call that did not: its handler panicked. To be called by defer.
func (c *call) leaveAnyway() {
	if c.permit == nil {
		return // there are no limits here, nor breakers
	}
	c.pass.Done(breaker.Verdict{Result: breaker.NoVerdict}) // a second one is ignored
	c.permit.Done(limit.Used{Sent: c.sent})
}

// ruling is what the call says of its provider's health.
func (c *call) ruling(failed *failure) breaker.Verdict {
	if failed == nil {
		return breaker.Verdict{Result: breaker.Worked}
	}
	v := breaker.Verdict{Result: breaker.Failed, Why: c.cause(failed), Reached: c.status != 0}
	switch failed.blame(c) {
	case blameCall:
	case blameProvider:
		v.Opens = breaker.OpensProvider
	case blameModel:
		v.Opens = breaker.OpensModel
	case blameless:
		v.Result = breaker.Worked
	case blameNobody:
		v.Result = breaker.NoVerdict
		if c.isProbe() && (failed.code == fate.ProviderRefusedRequest || failed.code == fate.ContextTooLong) && !failed.own {
			v.Result = breaker.Worked // the provider looked at the request and found it wrong: it is well
		}
	}
	return v
}

// cause is why a call failed, for the breaker: all jobs are told, so that it holds nothing of this one's.
func (c *call) cause(f *failure) string {
	if c.status >= http.StatusMultipleChoices {
		return fmt.Sprintf("%s, HTTP status %d", f.code, c.status)
	}
	return string(f.code)
}

// blocked decides about a job whose model must not be called now, and for which nothing was done.
func (h *Handler) blocked(c *call, open *breaker.OpenError) error {
	text := refusal(open)
	if !c.mayWait() {
		return fate.DivertTo(fate.ProviderUnavailable, text, nil)
	}
	wait, err := h.waitFor(c, open)
	if err != nil {
		return err
	}
	return fate.ParkAgain(wait, fate.ProviderUnavailable, text)
}

// mayWait reports whether the job stays with its model through an outage. On the ladder nobody waits.
func (c *call) mayWait() bool {
	return c.job.Trouble == nil && c.task.OnOutage.On(c.job.Lane) == task.OutageWait
}

// waitFor is how long the job waits for its model before it is looked at again, at most until it must leave
// for the ladder.
func (h *Handler) waitFor(c *call, open *breaker.OpenError) (time.Duration, error) {
	now := time.Now()
	wait := max(open.Until.Sub(now), halfOpenWait)
	if most := time.Duration((1 - lookSpread*h.random()) * float64(lookAgain)); wait > most {
		wait = most
	}
	if open.State == breaker.HalfOpen {
		wait = halfOpenWait
	}
	left := c.timeLeft(now) - leastTime
	if left <= 0 {
		return 0, fate.DivertTo(fate.Deadline, refusal(open)+"; no time is left to wait", nil)
	}
	return min(wait, left), nil
}

// refusal says why nothing is sent to a model.
func refusal(open *breaker.OpenError) string {
	return job.Cut(open.Error(), job.MaxDetail)
}
