package services_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/broker/brokertest"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// storm is a pipeline whose stages and providers fail at random while requests with short deadlines come.
type storm struct {
	*ordeal
	rng   *rand.Rand // of what happens to the pipeline
	stops map[string]func()

	guard sync.Mutex
	bets  map[string]bet
	gaps  []gap // of the stages that the promise needs
}

// bet is a request, with what only its result may say.
type bet struct {
	text     string
	deadline time.Duration
}

// gap is a time without a stage.
type gap struct {
	stage    string
	from, to time.Time
}

const (
	storms    = 3
	stormTime = 9 * time.Second
)

func TestEachRequestHasOneResultWhateverStopsAndWhateverItsDeadline(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	for n := range uint64(storms) {
		t.Run(fmt.Sprintf("seed %d", seed+n), func(t *testing.T) {
			t.Parallel()
			x := newStorm(t, seed+n)
			stopTraffic := x.betting(rand.New(rand.NewPCG(seed+n, 1)))
			x.troubles()
			stopTraffic()
			x.healButOne()
			brokertest.Eventually(t, 40*time.Second, "all have results", func() bool { return x.heard.distinct() >= len(x.bets) })
			for name := range x.stops {
				x.restart(name)
			}
			x.emptied(20 * time.Second)
			x.settleBets()
		})
	}
}

func newStorm(t *testing.T, seed uint64) *storm {
	t.Helper()
	r := setupWith(t, brokertest.Server(t).URL(), 1, func(first, second string) fstest.MapFS {
		fs := folder(first, second)
		// A breaker that stayed open would keep what follows from the model.
		fs["models.yaml"] = &fstest.MapFile{Data: []byte(modelsYAML(halfOpenAfter("300ms"), small("small", "one", first), large("large", "two", second)))}
		return fs
	})
	x := &storm{ordeal: &ordeal{rig: r}, rng: rand.New(rand.NewPCG(seed, 0)), stops: map[string]func(){}, bets: map[string]bet{}}
	latency := fakellm.Latency{FirstToken: 20 * time.Millisecond, PerToken: time.Millisecond}
	r.first.SetLatency(latency)
	r.second.SetLatency(latency)
	for _, name := range r.stageNames() {
		x.stops[name] = r.run(name)
	}
	return x
}

// betting publishes random requests until it is stopped.
func (x *storm) betting(rng *rand.Rand) (stop func()) {
	ctx, cancel := context.WithCancel(x.t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		for n := 0; pauseFor(ctx, time.Duration(10+rng.IntN(60))*time.Millisecond); n++ {
			x.bet(n, rng, &all)
		}
	})
	return func() { cancel(); all.Wait() }
}

// bet publishes one; some are published twice, some are cancelled.
func (x *storm) bet(n int, rng *rand.Rand, all *sync.WaitGroup) {
	id, b := fmt.Sprintf("bet-%d", n), bet{text: fmt.Sprintf("question %d", n), deadline: time.Duration(300+rng.IntN(5700)) * time.Millisecond}
	lane := []string{job.Interactive, job.Batch}[rng.IntN(2)]
	task := []string{"toy", "models", "bare"}[rng.IntN(3)]
	again, cancels, after := rng.IntN(10) == 0, rng.IntN(12) == 0, time.Duration(rng.IntN(1000))*time.Millisecond
	x.guard.Lock()
	x.bets[id] = b
	x.guard.Unlock()
	x.publish(lane, task, id, withDeadline(b.text, b.deadline.String()))
	if !again && !cancels {
		return
	}
	all.Go(func() {
		pauseFor(x.t.Context(), after)
		if again {
			x.publish(lane, task, id, withDeadline(b.text, b.deadline.String()))
		}
		if cancels {
			ctx, stop := context.WithTimeout(x.t.Context(), time.Second)
			defer stop()
			_, _ = x.client.Cancel(ctx, id) // nobody answers without ingest
		}
	})
}

// pauseFor reports whether ctx outlived the pause.
func pauseFor(ctx context.Context, d time.Duration) bool {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// troubles lets stages go and come and providers fail, for the time of a storm: the subject of the test are
// moments that nothing in the pipeline decides.
func (x *storm) troubles() {
	x.t.Helper()
	down := []string{}
	names := x.stageNames()
	for end := time.Now().Add(stormTime); time.Now().Before(end); {
		pauseFor(x.t.Context(), time.Duration(50+x.rng.IntN(700))*time.Millisecond)
		x.first.SetFaults(x.faults()...)
		x.second.SetFaults(x.faults()...)
		name := names[x.rng.IntN(len(names))]
		if i := slices.Index(down, name); i >= 0 || len(down) == 3 {
			i = max(i, 0)
			x.restart(down[i])
			down = slices.Delete(down, i, i+1)
			continue
		}
		x.leave(name)
		down = append(down, name)
	}
}

// healButOne starts what left and leaves only one stage dead, whose jobs have their deadlines to wait for.
func (x *storm) healButOne() {
	x.t.Helper()
	x.first.SetFaults()
	x.second.SetFaults()
	dead := []string{broker.ContextBuilder, broker.Inference, broker.Validator}[x.rng.IntN(3)]
	for name := range x.stops {
		if name != dead {
			x.restart(name)
		}
	}
	if x.stops[dead] != nil {
		x.leave(dead)
	}
}

// faults are what a provider does for a while: half of the time nothing.
func (x *storm) faults() []fakellm.Fault {
	if x.rng.IntN(2) == 0 {
		return nil
	}
	kinds := []string{"500", "429", "hang", "silence", "cut", "off_schema", "prose", "refusal", "400", "reset", "empty_choices"}
	return []fakellm.Fault{{Kind: kinds[x.rng.IntN(len(kinds))], Rate: 0.3 + 0.7*x.rng.Float64()}}
}

func (x *storm) leave(name string) {
	x.gaps = append(x.gaps, gap{stage: name, from: time.Now()})
	x.stops[name]()
	x.stops[name] = nil
}

// restart starts a stage that left.
func (x *storm) restart(name string) {
	x.t.Helper()
	if x.stops[name] != nil {
		return
	}
	x.stops[name] = x.run(name)
	for i, o := range x.gaps {
		if o.stage == name && o.to.IsZero() {
			x.gaps[i].to = time.Now()
		}
	}
}

// settleBets compares what was asked with what is stored, heard and counted.
func (x *storm) settleBets() {
	x.t.Helper()
	results, ever := x.results()
	if ever != uint64(len(results)) || len(results) != len(x.bets) {
		x.t.Errorf("%d requests, %d results, and the stream took %d", len(x.bets), len(results), ever)
	}
	late, statuses := 0, map[job.Status]int{}
	for id, b := range x.bets {
		r, ok := results[id]
		if !ok {
			x.t.Errorf("%s has no result", id)
			continue
		}
		statuses[r.Status]++
		if r.Late {
			late++
		}
		x.settle(id, b, &r.Result)
	}
	if missed := x.counted(broker.ResultWriter, "spillway_deadlines_missed_total"); missed != float64(late) {
		x.t.Errorf("%d results are late, %g were counted", late, missed)
	}
	x.t.Logf("%d requests, %d late, %v, %d outages", len(x.bets), late, statuses, len(x.gaps))
}

// tooLate is beyond what a busy machine explains.
const tooLate = 2 * time.Second

func (x *storm) settle(id string, b bet, r *job.Result) {
	x.t.Helper()
	if heard := x.heard.of(id); len(heard) != 1 || heard[0].Status != r.Status {
		x.t.Errorf("%s: %d results were heard", id, len(heard))
	}
	if r.Run != 1 || r.Deadline.Sub(r.AcknowledgedAt) != b.deadline {
		x.t.Errorf("%s: run %d, with %s for %s", id, r.Run, r.Deadline.Sub(r.AcknowledgedAt), b.deadline)
	}
	if r.Late != r.FinishedAt.After(r.Deadline) {
		x.t.Errorf("%s: late %v, %s after its deadline", id, r.Late, r.FinishedAt.Sub(r.Deadline))
	}
	if (r.Source == job.FromModel || r.Source == job.FromCache) && !answersTo(r, b.text) {
		x.t.Errorf("%s has another's output: %s", id, r.Output)
	}
	if over := r.FinishedAt.Sub(r.Deadline); over > tooLate && !x.lacked(r.AcknowledgedAt, r.Deadline) {
		x.t.Errorf("%s: %s with %s came %s late, and nobody was away", id, r.Status, r.Source, over)
	}
}

// lacked reports whether a stage that the promise needs was away between two moments.
func (x *storm) lacked(from, to time.Time) bool {
	return slices.ContainsFunc(x.gaps, func(o gap) bool {
		needed := o.stage == broker.Ingest || o.stage == broker.Fallback || o.stage == broker.ResultWriter
		return needed && o.from.Before(to) && (o.to.IsZero() || o.to.After(from))
	})
}
