package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"spillway/pkg/bench"
	"spillway/pkg/broker"
	"spillway/services"
)

// benchDoorsCmd measures the HTTP door.
type benchDoorsCmd struct {
	Rate         float64       `help:"POSTs a second." default:"1000"`
	For          time.Duration `help:"How long requests are posted." default:"20s"`
	Size         string        `help:"Length of each request's text in KB: 1.5, 30 or 200." default:"30" enum:"1.5,30,200"`
	ModelLatency time.Duration `help:"Time until the simulated model says its first token." default:"10s"`
	Stopped      string        `help:"Stage that does not run until all is posted; with --clients it is inference." placeholder:"STAGE"`
	Clients      int           `help:"Let so many clients of server-sent events, and as many polls, wait at the door, each for a job of its own, with texts of 1.5 KB." placeholder:"N"`
	Sync         string        `help:"How often the embedded server forces messages to disk: a duration, or always." default:"1s"`
	Timeout      time.Duration `help:"End without a report after this time." default:"10m"`
}

// doorClientsCmd is the process of the clients.
type doorClientsCmd struct{}

// Run posts and waits as its standard input says.
func (*doorClientsCmd) Run(ctx context.Context, g *globals) error {
	return bench.DoorClients(ctx, os.Stdin, g.stdout)
}

// Run measures and prints.
func (c *benchDoorsCmd) Run(ctx context.Context, g *globals) error {
	o, err := c.options(g)
	if err != nil {
		return err
	}
	report, err := measure(ctx, c.Timeout, g, o.Options, func(ctx context.Context, shown bench.Options) (*bench.DoorsReport, error) {
		o.Options = shown
		return bench.Doors(ctx, o)
	})
	if err != nil {
		return err
	}
	if g.cli.JSON {
		err = g.printJSON(report)
	} else {
		err = g.printDoors(report)
	}
	return worth(err, report.OK())
}

func (c *benchDoorsCmd) options(g *globals) (bench.DoorOptions, error) {
	sync, err := parseSync(c.Sync)
	if err != nil {
		return bench.DoorOptions{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return bench.DoorOptions{}, fmt.Errorf("find this program: %w", err)
	}
	o := bench.DoorOptions{
		Options: bench.Options{
			Stages: services.Pipeline(), Jobs: int(c.Rate * c.For.Seconds()), PromptBytes: sizes[c.Size], Window: 1, Rate: c.Rate,
			ModelLatency: c.ModelLatency, Sync: sync, Getenv: g.getenv, Log: g.quietLogger(),
			Provider: []string{self, "fakellm", "--json", "--addr=127.0.0.1:0", "--latency=" + c.ModelLatency.String(), "--per-token=0s"},
		},
		Door:    []string{self, broker.Ingest, "--no-admit", "--http=127.0.0.1:0", "--log-format=json"},
		Clients: []string{self, "bench", "door-clients"},
		Stopped: c.Stopped, Crowd: c.Clients,
	}
	if c.Clients > 0 {
		o.Jobs, o.PromptBytes = 2*c.Clients, sizes["1.5"]
		if o.Stopped == "" {
			o.Stopped = broker.Inference
		}
	}
	return o, nil
}

func (g *globals) printDoors(r *bench.DoorsReport) error {
	g.printf("%s POSTs of %s KB, %s/s of %s/s, %d cores, model latency %g ms, sync %s%s\n\n",
		thousands(r.Posts), trim(float64(r.BodyBytes)/1000), thousands(int(r.PerSecond)), thousands(int(r.Rate)), r.Cores, r.ModelMS, r.Sync, stoppedText(r.Stopped))
	t := newTable(g.stdout, "", "p50 ms", "p99 ms", "max ms", "the 202 is")
	t.row("202", tenth(r.Accepted.P50), tenth(r.Accepted.P99), tenth(r.Accepted.Max), "")
	t.row("bare publish beside the posts", tenth(r.Bare.P50), tenth(r.Bare.P99), tenth(r.Bare.Max), timesText(r.RatioP50, r.RatioP99))
	t.row("bare publish before them, all quiet", tenth(r.Quiet.P50), tenth(r.Quiet.P99), tenth(r.Quiet.Max), timesText(r.RatioQuietP50, r.RatioQuietP99))
	if err := t.flush(); err != nil {
		return err
	}
	g.printf("\n")
	if r.Refused > 0 {
		g.printf("refused  %s times, and posted again; %d of them without an answer\n", thousands(r.Refused), r.Broken)
	}
	g.printf("CPU      %s, of %.1f s on %d cores\n", cpuText(r.CPUSeconds), r.Seconds*float64(r.Cores), r.Cores)
	for _, m := range r.Memory {
		g.printf("memory   door, %s: RSS %s, heap and stacks %s\n", m.At, mib(m.Resident), mib(m.Live))
	}
	g.printf("results  the last one %.1f s after %s\n", r.ResultsAfter, sinceText(r.Stopped))
	g.printAnswers(&r.Checks)
	if c := r.Clients; c != nil {
		g.printf("clients  %s streams, %s polls: told their own result %s, wrong %d; asked to come again %d; consumers %+d\n",
			thousands(c.Streams), thousands(c.Polls), thousands(c.Own), c.Wrong, c.Refused, c.Consumers)
		g.printf("         each takes of the door RSS %s, heap and stacks %s\n", kib(&c.Resident), kib(&c.Live))
		for _, example := range c.Examples {
			g.printf("         %s\n", harmless(example))
		}
	}
	return nil
}

func timesText(p50, p99 float64) string { return fmt.Sprintf("%.1f x p50, %.1f x p99", p50, p99) }

// cpuText lists who used how much, the most first.
func cpuText(seconds map[string]float64) string {
	names := slices.SortedFunc(maps.Keys(seconds), func(a, b string) int { return cmp.Compare(seconds[b], seconds[a]) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %.1f s", name, seconds[name])
	}
	return strings.Join(names, ", ")
}

func stoppedText(stage string) string {
	if stage == "" {
		return ""
	}
	return ", without " + stage
}

func sinceText(stopped string) string {
	if stopped == "" {
		return "the last 202"
	}
	return stopped + " started"
}
