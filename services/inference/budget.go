package inference

import (
	"sync"
	"time"
)

// budget bounds the calls of a model that are retries, in this process: a provider that fails half of the
// time would otherwise get twice the calls, when it can bear them least.
type budget struct {
	mu    sync.Mutex
	slots [budgetSlots]struct{ calls, retries int }
	at    int64 // the slot in use, counted since 1970
}

const (
	budgetSlots = 60
	budgetSlot  = time.Second
	// budgetFloor is how many retries a minute are always granted: a share of little is nothing.
	budgetFloor = 10
)

// called counts a call.
func (b *budget) called(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slot(now).calls++
}

// grant takes a retry out of the budget, if the share allows one. share 1: always.
func (b *budget) grant(now time.Time, share float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	current := b.slot(now)
	calls, retries := 0, 0
	for i := range b.slots {
		calls += b.slots[i].calls
		retries += b.slots[i].retries
	}
	// The retry is itself one of the calls that it is a share of.
	if share < 1 && retries >= budgetFloor && float64(retries+1) > share*float64(calls+1) {
		return false
	}
	current.retries++
	return true
}

// slot returns the slot of now, and forgets what is older than a minute.
func (b *budget) slot(now time.Time) *struct{ calls, retries int } {
	at := now.UnixNano() / int64(budgetSlot)
	for n := 0; b.at < at && n < budgetSlots; n++ {
		b.at++
		b.slots[b.at%budgetSlots] = struct{ calls, retries int }{}
	}
	b.at = max(b.at, at)
	return &b.slots[b.at%budgetSlots]
}
