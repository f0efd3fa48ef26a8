package limit

import (
	"sync/atomic"
	"testing"
	"time"

	"spillway/pkg/broker/brokertest"
	"spillway/pkg/job"
)

// counted floods a lane and counts its calls.
func counted(b *bundle, l *replica, lane string, lasts time.Duration, n *atomic.Int64) (end func()) {
	return b.flood(l, Ask{Model: "small", Lane: lane, Tokens: 100}, 30, func(p *Permit) {
		n.Add(1)
		if lasts > 0 {
			b.after(lasts)
		}
		p.Done(Used{Sent: true, Tokens: 100})
	})
}

// batchPart is batch's part of the calls within a while.
func batchPart(b *bundle, d time.Duration, interactive, batch *atomic.Int64) float64 {
	i, n := interactive.Load(), batch.Load()
	b.after(d)
	i, n = interactive.Load()-i, batch.Load()-n
	return float64(n) / float64(n+i)
}

func TestBatchGetsItsShareWhileInteractiveWaits(t *testing.T) {
	for name, bounds := range map[string]Bounds{
		"requests": {RequestsPerMinute: 1000, BatchShare: 0.25}, "tokens": {TokensPerMinute: 100_000, BatchShare: 0.25},
		"concurrency": {Concurrency: 8, BatchShare: 0.25}, "one slot": {Concurrency: 1, BatchShare: 0.25},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			one := b.start("one", models(bounds))
			var interactive, batch atomic.Int64
			lasts := time.Duration(0)
			if bounds.Concurrency > 0 {
				lasts = 5 * time.Millisecond
			}
			endBatch := counted(b, one, job.Batch, lasts, &batch)
			brokertest.Eventually(t, 5*time.Second, "batch runs", func() bool { return batch.Load() > 50 })
			endInteractive := counted(b, one, job.Interactive, lasts, &interactive)
			brokertest.Eventually(t, 5*time.Second, "interactive runs", func() bool { return interactive.Load() > 50 })
			if part := batchPart(b, 2*time.Second, &interactive, &batch); part > 0.28 || part < 0.2 {
				t.Errorf("batch got %.2f of the calls while interactive waited", part)
			}
			endInteractive()
			if part := batchPart(b, time.Second, &interactive, &batch); part != 1 {
				t.Errorf("batch got %.2f of the calls when nothing else waited", part)
			}
			endBatch()
		})
	}
}

func TestTheShareHoldsWhenTheLanesWaitOnDifferentReplicas(t *testing.T) {
	for name, bounds := range map[string]Bounds{
		"requests": {RequestsPerMinute: 2000, BatchShare: 0.25}, "concurrency": {Concurrency: 8, BatchShare: 0.25},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			one, two := b.start("one", models(bounds)), b.start("two", models(bounds))
			var interactive, batch atomic.Int64
			lasts := time.Duration(0)
			if bounds.Concurrency > 0 {
				lasts = 5 * time.Millisecond
			}
			defer counted(b, one, job.Batch, lasts, &batch)()
			brokertest.Eventually(t, 5*time.Second, "batch runs", func() bool { return batch.Load() > 50 })
			defer counted(b, two, job.Interactive, lasts, &interactive)()
			brokertest.Eventually(t, 5*time.Second, "interactive runs", func() bool { return interactive.Load() > 50 })
			b.after(500 * time.Millisecond)
			if part := batchPart(b, 3*time.Second, &interactive, &batch); part > 0.32 || part < 0.15 {
				t.Errorf("batch got %.2f of the calls while interactive waited elsewhere\n%s", part, b.dump("model.small"))
			}
		})
	}
}

func TestWithoutAShareBatchWaitsForInteractiveToBeDone(t *testing.T) {
	b := setup(t)
	one := b.start("one", models(Bounds{Concurrency: 2}))
	var interactive, batch atomic.Int64
	end := counted(b, one, job.Interactive, 5*time.Millisecond, &interactive)
	brokertest.Eventually(t, 5*time.Second, "interactive runs", func() bool { return interactive.Load() > 50 })
	defer counted(b, one, job.Batch, 5*time.Millisecond, &batch)()
	if part := batchPart(b, time.Second, &interactive, &batch); part != 0 {
		t.Errorf("batch got %.2f of the calls", part)
	}
	end()
	brokertest.Eventually(t, 5*time.Second, "batch runs", func() bool { return batch.Load() > 50 })
}
