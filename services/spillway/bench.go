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
	Jobs         int           `help:"Jobs of a burst." default:"5000"`
	Size         string        `help:"Length of each job's text in KB: 1.5, 30 or 200." default:"1.5" enum:"1.5,30,200"`
	Concurrency  int           `help:"Publishes that may await their acknowledgement." default:"1024"`
	Rate         float64       `help:"Jobs a second while latencies are measured." default:"50"`
	LatencyJobs  int           `help:"Jobs for the latencies; 0: they are not measured." default:"500"`
	ModelLatency time.Duration `help:"Time until the simulated model says its first token." default:"0s"`
	Relay        bool          `help:"Measure a bare JetStream relay beside the pipeline." default:"true" negatable:""`
	Sync         string        `help:"How often the embedded server forces messages to disk: a duration, or always." default:"1s"`
	NATS         string        `name:"nats" help:"Measure the pipeline that runs on this server, with its own models: real ones cost money." placeholder:"URL"`
	Task         string        `help:"Task to ask; default: one made for the bench, on the embedded server." placeholder:"NAME"`
	Kept         []int         `help:"Measure starts of up instead, each on a store with so many kept results." placeholder:"N"`
	Timeout      time.Duration `help:"End without a report after this time." default:"10m"`
	schemasFlag

	CPUProfile   string `name:"cpuprofile" help:"Write a CPU profile of the pipeline's burst." hidden:"" type:"path"`
	AllocProfile string `name:"allocprofile" help:"Write a profile of what the pipeline's burst allocates." hidden:"" type:"path"`
	MutexProfile string `name:"mutexprofile" help:"Write a profile of contended locks during the pipeline's burst." hidden:"" type:"path"`
}

// sizes are the lengths of --size in bytes.
var sizes = map[string]int{"1.5": 1_500, "30": 30_000, "200": 200_000}

// Run measures and prints.
func (c *benchCmd) Run(ctx context.Context, g *globals) error {
	if len(c.Kept) > 0 {
		return benchStart(ctx, g, c.Kept)
	}
	o, err := c.options(g)
	if err != nil {
		return err
	}
	p := &profiles{cpu: c.CPUProfile, allocs: c.AllocProfile, mutex: c.MutexProfile}
	o.Around = p.around
	progress := &benchProgress{g: g}
	o.Progress = progress.show
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not done within --timeout %s", c.Timeout))
	defer cancel()
	report, err := bench.Run(ctx, o)
	progress.end()
	if err := errors.Join(err, p.err); err != nil {
		return err
	}
	if g.cli.JSON {
		err = g.printJSON(report)
	} else {
		err = g.printBench(report)
	}
	if err == nil && !report.Checks.OK() {
		err = exit(exitFailed, "the answers are not what was asked for: the figures are of no use")
	}
	return err
}

// options turns the flags into those of a run.
func (c *benchCmd) options(g *globals) (bench.Options, error) {
	sync, err := parseSync(c.Sync)
	if err != nil {
		return bench.Options{}, err
	}
	if c.NATS != "" && c.Task == "" {
		return bench.Options{}, exit(exitUsage, "--nats needs --task: the name of a task that the running pipeline has")
	}
	o := bench.Options{
		Stages: services.Pipeline(), NATS: c.NATS, Task: c.Task,
		Jobs: c.Jobs, PromptBytes: sizes[c.Size], Window: c.Concurrency,
		LatencyJobs: c.LatencyJobs, Rate: c.Rate, ModelLatency: c.ModelLatency, Relay: c.Relay, Sync: sync,
		Getenv: g.getenv, Log: g.logger(),
	}
	if g.cli.LogLevel == zerolog.LevelInfoValue {
		o.Log = o.Log.Level(zerolog.WarnLevel) // what starts and stops is no news here
	}
	if c.Task != "" {
		o.Tasks, err = loadTasks(c.Schemas, g.getenv)
	}
	return o, err
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
