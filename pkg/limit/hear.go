package limit

import "time"

// mostSaid is more than any provider's limit: a larger number is a mistake.
const mostSaid = 1_000_000_000

// hear takes up what a response said: for the model where it has such a limit, else for the provider.
func (l *Limiter) hear(p *Permit, s Said, now time.Duration) {
	if s == (Said{}) {
		return
	}
	model, provider := l.models[p.ask.Model], l.providers[p.ask.Provider]
	for _, kind := range []int{requests, tokens} {
		limit, left := s.RequestsLimit, s.RequestsLeft
		if kind == tokens {
			limit, left = s.TokensLimit, s.TokensLeft
		}
		if limit <= 0 || limit > mostSaid {
			continue
		}
		for _, e := range []*entity{model, provider} {
			if m := e.meter(kind); m != nil {
				m.hear(limit, left)
				e.prompt = e.prompt || limit < m.bound(now)
				break
			}
		}
	}
	if s.Wait <= 0 {
		return
	}
	for _, e := range []*entity{model, provider} {
		if e != nil {
			e.heard = max(e.heard, now+min(s.Wait, l.rhythm.held))
			e.hold = max(e.hold, e.heard)
			e.prompt = true
			return
		}
	}
}

// meter is the entity's of a kind; nil: it has no such limit, or there is no entity.
func (e *entity) meter(kind int) *meter {
	switch {
	case e == nil:
		return nil
	case kind == requests:
		return e.requests
	}
	return e.tokens
}

func (m *meter) hear(limit, left int) {
	if m.said.limit == 0 || limit < m.said.limit {
		m.said.limit = limit
	}
	if left >= 0 && left <= limit && (!m.said.hasLeft || left < m.said.left) {
		m.said.left, m.said.hasLeft = left, true
	}
}

// heed brings what was said into the ledger: a lower limit, and what others use of the same quota. unused is
// what the log has of this replica that the provider has not seen.
func (m *meter) heed(g *ledger, unused int, now stamp, r *rhythm) {
	if s := m.said; s.limit > 0 && s.limit < m.limit && (g.Low == 0 || s.limit <= g.Low) {
		g.Low, g.LowUntil = s.limit, now.add(r.lowered)
	}
	if m.said.hasLeft {
		bound := m.limit
		if g.Low > 0 {
			bound = min(bound, g.Low)
		}
		if foreign := bound - m.said.left - (g.used() - unused); foreign > 0 {
			g.add(now.slot(r), foreign, 0)
		}
	}
	m.said = said{}
}
