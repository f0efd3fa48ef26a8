package breaker

import (
	"context"
	"crypto/rand"
	"time"
)

// patience is how long an Enter waits for the broker before it answers from what this process knows.
const patience = 2 * time.Second

// rounds bounds how often an Enter looks again after it lost a probe to another one.
const rounds = 8

// Enter asks whether a call to the model may be made now. The error is an *OpenError, the cause of ctx, or
// what the broker said to a probe that it did not let begin. A model that New was not told of passes.
//
// While both circuits are closed it costs neither a request nor a lock.
func (b *Breakers) Enter(ctx context.Context, name string) (*Pass, error) {
	m := b.models[name]
	if m == nil {
		return &Pass{}, nil
	}
	generation := b.link.generation.Load()
	p, v := m.circuits[provider].view.Load(), m.circuits[model].view.Load()
	if p.isClear(generation) && v.isClear(generation) {
		return &Pass{b: b, m: m, revisions: [places]uint64{p.revision, v.revision}}, nil
	}
	for range rounds {
		pass, again, err := b.enter(ctx, m)
		if !again {
			return pass, err
		}
	}
	return nil, b.crowded(m)
}

// crowded is what a call hears that lost each probe to another one.
func (b *Breakers) crowded(m *member) *OpenError {
	for _, c := range m.circuits {
		if _, open := c.gate(c.view.Load(), b.now(), false); open != nil {
			return open
		}
	}
	return &OpenError{Circuit: m.circuits[model].Circuit, State: HalfOpen, Until: b.now().Add(lookAgain)}
}

func (v *view) isClear(generation uint64) bool {
	return v.asked == generation && v.State == Closed && v.owed == nil
}

// enter looks once. again: a probe was due, and somebody else was faster.
func (b *Breakers) enter(ctx context.Context, m *member) (pass *Pass, again bool, err error) {
	if err := b.refresh(ctx, m); err != nil {
		return nil, false, err
	}
	now, connected := b.now(), b.link.up.Load()
	pass = &Pass{b: b, m: m, started: now}
	var views [places]*view
	for place, c := range m.circuits {
		v := c.view.Load()
		due, open := c.gate(v, now, connected)
		if open != nil {
			return nil, false, open
		}
		views[place], pass.revisions[place], pass.probes[place] = v, v.revision, due
	}
	if !pass.Probe() {
		return pass, false, nil
	}
	won, err := b.take(ctx, pass, views)
	if err != nil || !won {
		return nil, err == nil, err
	}
	return pass, false, nil
}

// take makes the pass the probe of all circuits that are due, or of none.
func (b *Breakers) take(ctx context.Context, p *Pass, views [places]*view) (bool, error) {
	p.token = b.replica + "/" + rand.Text()
	for place, c := range p.m.circuits {
		if !p.probes[place] {
			continue
		}
		won, err := b.takeOne(ctx, p, c, views[place])
		if won {
			continue
		}
		for before := range place {
			if p.probes[before] {
				b.release(ctx, p.m.circuits[before], p, 0)
			}
		}
		return false, err
	}
	return true, nil
}

func (b *Breakers) takeOne(ctx context.Context, p *Pass, c *circuit, v *view) (bool, error) {
	lease := p.started.Add(p.m.lease())
	if !c.taking.CompareAndSwap(false, true) {
		// Another call of this process is at it: a thousand that wait need not all ask the broker.
		return false, &OpenError{Circuit: c.Circuit, State: HalfOpen, Until: lease, Why: v.Why, Since: v.Since}
	}
	defer c.taking.Store(false)
	try, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	won, err := b.write(try, c, v, v.probed(p.started, lease, p.token, b.replica), p.started)
	if err != nil {
		b.release(ctx, c, p, v.revision) // it may have been stored all the same
		return false, b.notTaken(ctx, c, err)
	}
	return won, nil
}

// notTaken says what the caller of a probe hears that could not be written.
func (b *Breakers) notTaken(ctx context.Context, c *circuit, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.log.Warn().Err(err).Str("kind", c.Kind).Str("name", c.Name).Msg("the probe of a breaker could not begin")
	v := c.view.Load()
	return &OpenError{Circuit: c.Circuit, State: v.state(), Until: b.now().Add(lookAgain), Why: v.Why, Since: v.Since}
}

// release gives a probe back for which no call was made: the next may begin at once. revision is that of
// the record before it, if nobody knows whether the probe was stored; a record written over that one keeps
// the late probe from being stored.
func (b *Breakers) release(ctx context.Context, c *circuit, p *Pass, revision uint64) {
	b.conclude(context.WithoutCancel(ctx), c, &change{next: func(from Record, at uint64, now time.Time) (Record, bool) {
		unstored := revision != 0 && at == revision
		return from.givenBack(now, p.started, b.replica), unstored || from.State == HalfOpen && from.Prober == p.token
	}})
}

// Look is what Enter would say, as far as this process knows.
type Look struct {
	// Ready: calls pass. ProbeDue: one of all replicas' calls would pass. Neither: Open says why.
	Ready, ProbeDue bool
	// Until is when to look again; zero for Ready and ProbeDue.
	Until time.Time
	Open  *OpenError
}

// Look asks nobody and changes nothing.
func (b *Breakers) Look(name string) Look {
	m := b.models[name]
	if m == nil {
		return Look{Ready: true}
	}
	now, connected := b.now(), b.link.up.Load()
	var anyDue bool
	for _, c := range m.circuits {
		due, open := c.gate(c.view.Load(), now, connected)
		if open != nil {
			return Look{Until: open.Until, Open: open}
		}
		anyDue = anyDue || due
	}
	return Look{Ready: !anyDue, ProbeDue: anyDue}
}
