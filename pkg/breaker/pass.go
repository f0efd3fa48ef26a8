package breaker

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"
)

// Result is what a call says of the health of its provider.
type Result int

const (
	// NoVerdict is for a call that was cancelled, drained or never sent, or at fault itself.
	NoVerdict Result = iota
	// Worked is for a call that the provider answered.
	Worked
	// Failed is for a call that counts against the model.
	Failed
)

// Opens is what a failure opens at once, without counting.
type Opens int

const (
	// OpensNothing is for a failure that is one of many.
	OpensNothing Opens = iota
	// OpensModel is for a model that the provider does not have.
	OpensModel
	// OpensProvider is for a key or a bill: no call to the provider can work.
	OpensProvider
)

// Verdict is what came of a call.
type Verdict struct {
	Result Result
	// Opens is looked at for Failed only.
	Opens Opens
	// Reached says of a failed call that the provider answered it, if only with an error of the model: a
	// provider that is probed works then, unless it refuses the account (OpensProvider).
	Reached bool
	// Why is shown to operators and clients.
	Why string
}

// The places of a call's circuits. The provider's comes first: its probe answers for all of its models.
const (
	provider = iota
	model
	places
)

// Pass is the permission for one call.
type Pass struct {
	b *Breakers
	m *member
	// revisions are those of the records under which the call began: its verdict counts for no later one.
	revisions [places]uint64
	probes    [places]bool
	token     string
	started   time.Time
	done      atomic.Bool
}

// Probe reports whether the call decides if a circuit closes.
func (p *Pass) Probe() bool { return p != nil && (p.probes[provider] || p.probes[model]) }

// Done says what came of the call. It must be called, and counts once. Of a probe it is stored before Done
// returns, or by Run when that fails; a probe that is not stored keeps the circuit half open until its lease ends.
func (p *Pass) Done(v Verdict) {
	if p == nil || p.m == nil || p.done.Swap(true) {
		return
	}
	for place, c := range p.m.circuits {
		if p.probes[place] {
			if place == provider && v.Result == Failed && v.Reached && v.Opens != OpensProvider {
				p.judge(c, Verdict{Result: Worked})
				continue
			}
			p.judge(c, v)
			continue
		}
		p.vote(place, c, v)
	}
}

// judge ends the probe of a circuit.
func (p *Pass) judge(c *circuit, v Verdict) {
	s, by := p.m.Settings, p.b.replica
	p.b.conclude(context.Background(), c, &change{next: func(from Record, _ uint64, now time.Time) (Record, bool) {
		if from.State != HalfOpen || from.Prober != p.token {
			return from, false // the lease was lost, or somebody decided by hand
		}
		switch v.Result {
		case Worked:
			return from.passed(now, s.Probes, by), true
		case Failed:
			return from.opened(now, now.Add(s.HalfOpenAfter), cmp.Or(v.Why, from.Why), by), true
		}
		return from.givenBack(now, p.started.Add(s.HalfOpenAfter), by), true
	}})
}

// vote counts the call where it was no probe. What it opens is open here at once, and stored by Run.
func (p *Pass) vote(place int, c *circuit, v Verdict) {
	atOnce := v.Result == Failed && (place == provider && v.Opens == OpensProvider || place == model && v.Opens == OpensModel)
	counts := place == model && (v.Result == Worked || v.Result == Failed && v.Opens == OpensNothing)
	if !atOnce && !counts {
		return
	}
	if p.count(c, p.revisions[place], v, atOnce) {
		p.b.kick()
	}
}

// count reports whether the vote opened the circuit.
func (p *Pass) count(c *circuit, revision uint64, v Verdict, atOnce bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.view.Load()
	if known.revision != revision || known.owed != nil {
		return false
	}
	why := cmp.Or(v.Why, "a call failed")
	switch {
	case atOnce:
	case v.Result == Worked:
		why = c.votes.worked()
	default:
		why = c.votes.failed(v.Why)
	}
	if why == "" {
		return false
	}
	now := p.b.now()
	until, by := now.Add(p.m.Settings.HalfOpenAfter), p.b.replica
	opened := *known
	opened.owed = &change{
		opens: true, at: now, until: until, why: why,
		next: func(from Record, at uint64, now time.Time) (Record, bool) {
			return from.opened(now, until, why, by), at == revision
		},
	}
	c.replace(&opened)
	return true
}
