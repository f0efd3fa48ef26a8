package limit

import (
	"slices"
	"time"
)

// rights says which part of a limit each replica may count on that has waiters: the lanes that wait share it
// by the batch share, and the replicas of a lane equally.
func rights(claims map[string]*claim, share float64) map[string]float64 {
	interactive, batch := 0, 0
	for _, c := range claims {
		interactive += min(c.Interactive, 1)
		batch += min(c.Batch, 1)
	}
	forInteractive, forBatch := 1-share, share
	if batch == 0 {
		forInteractive = 1
	}
	if interactive == 0 {
		forBatch = 1
	}
	all := map[string]float64{}
	for name, c := range claims {
		if c.Interactive > 0 {
			all[name] += forInteractive / float64(interactive)
		}
		if c.Batch > 0 {
			all[name] += forBatch / float64(batch)
		}
	}
	return all
}

// ownShare is the batch lane's part of what a replica gets by its right, when all replicas together are to
// keep the share.
func ownShare(me string, claims map[string]*claim, share float64) float64 {
	mine := claims[me]
	if mine == nil || mine.Interactive == 0 || mine.Batch == 0 {
		return share
	}
	batch := 0
	for _, c := range claims {
		batch += min(c.Batch, 1)
	}
	return share / float64(batch) / rights(claims, share)[me]
}

// asking is a replica's own side of keep.
type asking struct {
	me    string
	need  need
	unit  int
	limit int
}

// keep is how much of a ledger is left for the other replicas that wait: what came in by their right since
// they were last here, and for a large call of theirs since it waits. Large calls go by their age.
func keep(kind int, a asking, claims map[string]*claim, right map[string]float64, now stamp, r *rhythm) int {
	interval, unit, sum := r.interval(a.limit), max(a.unit, 1), 0
	part := func(name string, d time.Duration) int {
		return int(right[name] * float64(max(d, 0).Microseconds()) / interval)
	}
	for name, c := range claims {
		if name == a.me || right[name] == 0 || now.since(c.At) > 2*r.block {
			continue // dead, or not in need
		}
		other := c.Needs[kind]
		switch {
		case other.N == 0:
			sum += part(name, min(now.since(c.At), r.block)) / unit * unit
		case a.need.N > 0 && (a.need.Since < other.Since || a.need.Since == other.Since && a.me < name):
		default:
			sum += min(other.N, a.limit, part(name, min(now.since(other.Since), time.Hour)))
		}
	}
	return sum
}

// split divides a limit among replicas: to each by its right, to none more than it wants. What does not
// divide goes around with turn, or the last ones in the order would never get any of a small limit.
func split(limit int, wants map[string]int, right map[string]float64, turn int) map[string]int {
	got := map[string]int{}
	var open []string
	for name, n := range wants {
		if n > 0 {
			open = append(open, name)
		}
	}
	slices.Sort(open)
	of := func(name string) float64 {
		if part, ok := right[name]; ok {
			return part
		}
		return 1 / float64(len(wants)) // it only keeps what it has in use
	}
	left := limit
	for settled := true; settled && len(open) > 0; {
		sum, now := 0.0, left
		for _, name := range open {
			sum += of(name)
		}
		open = slices.DeleteFunc(open, func(name string) bool {
			if float64(wants[name])*sum > float64(now)*of(name) {
				return false
			}
			got[name] = wants[name]
			left -= wants[name]
			return true
		})
		settled = now != left
		if !settled {
			share(got, open, max(left, 0), sum, of, turn)
		}
	}
	return got
}

// share gives what is left to those who want more than their part of it.
func share(got map[string]int, open []string, left int, sum float64, of func(string) float64, turn int) {
	rest := left
	for _, name := range open {
		if sum > 0 {
			got[name] = int(float64(left) * of(name) / sum)
		}
		rest -= got[name]
	}
	for i := 0; i < len(open) && rest > 0; i++ {
		if name := open[(i+turn)%len(open)]; of(name) > 0 {
			got[name]++
			rest--
		}
	}
}
