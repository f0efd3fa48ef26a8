package door

import (
	"context"
	"fmt"
	"time"

	"spillway/pkg/breaker"
	"spillway/pkg/broker"
	"spillway/pkg/fate"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// explain says of a job that is with a stage what it does there.
func (d *Door) explain(ctx context.Context, s *State, m *job.Marker, p stage.Progress) {
	switch p.Fate {
	case fate.Park.String():
		d.parked(ctx, s, m, p)
	case fate.Retry.String():
		if time.Now().Before(p.NotBefore) {
			s.Status, s.PollAfterMS = Delayed, pollUntil(p.NotBefore)
			if p.Code == "" {
				s.Why = &Why{Code: WaitsForSession, Until: p.NotBefore, Message: p.Message}
				return
			}
			s.Why = &Why{
				Code: WaitsForRetry, Cause: p.Code, Model: p.Model, Until: p.NotBefore,
				Message: "the last try failed, the next one begins " + moment(p.NotBefore),
			}
			return
		}
		s.Status = Running // a copy that waits is delivered before, and handed back
	default:
		d.queued(ctx, s, inboxOf(s.Stage, m.Lane), p.Sequence)
	}
}

// parked says of a job that waits for its model why.
func (d *Door) parked(ctx context.Context, s *State, m *job.Marker, p stage.Progress) {
	s.Status, s.PollAfterMS = Parked, pollLater.Milliseconds()
	why := &Why{Cause: p.Code, Model: p.Model, Until: p.NotBefore}
	s.Why = why
	provider := d.providerOf(p.Model)
	for _, c := range []breaker.Circuit{{Kind: breaker.KindModel, Name: p.Model}, {Kind: breaker.KindProvider, Name: provider}} {
		if r := d.places.breaker(ctx, c); c.Name != "" && r.State != breaker.Closed && r.State != "" {
			why.Code, why.Until = WaitsForBreaker, r.Until
			why.Message = fmt.Sprintf("the breaker of %s is %s: %s", c, r.State, r.Why)
			break
		}
	}
	if why.Code == "" && p.Code == fate.ProviderRateLimited {
		why.Code, why.Message = WaitsForLimit, "the limits of model "+p.Model+" are used up: "+p.Message
		if until := d.places.heldUntil(ctx, p.Model, provider); until.After(why.Until) {
			why.Until = until
		}
	}
	if why.Code == "" {
		why.Code, why.Message = WaitsForRetry, "the last try failed, it waits for its turn"
	}
	if in, ok := d.places.depth(ctx, parkedOf(m.Lane, p.Model)); ok {
		why.inbox(in)
	}
	if why.Until.Before(time.Now()) {
		why.Until = time.Time{} // it waits for its turn
	} else {
		s.PollAfterMS = pollUntil(why.Until)
	}
}

func (d *Door) providerOf(model string) string {
	if m := d.o.Tasks.Live().Models[model]; m != nil {
		return m.Provider
	}
	return ""
}

// queued says of a job in an inbox, stored there under a sequence, whether it waits and for whom.
func (d *Door) queued(ctx context.Context, s *State, in inbox, sequence uint64) {
	depth, ok := d.places.depth(ctx, in)
	switch {
	case !ok:
		return
	case sequence <= depth.delivered, depth.waiting == 0:
		s.Status = Running
		return
	}
	s.Status, s.PollAfterMS = Queued, pollLater.Milliseconds()
	s.Why = d.waits(ctx, in, depth)
}

// waits says what the messages of an inbox wait for.
func (d *Door) waits(ctx context.Context, in inbox, depth depth) *Why {
	why := &Why{Code: WaitsInQueue, Message: fmt.Sprintf("%d messages wait for %s", depth.waiting, in.stage)}
	switch {
	case !depth.isForsaken():
	case in.stage == broker.Ingest && d.places.hasIngest(ctx):
		why.Code, why.Message = WaitsForRoom, "ingest takes no more for the moment: too many admitted jobs are unfinished, or it has just started"
	default:
		why.Code, why.Message = WaitsForProcess, "no process of "+in.stage+" takes jobs: is one running?"
	}
	why.inbox(depth)
	return why
}

// inbox says how much waits.
func (w *Why) inbox(d depth) {
	age := int64(0)
	if !d.oldest.IsZero() {
		age = max(time.Since(d.oldest).Milliseconds(), 0)
	}
	w.Messages, w.OldestMS, w.Pulls = &d.waiting, &age, &d.pulls
}

// guess is for a job of which nothing was heard, and that nobody holds. Of run 1 it is known whether ingest has taken
// it; where it went from there, the depth of the inboxes says.
func (d *Door) guess(ctx context.Context, s *State, m *job.Marker) {
	in := inboxOf(broker.Ingest, m.Lane)
	if depth, ok := d.places.depth(ctx, in); ok && m.Run == 1 && m.RequestSeq > depth.delivered && depth.waiting > 0 {
		s.Status, s.PollAfterMS, s.Why = Queued, pollLater.Milliseconds(), d.waits(ctx, in, depth)
		return
	}
	if time.Since(m.AcknowledgedAt) < askEvery {
		s.Status = Running
		return
	}
	s.Status, s.Stage = Running, ""
	var longest depth
	for _, name := range d.o.Stages {
		if name == broker.Ingest {
			continue
		}
		in := inboxOf(name, m.Lane)
		depth, ok := d.places.depth(ctx, in)
		if ok && depth.waiting > 0 && (longest.waiting == 0 || depth.oldest.Before(longest.oldest)) {
			longest = depth
			s.Status, s.Stage, s.PollAfterMS, s.Why = Queued, name, pollLater.Milliseconds(), d.waits(ctx, in, depth)
		}
	}
}

// pollUntil is when to ask again, in milliseconds, for what happens at a moment.
func pollUntil(t time.Time) int64 {
	return min(max(time.Until(t), pollSoon), pollMost).Milliseconds()
}

func moment(t time.Time) string { return "at " + t.UTC().Format(time.RFC3339) }
