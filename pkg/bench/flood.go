package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/job"
	"spillway/pkg/stage"
)

// besidesText is what a waiting request takes in its stream besides its text, at most.
const besidesText = 512

// Flood measures interactive jobs, Options.LatencyJobs of them at Options.Rate, alone and while Options.Jobs
// requests of the batch lane wait. What is left of those in the end is thrown away.
func Flood(ctx context.Context, o Options) (*FloodReport, error) {
	if err := errors.Join(o.validate(), o.validateFlood()); err != nil {
		return nil, err
	}
	o.Log = quietAfter(ctx, o.Log)
	provider, err := startProvider(o.ModelLatency, o.Log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = provider.Close() }() // it ends what hangs; nothing does
	b := &bench{Options: o, provider: provider, warm: warmUp, limits: stage.DefaultLimits()}
	r := &FloodReport{
		PromptBytes: o.PromptBytes, Window: o.window(), Cores: runtime.GOMAXPROCS(0), ModelMS: milliseconds(o.ModelLatency),
		Sync: syncText(o.Sync), Rate: o.Rate, Batch: FloodBatch{Requests: o.Jobs}, Checks: Checks{OwnBy: "nonce"},
	}
	if err := b.onServer(func(url string) error { return b.alone(ctx, url, r) }); err != nil {
		return nil, err
	}
	if err := b.onServer(func(url string) error { return b.flooded(ctx, url, r) }); err != nil {
		return nil, err
	}
	r.Begins.compare(&r.Alone)
	r.Steady.compare(&r.Alone)
	return r, nil
}

func (o *Options) validateFlood() error {
	var bad []error
	if o.LatencyJobs < 1 {
		bad = append(bad, errors.New("a flood is measured by latency jobs: one at least"))
	}
	if o.NATS != "" || o.Task != "" {
		bad = append(bad, errors.New("a flood is measured on an embedded server, with the task of the bench"))
	}
	room := broker.DefaultSizing().RequestBytes / int64(o.PromptBytes+besidesText)
	if int64(o.Jobs) > room {
		bad = append(bad, fmt.Errorf("%d requests of %d bytes do not fit the batch lane's stream, about %d do", o.Jobs, o.PromptBytes, room))
	}
	return errors.Join(bad...)
}

// alone measures the interactive jobs while there are no others.
func (b *bench) alone(ctx context.Context, url string, r *FloodReport) error {
	return b.onPipeline(ctx, url, b.provider.URL(), b.LatencyJobs, func(_ *pipeline, w *workload, way *way) error {
		taken, checks, err := steady(ctx, url, way, b.warm, wholeWay, &b.Options, PhaseAlone)
		if err != nil {
			return err
		}
		r.Alone = SpreadOf(taken)
		b.addFlood(r, w, checks, b.warm)
		return nil
	})
}

// wholeWay takes nothing off a latency: the model's part of it is the same with and without a flood.
func wholeWay(int) time.Duration { return 0 }

// addFlood sums the checks of interactive jobs into the report.
func (b *bench) addFlood(r *FloodReport, w *workload, checks *Checks, first int) {
	checks.Calls, checks.PaidTwice = w.paid(b.provider.Counts().Nonces, first, checks.Jobs)
	r.Checks.add(checks)
}

// flooded publishes the flood. From its first answer on, while more of it comes, the interactive jobs are
// measured; and once more when all of it was published and some time has passed.
func (b *bench) flooded(ctx context.Context, url string, r *FloodReport) error {
	return b.onPipeline(ctx, url, b.provider.URL(), 2*b.LatencyJobs+b.Jobs, func(_ *pipeline, w *workload, way *way) error {
		f, err := b.startFlood(ctx, url, w, way, b.warm+2*b.LatencyJobs)
		if err != nil {
			return err
		}
		defer f.stop()
		if err := f.flows(ctx); err != nil {
			return err
		}
		if r.Begins, err = f.during(ctx, r, way, b.warm, PhaseFloodBegins); err != nil {
			return err
		}
		if err := f.settles(ctx); err != nil {
			return err
		}
		if r.Steady, err = f.during(ctx, r, way, b.warm+b.LatencyJobs, PhaseFloodSteady); err != nil {
			return err
		}
		f.tell(r)
		return nil
	})
}

// batchWay is the way of the other lane.
func batchWay(w *workload, interactive *way) *way {
	batch := *interactive
	subject := broker.RequestSubject(job.Batch, w.task)
	batch.request = func(n int) *nats.Msg {
		m := interactive.request(n)
		m.Subject = subject
		return m
	}
	return &batch
}

// flood is requests of the batch lane that are being published and answered.
type flood struct {
	b         *bench
	url       string
	w         *workload
	ear       *ear
	first     int
	conn      *broker.Conn
	cancel    context.CancelFunc
	published chan struct{} // closed when refused and err stand
	refused   int
	err       error
}

// startFlood begins to publish the jobs numbered from first on.
func (b *bench) startFlood(ctx context.Context, url string, w *workload, interactive *way, first int) (*flood, error) {
	batch := batchWay(w, interactive)
	e, err := listen(url, batch, first, b.Jobs, &b.Options)
	if err != nil {
		return nil, err
	}
	conn, err := broker.Connect(broker.ConnectOptions{URL: url, Name: "spillway/bench-flood", Log: b.Log})
	if err != nil {
		e.close()
		return nil, err
	}
	own, cancel := context.WithCancel(ctx)
	f := &flood{b: b, url: url, w: w, ear: e, first: first, conn: conn, cancel: cancel, published: make(chan struct{})}
	go func() {
		defer close(f.published)
		f.refused, f.err = publishAll(own, conn, batch, first, b.Jobs, b.window())
	}()
	return f, nil
}

// flows returns when the first of the flood is answered.
func (f *flood) flows(ctx context.Context) error {
	defer f.note()()
	select {
	case <-f.ear.some:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: nothing was answered: %w", phaseFlood, context.Cause(ctx))
	}
}

// settles returns when all of the flood is published and its begin is over.
func (f *flood) settles(ctx context.Context) error {
	defer f.note()()
	select {
	case <-f.published:
	case <-ctx.Done():
		return fmt.Errorf("%s: not all was published: %w", phaseFlood, context.Cause(ctx))
	}
	if f.err != nil {
		return fmt.Errorf("%s: %w", phaseFlood, f.err)
	}
	return sleepUntil(ctx, time.Now().Add(f.b.Settle))
}

// note tells how much of the flood is answered, until stop.
func (f *flood) note() (stop func()) {
	return f.ear.tell(func(done int) { f.b.progress(phaseFlood, done, f.b.Jobs) })
}

// during measures interactive jobs, and what the flood gets meanwhile.
func (f *flood) during(ctx context.Context, r *FloodReport, interactive *way, first int, phase string) (FloodRound, error) {
	before, began := f.ear.done(), time.Now()
	taken, checks, err := steady(ctx, f.url, interactive, first, wholeWay, &f.b.Options, phase)
	if err != nil {
		return FloodRound{}, err
	}
	took, answered := time.Since(began), f.ear.done()-before
	f.b.addFlood(r, f.w, checks, first)
	return FloodRound{
		Latency: SpreadOf(taken), BatchAnswered: answered, BatchPerSecond: float64(answered) / took.Seconds(),
		BatchWaiting: f.b.Jobs - f.ear.done(),
	}, nil
}

// tell sums up what became of the flood so far.
func (f *flood) tell(r *FloodReport) {
	heard := f.ear.checks()
	_, twice := f.w.paid(f.b.provider.Counts().Nonces, f.first, f.b.Jobs)
	r.Batch = FloodBatch{
		Requests: f.b.Jobs, Refused: f.refused, Answered: heard.Jobs - heard.Missing, Repeated: heard.Repeated,
		Failed: heard.Failed, Foreign: heard.Foreign, PaidTwice: twice, Examples: heard.Examples,
	}
}

// stop publishes no more.
func (f *flood) stop() {
	f.cancel()
	<-f.published
	f.conn.Close()
	f.ear.close()
}

func (f *FloodRound) compare(alone *Spread) {
	const digits = 1000 // as milliseconds has them
	f.MoreP50 = math.Round((f.Latency.P50-alone.P50)*digits) / digits
	f.MoreP99 = math.Round((f.Latency.P99-alone.P99)*digits) / digits
}
