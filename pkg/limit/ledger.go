package limit

import "time"

// ledger is one limit of a rate in a record: what was granted, when, and how far the pace is paid.
type ledger struct {
	// From is the number of the log's first slot; slots are counted since 1970.
	From int64 `json:"from,omitempty"`
	Log  []int `json:"log,omitempty"`
	// Paid is the pace: the moment until which what was granted is paid for (GCRA's theoretical arrival time).
	Paid stamp `json:"paid,omitempty"`
	// Low is a lower limit that the provider named, until LowUntil.
	Low      int   `json:"low,omitempty"`
	LowUntil stamp `json:"low_until,omitempty"`
	// Over is how many times what they reserved the calls use, lately; 0: not known.
	Over float64 `json:"over,omitempty"`
}

// tidy drops what no window sees any more, and what cannot be true.
func (g *ledger) tidy(now stamp, r *rhythm) {
	from := now.add(-r.window - r.jitter).slot(r)
	last := now.add(r.window).slot(r)
	log := make([]int, 0, len(g.Log))
	for i, n := range g.Log {
		slot := g.From + int64(i)
		if slot < from || slot > last {
			continue
		}
		if len(log) == 0 {
			from = slot
		}
		log = append(log, bounded(n))
	}
	for len(log) > 0 && log[len(log)-1] == 0 {
		log = log[:len(log)-1]
	}
	g.From, g.Log = from, log
	g.Paid = min(g.Paid, now.add(time.Hour))
	if g.LowUntil <= now || g.Low <= 0 {
		g.Low, g.LowUntil = 0, 0
	}
}

func (g *ledger) used() int {
	sum := 0
	for _, n := range g.Log {
		sum += n
	}
	return sum
}

// add puts n, which may be negative, into a slot and returns how much of it the log took: it holds nothing
// below zero, and nothing that is older than the oldest slot it was tidied to.
func (g *ledger) add(slot int64, n int, oldest int64) int {
	if slot < oldest || n == 0 {
		return 0
	}
	if len(g.Log) == 0 {
		g.From = slot
	}
	if before := g.From - slot; before > 0 {
		g.Log = append(make([]int, before), g.Log...)
		g.From = slot
	}
	at := int(slot - g.From)
	for len(g.Log) <= at {
		g.Log = append(g.Log, 0)
	}
	n = max(n, -g.Log[at])
	g.Log[at] += n
	return n
}

// mend corrects the log: what was granted is moved to where it was used, given back, or was more.
func (g *ledger) mend(mends map[int64]int, limit int, now stamp, r *rhythm) {
	oldest := now.add(-r.window - r.jitter).slot(r)
	net := 0
	for slot, n := range mends {
		if n > 0 {
			net += g.add(slot, n, oldest)
		}
	}
	for slot, n := range mends {
		if n < 0 {
			net += g.add(slot, n, oldest)
		}
	}
	g.Paid += stamp(float64(net) * r.interval(limit))
}

// want is what a replica asks of a ledger.
type want struct {
	n     int // all that it could use
	unit  int // the next call's: less than that is of no use
	limit int
	kept  int // kept for other replicas
}

// floor limits how much unused pace is saved: slack, and what calls wait for that are larger than a block.
func (g *ledger) floor(now stamp, slack time.Duration, needed int, limit int, r *rhythm) {
	g.Paid = max(g.Paid, now.add(-slack)-stamp(float64(needed)*r.interval(limit)))
}

// grant returns how much may be used from now on for a block's time; it is in the log then, at the end of
// that time. When it is nothing, soonest is when the next unit may be there.
func (g *ledger) grant(w want, now stamp, r *rhythm) (n int, soonest stamp) {
	interval := r.interval(w.limit)
	free := w.limit - g.used() - w.kept
	pace := int(float64(now.add(r.block)-g.Paid)/interval) - w.kept
	n = min(w.n, free, pace)
	if n < w.unit {
		n = 0
		if w.n >= w.unit && g.isPassing(w, free, now, r) {
			n = w.unit
		}
	}
	if n > 0 {
		g.add(now.add(r.block).slot(r), n, 0)
		g.Paid += stamp(float64(n) * interval)
	}
	return n, g.soonest(w, r)
}

// isPassing reports whether a unit of more than a block's worth may pass: when the pace owes nothing, and the
// window has room for it, or nothing else is in the window that is too small for it.
func (g *ledger) isPassing(w want, free int, now stamp, r *rhythm) bool {
	interval := r.interval(w.limit)
	if float64(w.unit)*interval <= float64(r.block.Microseconds()) {
		return false
	}
	if g.Paid+stamp(float64(w.kept)*interval) > now {
		return false
	}
	return w.unit <= free || w.unit > w.limit && g.used() == 0
}

// soonest is when a unit may pass if nobody else is granted anything.
func (g *ledger) soonest(w want, r *rhythm) stamp {
	cost := float64(w.unit) * r.interval(w.limit)
	at := g.Paid
	if block := float64(r.block.Microseconds()); cost <= block {
		at = g.Paid + stamp(cost-block)
	}
	over := g.used() + min(w.unit, w.limit) - w.limit
	for i, n := range g.Log {
		if over <= 0 {
			break
		}
		over -= n
		at = max(at, stamp((g.From+int64(i)+1)*r.slot.Microseconds()).add(r.window+r.jitter))
	}
	return at
}
