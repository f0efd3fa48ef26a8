package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"spillway/pkg/breaker"
	"spillway/pkg/broker"
	"spillway/pkg/job"
)

// breakerCmd looks at the circuit breakers, and moves them by hand.
type breakerCmd struct {
	Ls    breakerLsCmd    `cmd:"" help:"List the breakers that have ever opened: state, since when, until when, why."`
	Open  breakerOpenCmd  `cmd:"" help:"Send nothing to a model, or to a whole provider, for a while."`
	Close breakerCloseCmd `cmd:"" help:"Send again, without waiting for a probe."`
	Reset breakerResetCmd `cmd:"" help:"Forget a breaker, as if it had never opened."`
}

// breakerTimeout bounds one look or one change.
const breakerTimeout = 10 * time.Second

// circuitFlags name a breaker.
type circuitFlags struct {
	natsFlags
	Name     string `arg:"" help:"Name of the model in models.yaml."`
	Provider bool   `env:"-" help:"The name is that of a provider: all its models are meant."`
}

func (f circuitFlags) circuit() (breaker.Circuit, error) {
	kind := "model"
	if f.Provider {
		kind = "provider"
	}
	return breaker.Circuit{Kind: kind, Name: f.Name}, checkToken(kind, f.Name)
}

// change opens the connection and does one thing to the breaker.
func (f circuitFlags) change(ctx context.Context, g *globals, do func(context.Context, *broker.Conn, breaker.Circuit) error) error {
	circuit, err := f.circuit()
	if err != nil {
		return err
	}
	conn, err := f.open(ctx, g, "breaker", broker.RecordStream(broker.BreakersBucket))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, breakerTimeout)
	defer cancel()
	if circuit.Kind == "model" {
		_, err := conn.JS.Consumer(ctx, broker.ParkedStream, broker.ParkedConsumer(job.Interactive, circuit.Name))
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			g.note("no pipeline here has had a model %q so far", circuit.Name)
		}
	}
	if err := do(ctx, conn, circuit); err != nil {
		return unanswerable(err)
	}
	return g.showCircuit(ctx, conn, circuit)
}

// showCircuit prints what has become of a breaker.
func (g *globals) showCircuit(ctx context.Context, conn *broker.Conn, circuit breaker.Circuit) error {
	all, err := breaker.List(ctx, conn)
	if err != nil {
		return unanswerable(err)
	}
	listed := breaker.Listed{Circuit: circuit, Record: breaker.Record{State: breaker.Closed}}
	for _, one := range all {
		if one.Circuit == circuit {
			listed = one
		}
	}
	if g.cli.JSON {
		return g.printJSON(rowOf(listed))
	}
	_, err = fmt.Fprintf(g.stdout, "%s %s  %s\n", circuit.Kind, circuit.Name, describe(listed.Record, time.Now()))
	return quiet(err)
}

// describe says in words how a breaker is.
func describe(r breaker.Record, now time.Time) string {
	switch {
	case r.State == breaker.Open && now.Before(r.Until):
		return fmt.Sprintf("open for %s more: %s", span(r.Until.Sub(now)), cmp.Or(r.Why, "no reason given"))
	case r.State == breaker.Open:
		return "open until the next job for it has probed: " + cmp.Or(r.Why, "no reason given")
	case r.State == breaker.HalfOpen:
		return "half open: a job is probing"
	}
	return "closed"
}

type breakerLsCmd struct {
	natsFlags
}

// Run prints a table, or JSON lines.
func (c *breakerLsCmd) Run(ctx context.Context, g *globals) error {
	conn, err := c.open(ctx, g, "breaker", broker.RecordStream(broker.BreakersBucket))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, breakerTimeout)
	defer cancel()
	all, err := breaker.List(ctx, conn)
	if err != nil {
		return unanswerable(err)
	}
	if g.cli.JSON {
		for _, one := range all {
			if err := g.printJSON(rowOf(one)); err != nil {
				return quiet(err)
			}
		}
		return nil
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(g.stdout, "no breaker has opened: all models may be called")
		return quiet(err)
	}
	t := newTable(g.stdout, "kind", "name", "state", "changed", "by", "what")
	now := time.Now()
	for _, one := range all {
		t.row(one.Circuit.Kind, one.Circuit.Name, one.Record.State, span(now.Sub(one.Record.At))+" ago", job.Cut(one.Record.By, 40), job.Cut(describe(one.Record, now), 120))
	}
	return quiet(t.flush())
}

// breakerRow is a breaker as --json prints it.
type breakerRow struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	breaker.Record
}

func rowOf(l breaker.Listed) breakerRow {
	return breakerRow{Kind: l.Circuit.Kind, Name: l.Circuit.Name, Record: l.Record}
}

type breakerOpenCmd struct {
	circuitFlags
	For time.Duration `env:"-" required:"" help:"How long; then a real job probes." placeholder:"30m"`
	Why string        `env:"-" required:"" help:"The reason: it is told with every answer that the ladder gives meanwhile." placeholder:"TEXT"`
}

// maxByHand bounds how long a breaker is opened by hand: longer than that, the model should leave models.yaml.
const maxByHand = 30 * 24 * time.Hour

// Run opens the breaker on all replicas.
func (c *breakerOpenCmd) Run(ctx context.Context, g *globals) error {
	if c.For < time.Second || c.For > maxByHand {
		return exit(exitUsage, "--for is a duration from 1s to %s, not %s", maxByHand, c.For)
	}
	return c.change(ctx, g, func(ctx context.Context, conn *broker.Conn, circuit breaker.Circuit) error {
		return breaker.OpenByHand(ctx, conn, circuit, c.For, job.Cut(c.Why, job.MaxDetail), operator())
	})
}

type breakerCloseCmd struct {
	circuitFlags
}

// Run closes the breaker on all replicas.
func (c *breakerCloseCmd) Run(ctx context.Context, g *globals) error {
	return c.change(ctx, g, func(ctx context.Context, conn *broker.Conn, circuit breaker.Circuit) error {
		return breaker.CloseByHand(ctx, conn, circuit, operator())
	})
}

type breakerResetCmd struct {
	circuitFlags
}

// Run removes the breaker's record.
func (c *breakerResetCmd) Run(ctx context.Context, g *globals) error {
	return c.change(ctx, g, breaker.Reset)
}

// operator is who changes something by hand, as far as this machine knows.
func operator() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return "operator " + job.Cut(name, 64)
}
