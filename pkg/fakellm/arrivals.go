package fakellm

import "time"

// maxArrivals bounds the timeline: 16 bytes each.
const maxArrivals = 1 << 20

// timeline knows when the last maxArrivals calls arrived. Its user guards it.
type timeline struct {
	seen []sighting // a ring when full
	next int
}

// sighting is one call, on the server's clock. The model is known by its tally: a name would cost more.
type sighting struct {
	at time.Duration
	of *Tally
}

func (t *timeline) add(s sighting) {
	if len(t.seen) < maxArrivals {
		t.seen = append(t.seen, s)
		return
	}
	t.seen[t.next] = s
	t.next = (t.next + 1) % maxArrivals
}

// list returns the calls of a tally, or of all with nil, oldest first.
func (t *timeline) list(start time.Time, of *Tally) []time.Time {
	all := []time.Time{}
	for _, part := range [][]sighting{t.seen[t.next:], t.seen[:t.next]} {
		for _, s := range part {
			if of == nil || s.of == of {
				all = append(all, start.Add(s.at))
			}
		}
	}
	return all
}

// arrivals returns when the calls for a model arrived, or all with "".
func (l *ledger) arrivals(model string) []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if model == "" {
		return l.timeline.list(l.start, nil)
	}
	of := l.models[model]
	if of == nil {
		return []time.Time{}
	}
	return l.timeline.list(l.start, of)
}
