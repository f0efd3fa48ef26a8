package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/drill"
	"spillway/pkg/fakellm"
	"spillway/pkg/job"
)

// drillCmd rehearses outages.
type drillCmd struct {
	Incident drillIncidentCmd `cmd:"" help:"The night of the incident: 429, then answers after 15-25 s, with 847 requests; then the replay."`
}

// drillIncidentCmd rehearses the night. What is made to misbehave is named on the command line, never by the
// environment.
type drillIncidentCmd struct {
	schemasFlag
	identityFlags
	Task     string    `env:"-" help:"Task to rehearse, with its own ladder, timeouts and breakers; default: the first." placeholder:"NAME"`
	Requests int       `env:"-" help:"Requests of the night." default:"847"`
	Speed    *float64  `env:"-" help:"How many times as fast the night goes by, and with it deadlines, timeouts, breakers and limits; default: 20. With --nats only 1." placeholder:"N"`
	Inputs   string    `env:"-" help:"File with inputs, JSON, one a line; default: those of the task's cases." placeholder:"FILE" type:"path"`
	Seed     uint64    `env:"-" help:"Varies which inputs are repeated." default:"1"`
	Rate     orderRate `env:"-" help:"How many replays are ordered a second or a minute; 0: as fast as it goes." default:"50/s" placeholder:"N/s"`
	NATS     string    `name:"nats" env:"-" help:"Rehearse on the pipeline that runs on this server, with its own timeouts. It must call the --provider." placeholder:"URL"`
	Provider string    `env:"-" help:"The simulated provider (spillway fakellm) that the pipeline calls. It is made to misbehave, and reset at the end." placeholder:"URL"`
}

const (
	// drillSpeed makes the night last a minute with its replays.
	drillSpeed = 20
	// maxDrillSpeed keeps the times of a usual task above what a machine can keep.
	maxDrillSpeed = 100
	drillGrace    = 5 * time.Second
)

// Run rehearses and prints.
func (c *drillIncidentCmd) Run(ctx context.Context, g *globals) error {
	o, err := c.options(g)
	if err != nil {
		return err
	}
	progress := &benchProgress{g: g}
	o.Progress = progress.show
	if !g.cli.JSON {
		g.printPlan(&o, c.NATS)
	}
	var r *drill.Report
	if c.NATS == "" {
		r, err = c.embedded(ctx, g, o)
	} else {
		r, err = c.staging(ctx, g, o)
	}
	progress.end()
	if r == nil {
		return err
	}
	return errors.Join(g.judged(r), err)
}

// judged prints the report. The exit code says whether the promise was kept.
func (g *globals) judged(r *drill.Report) error {
	var err error
	if g.cli.JSON {
		err = g.printJSON(r)
	} else {
		err = g.printDrill(r)
	}
	switch {
	case err != nil:
		return quiet(err)
	case r.Cut:
		return exit(exitInterrupted, "the drill was ended before the night was")
	case !r.OK():
		return exit(exitFailed, "the promise was not kept: %s", strings.Join(r.Faults(), "; "))
	}
	return nil
}

// options turns the flags into those of a drill, without what the pipeline's place decides.
func (c *drillIncidentCmd) options(g *globals) (drill.Options, error) {
	speed := float64(drillSpeed)
	if c.NATS != "" {
		speed = 1
	}
	if c.Speed != nil {
		speed = *c.Speed
	}
	switch {
	case (c.NATS == "") != (c.Provider == ""):
		return drill.Options{}, exit(exitUsage, "--nats and --provider go together: the running pipeline, and the simulated provider that it calls")
	case !(speed >= 1 && speed <= maxDrillSpeed):
		return drill.Options{}, exit(exitUsage, "--speed is 1 to %d, not %g", maxDrillSpeed, speed)
	case c.NATS != "" && speed != 1:
		return drill.Options{}, exit(exitUsage, "--speed is 1 with --nats: the staging pipeline's own timeouts are not compressed, so that in a faster night nothing would be rehearsed")
	case c.Requests < 1 || c.Requests > drill.MaxRequests:
		return drill.Options{}, exit(exitUsage, "--requests are 1 to %d, not %d", drill.MaxRequests, c.Requests)
	}
	tasks, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return drill.Options{}, err
	}
	o := drill.Options{Tasks: tasks, Task: c.Task, Requests: c.Requests, Speed: speed, ReplayRate: float64(c.Rate.Limit), Seed: c.Seed}
	names := slices.Sorted(maps.Keys(tasks.Tasks))
	if o.Task == "" {
		o.Task = names[0] // a set without a task does not load
	}
	if tasks.Tasks[o.Task] == nil {
		return o, exit(exitUsage, "there is no task %q: there are %s", job.Cut(o.Task, 80), strings.Join(names, ", "))
	}
	if c.Inputs != "" {
		o.Inputs, err = readInputs(c.Inputs)
	}
	return o, err
}

// readInputs reads a JSON value a line.
func readInputs(path string) ([][]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, exit(exitUsage, "--inputs: %w", err)
	}
	var all [][]byte
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			all = append(all, line)
		}
	}
	if len(all) == 0 {
		return nil, exit(exitUsage, "--inputs %s holds no input: it should hold JSON, one input a line", path)
	}
	return all, nil
}

// quietLog says what goes wrong with the drill. That calls fail and breakers open is no news here.
func (g *globals) quietLog() zerolog.Logger {
	if g.cli.LogLevel == zerolog.LevelInfoValue {
		return g.logger().Level(zerolog.ErrorLevel)
	}
	return g.logger()
}

// staging rehearses on a pipeline that runs elsewhere.
func (c *drillIncidentCmd) staging(ctx context.Context, g *globals, o drill.Options) (*drill.Report, error) {
	conn, err := natsFlags{c.NATS, c.identityFlags}.open(ctx, g, "drill", broker.RequestsStream, broker.ResultsStream)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	o.Conn, o.Provider = conn, drill.NewProvider(c.Provider)
	defer o.Provider.Close()
	return drill.Incident(ctx, o)
}

// embedded rehearses on a pipeline, a server and a provider of its own, of which nothing stays.
func (c *drillIncidentCmd) embedded(ctx context.Context, g *globals, o drill.Options) (r *drill.Report, err error) {
	log := g.quietLog()
	dir, err := os.MkdirTemp("", "spillway-drill-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the streams: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := embedded.Start(embedded.Options{Port: -1, Store: dir, Sync: time.Second, Log: log})
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	provider, err := fakellm.Start(fakellm.Options{Log: log, Seed: c.Seed})
	if err != nil {
		return nil, fmt.Errorf("start the simulated provider: %w", err)
	}
	defer func() { _ = provider.Close() }() // its error is of a listener that is gone
	o.Tasks = o.Tasks.SimulatedAt(provider.URL()).Hurried(o.Speed)
	o.Provider = drill.NewProvider(provider.Root())
	defer o.Provider.Close()
	if o.Conn, err = broker.Connect(broker.ConnectOptions{URL: server.URL(), Name: "spillway/drill", Log: log}); err != nil {
		return nil, err
	}
	defer o.Conn.Close()
	return rehearse(ctx, o, server.URL(), log)
}

// rehearse runs the pipeline beside the drill, on a connection of its own, until the drill is over: also one
// that was ended waits for its results.
func rehearse(ctx context.Context, o drill.Options, url string, log zerolog.Logger) (*drill.Report, error) {
	conn, err := broker.Connect(broker.ConnectOptions{URL: url, Name: "spillway/drill-pipeline", Log: log})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := prepareBroker(ctx, conn, broker.DefaultSizing()); err != nil {
		return nil, err
	}
	p, err := newProcess(conn, o.Tasks, drillRole(), noVariables, log)
	if err != nil {
		return nil, err
	}
	defer p.close()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- p.run(running) }()
	r, err := drill.Incident(ctx, o)
	stop()
	return r, errors.Join(<-ended, err)
}

// drillRole has the flags' defaults.
func drillRole() roleFlags {
	return roleFlags{Grace: drillGrace, AdmitInteractive: 20_000, AdmitBatch: 10_000}
}

// noVariables keeps addresses and keys of real providers out.
func noVariables(string) string { return "" }
