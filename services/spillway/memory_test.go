package main

import (
	"testing"
	"time"
)

func TestALargeHeapIsCollectedBeforeItDoubles(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 100, 100 << 20: 100, 128 << 20: 100, 256 << 20: 50, 512 << 20: 25, 8 << 30: 25} {
		if got := collectAt(live, time.Minute); got != want {
			t.Errorf("at %d MiB: %d percent, want %d", live>>20, got, want)
		}
	}
}

func TestAStartIsNotHeldUpByTheCollectorUnlessItsHeapIsLarge(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 300, 512 << 20: 300, 600 << 20: 25} {
		if got := collectAt(live, time.Second); got != want {
			t.Errorf("at %d MiB: %d percent, want %d", live>>20, got, want)
		}
	}
}
