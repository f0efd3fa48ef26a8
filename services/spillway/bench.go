package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/bench"
	"spillway/services"
)

// benchCmd measures.
type benchCmd struct {
	Speed    benchSpeedCmd    `cmd:"" default:"withargs" help:"Throughput, latency, memory and starts; what is meant where no other is named."`
	Doors    benchDoorsCmd    `cmd:"" help:"An HTTP door under load: the time of its 202 beside a bare publish, its memory, clients that wait there."`
	Context  benchContextCmd  `cmd:"" help:"What a long conversation costs in tokens, beside its whole history sent each time."`
	Validity benchValidityCmd `cmd:"" help:"How malformed answers become outputs, step by step, and at which price."`

	DoorClients doorClientsCmd `cmd:"" hidden:""`
}

// benchSpeedCmd measures a pipeline beside a bare relay, or one of the modes.
type benchSpeedCmd struct {
	identityFlags
	Jobs         int            `help:"Jobs of a burst." default:"5000"`
	Size         string         `help:"Length of each job's text in KB: 1.5, 30 or 200." default:"1.5" enum:"1.5,30,200"`
	Concurrency  int            `help:"Publishes that may await their acknowledgement." default:"1024"`
	Rate         float64        `help:"Jobs a second while latencies are measured." default:"50"`
	LatencyJobs  int            `help:"Jobs for the latencies; 0: they are not measured." default:"500"`
	ModelLatency *time.Duration `help:"Time until the simulated model says its first token; default: 0s, with --in-flight 5s, with --flood 200ms." placeholder:"DURATION"`
	Relay        bool           `help:"Measure a bare JetStream relay beside the pipeline." default:"true" negatable:""`
	Sync         string         `help:"How often the embedded server forces messages to disk: a duration, or always." default:"1s"`
	NATS         string         `name:"nats" help:"Measure the pipeline that runs on this server, with its own models: real ones cost money." placeholder:"URL"`
	Task         string         `help:"Task to ask; default: one made for the bench, on the embedded server." placeholder:"NAME"`
	Kept         []int          `help:"Measure starts of up instead, each on a store with so many kept results." placeholder:"N" xor:"mode"`
	Unfinished   []int          `help:"Measure starts of up instead, each on a store with the markers of so many runs without a result." placeholder:"N" xor:"mode"`
	Idle         time.Duration  `help:"With --kept and --unfinished, how long a process is left alone before its memory is read." default:"10s"`
	InFlight     int            `help:"Measure so many calls at once instead, beside a bare HTTP client: time, and memory a call." placeholder:"N" xor:"mode"`
	Flood        int            `help:"Measure interactive jobs instead, alone and while so many batch requests wait." placeholder:"N" xor:"mode"`
	Timeout      time.Duration  `help:"End without a report after this time." default:"10m"`
	schemasFlag

	CPUProfile   string `name:"cpuprofile" help:"Write a CPU profile of the pipeline's burst." hidden:"" type:"path"`
	AllocProfile string `name:"allocprofile" help:"Write a profile of what the pipeline's burst allocates." hidden:"" type:"path"`
	MutexProfile string `name:"mutexprofile" help:"Write a profile of contended locks during the pipeline's burst." hidden:"" type:"path"`
}

// sizes are the lengths of --size in bytes.
var sizes = map[string]int{"1.5": 1_500, "30": 30_000, "200": 200_000}

// Run measures and prints.
func (c *benchSpeedCmd) Run(ctx context.Context, g *globals) error {
	switch {
	case len(c.Kept) > 0:
		return benchStart(ctx, g, c.Kept, c.Idle)
	case len(c.Unfinished) > 0:
		return benchUnfinished(ctx, g, c.Unfinished, c.Idle)
	case c.InFlight != 0:
		return c.inFlight(ctx, g)
	case c.Flood != 0:
		return c.flood(ctx, g)
	}
	o, err := c.options(g, 0)
	if err != nil {
		return err
	}
	p := &profiles{cpu: c.CPUProfile, allocs: c.AllocProfile, mutex: c.MutexProfile}
	o.Around = p.around
	report, err := measure(ctx, c.Timeout, g, o, bench.Run)
	if err := errors.Join(err, p.err); err != nil {
		return err
	}
	if g.cli.JSON {
		err = g.printJSON(report)
	} else {
		err = g.printBench(report)
	}
	return worth(err, report.Checks.OK())
}

// measure runs within --timeout and shows how far it is.
func measure[R any](ctx context.Context, timeout time.Duration, g *globals, o bench.Options, run func(context.Context, bench.Options) (R, error)) (R, error) {
	progress := &benchProgress{g: g}
	defer progress.end()
	o.Progress = progress.show
	late := fmt.Errorf("not done within --timeout %s", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	r, err := run(ctx, o)
	// What was cut short need not know by what.
	if err != nil && errors.Is(context.Cause(ctx), late) && !errors.Is(err, late) {
		err = fmt.Errorf("%w: %w", late, err)
	}
	return r, err
}

// worth is the end of a command that printed its figures, or failed to.
func worth(printed error, ok bool) error {
	if printed == nil && !ok {
		return exit(exitFailed, "the answers are not what was asked for: the figures are of no use")
	}
	return quiet(printed)
}

// ownServer refuses flags that a mode has no use for.
func (c *benchSpeedCmd) ownServer(mode string) error {
	if c.NATS != "" || c.Task != "" {
		return exit(exitUsage, "%s measures on a server of its own, with the task of the bench: --nats and --task do not go with it", mode)
	}
	return nil
}

// options turns the flags into those of a run. latency is the model's where none is given.
func (c *benchSpeedCmd) options(g *globals, latency time.Duration) (bench.Options, error) {
	if c.ModelLatency != nil {
		latency = *c.ModelLatency
	}
	sync, err := parseSync(c.Sync)
	if err != nil {
		return bench.Options{}, err
	}
	if c.NATS != "" && c.Task == "" {
		return bench.Options{}, exit(exitUsage, "--nats needs --task: the name of a task that the running pipeline has")
	}
	o := bench.Options{
		Stages: services.Pipeline(), NATS: c.NATS, As: c.on(c.NATS), Task: c.Task,
		Jobs: c.Jobs, PromptBytes: sizes[c.Size], Window: c.Concurrency,
		LatencyJobs: c.LatencyJobs, Rate: c.Rate, ModelLatency: latency, Relay: c.Relay, Sync: sync,
		Getenv: g.getenv, Log: g.quietLogger(),
	}
	if c.Task != "" {
		o.Tasks, err = loadTasks(c.Schemas, g.getenv)
	}
	return o, err
}

// quietLogger leaves out what starts and stops, which is no news here.
func (g *globals) quietLogger() zerolog.Logger {
	log := g.logger()
	if g.cli.LogLevel == zerolog.LevelInfoValue {
		log = log.Level(zerolog.WarnLevel)
	}
	return log
}

// benchProgress shows one phase after the other, on a terminal only.
type benchProgress struct {
	g     *globals
	phase string
	gauge *gauge
}

func (p *benchProgress) show(phase string, done, jobs int) {
	if phase != p.phase {
		p.end()
		p.phase, p.gauge = phase, p.g.newGauge(jobs, phase)
	}
	if p.gauge.bar != nil {
		_ = p.gauge.bar.Set(done) // a terminal that went away is no reason to stop
	}
}

func (p *benchProgress) end() {
	if p.gauge != nil {
		p.gauge.done()
	}
	p.phase, p.gauge = "", nil
}
