package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/fakellm"
	"spillway/pkg/stage"
	"spillway/pkg/task"
)

// MaxJobs bounds a run: what is expected of each job is kept in memory.
const MaxJobs = 1_000_000

// warmUp is how many jobs usually go first, unmeasured: connections are opened, vocabularies loaded.
const warmUp = 200

// Options of a run.
type Options struct {
	// Stages are the pipeline's.
	Stages []stage.Definition
	// NATS is the address of a running pipeline's server; "": an embedded one with all stages in this process.
	NATS string
	// As says who connects there.
	As broker.Credentials
	// Tasks and Task name what is asked. nil and "", on an embedded server only: a task made for the bench.
	Tasks *task.Set
	Task  string

	// Jobs are those of a burst, PromptBytes the length of each one's text.
	Jobs, PromptBytes int
	// Window is how many publishes may await their acknowledgement; fewer where they are long.
	Window int
	// LatencyJobs are published at Rate, in jobs a second, for the latencies; 0: they are not measured.
	LatencyJobs int
	Rate        float64
	// ModelLatency passes before the simulated provider says its first token.
	ModelLatency time.Duration
	// Relay is false where only the pipeline is measured.
	Relay bool
	// Sync is how often the embedded server forces messages to disk; 0: before each acknowledgement.
	Sync time.Duration

	// Provider is the command line that runs the simulated provider as a process of its own, where InFlight
	// wants one: it says {"base_url":…,"control":…} in its first line, and serves until it is killed.
	Provider []string
	// without names a stage that is left out at first; "": none.
	without string
	// Settle is how long after the last request of a flood its steady state begins.
	Settle time.Duration

	Getenv func(string) string
	Log    zerolog.Logger
	// Progress, unless nil, is told how far a phase is.
	Progress func(phase string, done, jobs int)
	// Around, unless nil, is called when a burst begins to be measured, and what it returns when that ends.
	Around func(phase string) (end func())
}

// The phases, as Progress and Around are told them.
const (
	PhaseRelay           = "relay without a call"
	PhaseRelayWithCall   = "relay with a call"
	PhasePipeline        = "pipeline"
	PhaseRelayLatency    = "latency of the relay"
	PhasePipelineLatency = "latency of the pipeline"
	PhaseBareClient      = "bare client"
	PhaseAlone           = "interactive alone"
	PhaseFloodBegins     = "interactive, the flood begins"
	PhaseFloodSteady     = "interactive, the flood goes on"
	phaseFlood           = "batch"
	phaseWarmUp          = "warm-up"
)

func (o *Options) progress(phase string, done, jobs int) {
	if o.Progress != nil {
		o.Progress(phase, done, jobs)
	}
}

// windowBytes bounds what the publisher holds: it shares the memory that is measured.
const windowBytes = 16 << 20

func (o *Options) window() int {
	return max(1, min(o.Window, windowBytes/max(o.PromptBytes, 1)))
}

func (o *Options) around(phase string) func() {
	if o.Around == nil {
		return func() {}
	}
	return o.Around(phase)
}

func (o *Options) validate() error {
	var bad []error
	if o.Jobs < 1 || o.Jobs > MaxJobs {
		bad = append(bad, fmt.Errorf("jobs are 1 to %d, not %d", MaxJobs, o.Jobs))
	}
	if o.LatencyJobs < 0 || o.LatencyJobs > MaxJobs {
		bad = append(bad, fmt.Errorf("latency jobs are 0 to %d, not %d", MaxJobs, o.LatencyJobs))
	}
	if o.LatencyJobs > 0 && o.Rate <= 0 {
		bad = append(bad, errors.New("the rate is above zero"))
	}
	if o.Window < 1 {
		bad = append(bad, errors.New("the window is one publish at least"))
	}
	if o.NATS != "" && (o.Tasks == nil || o.Task == "") {
		bad = append(bad, errors.New("a running pipeline is asked one of its own tasks: name it"))
	}
	return errors.Join(bad...)
}

// Run measures. It returns an error when a part could not be measured to its end; answers that are missing
// or wrong are no error but the report's Checks.
func Run(ctx context.Context, o Options) (*Report, error) {
	b, err := newBench(o) //nolint:contextcheck // the simulated provider lives longer than a call: Close ends it
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.provider.Close() }() // it ends what hangs; nothing does
	if o.NATS != "" {
		return b.report, b.runningPipeline(ctx)
	}
	return b.report, b.embedded(ctx)
}

// newBench starts the provider of a run.
func newBench(o Options) (*bench, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	r := &Report{
		Jobs: o.Jobs, PromptBytes: o.PromptBytes, Window: o.window(), Task: cmp.Or(o.Task, TaskName), Cores: runtime.GOMAXPROCS(0),
		ModelMS: milliseconds(o.ModelLatency), Server: cmp.Or(o.NATS, "embedded"),
	}
	r.Checks.OwnBy = "nonce"
	if o.LatencyJobs > 0 {
		r.Rate = o.Rate
	}
	if o.NATS != "" {
		r.Checks.OwnBy = "metadata, and nonce where an answer has one"
	} else {
		r.Sync = syncText(o.Sync)
	}
	provider, err := startProvider(o.ModelLatency, o.Log)
	if err != nil {
		return nil, err
	}
	return &bench{Options: o, provider: provider, report: r, warm: warmUp, limits: stage.DefaultLimits()}, nil
}

func syncText(sync time.Duration) string {
	if sync == 0 {
		return "always"
	}
	return sync.String()
}

// bench is one run.
type bench struct {
	Options
	provider *fakellm.Server
	report   *Report
	// warm is how many jobs go first, unmeasured.
	warm int
	// limits are the pipeline's, where the usual ones are too low.
	limits stage.Limits
}

// embedded measures all on servers of its own, a new one for each part: no part finds what another left.
func (b *bench) embedded(ctx context.Context) error {
	if b.Relay {
		if err := b.onServer(func(url string) error { return b.relay(ctx, url) }); err != nil {
			return err
		}
	}
	if err := b.onServer(func(url string) error { return b.pipelineBurst(ctx, url) }); err != nil {
		return err
	}
	if b.LatencyJobs > 0 {
		if err := b.onServer(func(url string) error { return b.pipelineLatency(ctx, url) }); err != nil {
			return err
		}
	}
	b.compare()
	return nil
}

// onServer runs do beside an embedded server in a folder that is removed afterwards.
func (b *bench) onServer(do func(url string) error) error {
	dir, err := os.MkdirTemp("", "spillway-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the streams: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // in the system's folder for what may be removed
	s, err := embedded.Start(embedded.Options{Port: -1, Store: dir, Sync: b.Sync, Log: b.Log})
	if err != nil {
		return err
	}
	defer s.Stop()
	return do(s.URL())
}

// tasks returns what the pipeline is to load, and the name of the task that is asked.
func (b *bench) tasks(provider string) (*task.Set, error) {
	if b.Task == "" {
		return benchTask(provider)
	}
	if b.Tasks == nil || b.Tasks.Tasks[b.Task] == nil {
		return nil, fmt.Errorf("there is no task %q", b.Task)
	}
	return b.Tasks.Simulated(), nil
}

// workload makes the requests for the task of a set.
func (b *bench) workload(set *task.Set, jobs int) (*workload, error) {
	name := cmp.Or(b.Task, TaskName)
	t := set.Tasks[name]
	if t == nil {
		return nil, fmt.Errorf("there is no task %q", name)
	}
	sample := []byte(sampleInput)
	if b.Task != "" {
		sample = set.Sample(b.Task)
	}
	return newWorkload(t, sample, b.PromptBytes, jobs)
}

func (b *bench) compare() {
	r := b.report
	if r.RelayWithCall == nil || r.Pipeline == nil {
		return
	}
	r.RatioJobs = r.Pipeline.JobsPerSecond / r.RelayWithCall.JobsPerSecond
	if r.RelayWithCall.CPUPer1000 > 0 && r.Pipeline.CPUPer1000 > 0 {
		r.RatioCPU = r.Pipeline.CPUPer1000 / r.RelayWithCall.CPUPer1000
	}
}

// add sums the checks of a round into the report.
func (b *bench) add(c *Checks) { b.report.Checks.add(c) }

// add sums up rounds.
func (c *Checks) add(round *Checks) {
	c.Jobs += round.Jobs
	c.Results += round.Results
	c.Missing += round.Missing
	c.Repeated += round.Repeated
	c.Failed += round.Failed
	c.Foreign += round.Foreign
	c.Calls += round.Calls
	c.PaidTwice += round.PaidTwice
	c.Examples = append(c.Examples, round.Examples[:min(len(round.Examples), maxExamples-len(c.Examples))]...)
}
