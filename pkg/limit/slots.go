package limit

import (
	"math"
	"time"
)

// slots is this replica's side of a limit of concurrency. Limiter.mu guards it.
type slots struct {
	limit int
	// n is this replica's claim, and target what it may grow to or must shrink to while others wait.
	n, target int
	inUse     int
	batch     int // of those in use
	peak      int // the most in use since the last exchange
	// until is when the claim may be taken for dead by others: nothing is given out then.
	until time.Duration
	// lasts is how long calls take, lately.
	lasts time.Duration
	// limited: the last exchange brought less than was wanted; entitled: others hold what is this one's by right.
	limited, entitled bool
}

func newSlots(limit int) *slots {
	if limit <= 0 {
		return nil
	}
	return &slots{limit: limit, target: math.MaxInt}
}

func (s *slots) isFree(now time.Duration) bool {
	return s.inUse < min(s.n, s.target) && now < s.until
}

// isSurplus reports whether others wait for what is unused here.
func (s *slots) isSurplus() bool { return s.n > max(s.inUse, s.target) }

func (s *slots) take(lane int) {
	s.inUse++
	s.peak = max(s.peak, s.inUse)
	if lane == batch {
		s.batch++
	}
}

func (s *slots) release(lane int, lasted time.Duration) {
	s.inUse--
	if lane == batch {
		s.batch--
	}
	if s.lasts == 0 {
		s.lasts = lasted
	}
	s.lasts += (lasted - s.lasts) / 8
}

// hasRoomForBatch reports whether batch has less in use than its share.
func (s *slots) hasRoomForBatch(share float64) bool {
	return s.batch < max(1, int(share*float64(min(s.n, s.target))))
}
