package inference

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/limit"
	"spillway/pkg/stage"
)

const (
	// shortWait is how long a job waits in its lane's inbox for a call's place; else it is parked.
	shortWait = 100 * time.Millisecond
	// taskWait is about how long a parked job waits for a place of its task before others get their turn, and
	// then stays away.
	taskWait = time.Second
	// hopeless is how soon a parked job is looked at again, at the earliest, whose turn seems to come too late.
	hopeless = 250 * time.Millisecond
)

// errLeaving ends the wait of a job in a process that leaves.
var errLeaving = errors.New("the process leaves")

// reserve takes a place within the limits of the call's model, provider and task. A job that is not parked
// waits for a moment only.
func (h *Handler) reserve(ctx context.Context, c *call) error {
	patience := shortWait
	parked := c.isParked()
	if parked {
		patience = max(c.timeLeft(time.Now())-leastTime, 0)
		if c.task.MaxInFlight > 0 {
			patience = min(patience, h.aboutTaskWait())
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if parked {
		// One that waits here is waiting in its inbox as well: a process that leaves does not stay for it.
		done := make(chan struct{})
		defer close(done)
		go func() {
			select {
			case <-h.leaving:
				cancel(errLeaving)
			case <-done:
			}
		}()
	}
	permit, err := h.limits.Take(ctx, h.ask(c), patience)
	busy, isBusy := errors.AsType[*limit.BusyError](err)
	switch {
	case err == nil:
		c.permit = permit
		return nil
	case !isBusy && errors.Is(context.Cause(ctx), errLeaving):
		return fate.ParkAgain(0, fate.ProviderRateLimited, "the process leaves while the job waits for its turn")
	case !isBusy && ctx.Err() != nil:
		return context.Cause(ctx)
	case !isBusy:
		return fmt.Errorf("taking a place for model %s: %w", c.model.Name, err)
	case c.timeLeft(time.Now()) < leastTime:
		return fate.DivertTo(fate.Deadline, "the deadline came while the job waited for its turn: "+busy.Limit, nil)
	case parked && busy.Task:
		return fate.ParkAgain(h.aboutTaskWait(), fate.ProviderRateLimited, busy.Limit)
	case parked:
		// Its turn is thought to come too late. That may prove wrong; until then others may wait in its place.
		return fate.ParkAgain(min(max(busy.Wait/4, hopeless), lookAgain), fate.ProviderRateLimited, busy.Limit)
	}
	return fate.ParkAgain(0, fate.ProviderRateLimited, busy.Limit)
}

// aboutTaskWait is half of taskWait to one and a half: if those that came together left together, nobody would
// be there for the places that become free until they are back.
func (h *Handler) aboutTaskWait() time.Duration {
	return taskWait/2 + time.Duration(h.random()*float64(taskWait))
}

func (h *Handler) ask(c *call) limit.Ask {
	a := limit.Ask{Model: c.model.Name, Provider: c.model.Provider, Task: c.job.Task, Lane: c.job.Lane}
	if h.limits.IsLimited(a) {
		a.Tokens = c.inputTokens() + h.usual.answer(c)
	}
	return a
}

func (c *call) isParked() bool { return c.job.Arrival.Stream == broker.ParkedStream }

// usual remembers how long a task's answers are, by model: what is reserved of a limit of tokens.
type usual struct {
	mu      sync.Mutex
	answers map[usualKey]float64
}

type usualKey struct{ task, model string }

const (
	// usualWeight is that of the newest answer.
	usualWeight = 0.1
	// usualFirst is expected of a task that has not answered yet and sets no limit.
	usualFirst = 500
)

func (u *usual) learn(task, model string, tokens int) {
	if tokens == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.answers == nil {
		u.answers = map[usualKey]float64{}
	}
	key := usualKey{task, model}
	known, ok := u.answers[key]
	if !ok {
		known = float64(tokens)
	}
	u.answers[key] = known + usualWeight*(float64(tokens)-known)
}

func (u *usual) answer(c *call) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if known, ok := u.answers[usualKey{c.job.Task, c.model.Name}]; ok {
		return int(known) + 1
	}
	if most := c.maxTokens(); most > 0 {
		return most
	}
	return usualFirst
}

// limitNames are the headers that providers tell their limits with: what is limited, and how the three
// figures of it are called. OpenAI and those that imitate it; Anthropic.
var limitNames = []struct{ limit, remaining string }{
	{"X-Ratelimit-Limit-", "X-Ratelimit-Remaining-"},
	{"Anthropic-Ratelimit-%s-Limit", "Anthropic-Ratelimit-%s-Remaining"},
}

// said reads what the response says of the provider's own limits. -1 and 0 mean there that it does not know.
func (c *call) said(failed *failure) limit.Said {
	var s limit.Said
	if c.header == nil || c.provider.keys.several() {
		return s // each key has its own
	}
	if c.provider.obeysLimits {
		s.RequestsLimit, s.RequestsLeft = limitOf(c.header, "Requests")
		s.TokensLimit, s.TokensLeft = limitOf(c.header, "Tokens")
	}
	if failed != nil && failed.code == fate.ProviderRateLimited {
		s.Wait, _ = c.asked(failed.code, time.Now())
	}
	return s
}

func limitOf(h http.Header, what string) (most, left int) {
	for _, names := range limitNames {
		n, ok := number(h.Get(headerOf(names.limit, what)))
		if !ok || n < 1 {
			continue
		}
		rest, ok := number(h.Get(headerOf(names.remaining, what)))
		if !ok || rest < 0 {
			rest = n
		}
		return int(min(n, maxLimit)), int(min(rest, maxLimit))
	}
	return 0, 0
}

// maxLimit bounds what a header is believed to say.
const maxLimit = 1 << 40

func headerOf(name, what string) string {
	if strings.Contains(name, "%s") {
		return strings.Replace(name, "%s", what, 1)
	}
	return name + what
}

// boundsOf are the limits of all models and providers, as pkg/limit wants them.
func boundsOf(env *stage.Env) (models, providers map[string]limit.Bounds, tasks map[string]int) {
	models, providers = map[string]limit.Bounds{}, map[string]limit.Bounds{}
	for name, m := range env.Tasks.Models {
		models[name] = m.Limits
	}
	for name, p := range env.Tasks.Providers {
		providers[name] = p.Limits
	}
	return models, providers, inFlightOf(env)
}

// batchSpread is over how long batch calls that could start at once are spread: those that start together
// end together, and what ends together holds up everything else in the process.
const batchSpread = 20 * time.Millisecond

// spread waits a moment before a batch call.
func (h *Handler) spread(ctx context.Context, c *call) error {
	if c.job.Lane != job.Batch {
		return nil
	}
	t := time.NewTimer(time.Duration(h.random() * float64(batchSpread)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
