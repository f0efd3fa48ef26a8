package inference

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// Inboxes are where jobs wait for a model: one for each model and lane. A job is called from there, and never
// moved back.
func (h *Handler) Inboxes() []stage.Inbox {
	if h.breakers == nil {
		return nil
	}
	var inboxes []stage.Inbox
	models := append(slices.Collect(maps.Keys(h.models)), h.forsaken()...)
	slices.Sort(models)
	for _, model := range models {
		for _, in := range lanes() {
			p := &parked{h: h, model: model, lane: in.lane}
			h.parked[parkedKey{in.lane, model}] = p
			inboxes = append(inboxes, stage.Inbox{
				Stream: broker.ParkedStream, Subject: broker.ParkedSubject(in.lane, model), Consumer: broker.ParkedConsumer(in.lane, model),
				Slots: in.slots, HeldBytes: parkedBytes,
				Gate: func(*stage.Env) stage.Gate { return p },
			})
		}
	}
	return inboxes
}

// sweep is how many parked jobs are looked at at once while their model's breaker is open.
const sweep = 256

// forsakenTimeout bounds the look for parked jobs at the start.
const forsakenTimeout = 10 * time.Second

// forsaken names the models that are in models.yaml no more and have jobs that wait for them: these go to
// the ladder, instead of being counted as unfinished for ever.
func (h *Handler) forsaken() []string {
	ctx, cancel := context.WithTimeout(context.Background(), forsakenTimeout)
	defer cancel()
	subjects, err := h.conn.SubjectsOf(ctx, broker.ParkedStream, broker.AllParked)
	if err != nil {
		h.log.Warn().Err(err).Msg("parked jobs not looked at: those of models that are gone wait for the next start")
		return nil
	}
	var names []string
	for _, subject := range subjects {
		name := broker.Token(subject, 3)
		if h.models[name] == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

type parkedKey struct{ lane, model string }

// parked holds the jobs of a lane back that wait for a model. It is the gate of their inbox:
//
//	breaker closed      as many as the limits have room for, so that few wait in this process
//	open                some at a time: each is looked at once and handed back until the breaker's time
//	                    is over, or goes to the ladder when its own is
//	that time is over   one, which probes
//	half open           none
type parked struct {
	h           *Handler
	lane, model string
	// calling counts those whose call is under way.
	calling atomic.Int64
}

var _ stage.Gate = (*parked)(nil)

// Open grants at most n jobs beside the out that are held or asked for.
func (p *parked) Open(n, out int) int {
	look := p.h.breakers.Look(p.model)
	switch {
	case look.ProbeDue:
		return min(n, 1)
	case look.Open != nil && look.Open.State == breaker.HalfOpen:
		return 0
	}
	idle := out - int(p.calling.Load())
	if look.Open != nil {
		return max(0, min(n, sweep-idle))
	}
	room := p.h.limits.Room(p.model, p.lane) + p.h.limits.Waiting(p.model, p.lane)
	return max(0, min(n, room-idle))
}

// Returned takes nothing back: the next grant looks at what is held anew.
func (p *parked) Returned(int) {}

// call counts the call of a parked job while it lasts.
func (h *Handler) callsParked(j *job.Job) (done func()) {
	if j.Arrival.Stream != broker.ParkedStream {
		return func() {}
	}
	p := h.parked[parkedKey{j.Lane, j.Model}]
	if p == nil {
		return func() {}
	}
	p.calling.Add(1)
	return func() { p.calling.Add(-1) }
}
