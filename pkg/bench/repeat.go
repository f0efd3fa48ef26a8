package bench

import (
	"sync"
	"time"
)

// repeat does so now and then, until stop, which waits for the last time.
func repeat(every time.Duration, do func()) (stop func()) {
	ended := make(chan struct{})
	var doing sync.WaitGroup
	doing.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				do()
			case <-ended:
				return
			}
		}
	})
	return func() { close(ended); doing.Wait() }
}
