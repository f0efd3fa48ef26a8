package main

import (
	"context"
	"fmt"

	"spillway/pkg/broker"
)

// roleCmd runs one stage.
type roleCmd struct {
	natsFlags
	roleFlags
	HTTP string `name:"http" help:"Address of health and metrics; off: none." default:"127.0.0.1:0" placeholder:"ADDR"`

	stage string
}

// ingestCmd runs ingest, which the door belongs to.
type ingestCmd struct {
	roleCmd
	doorFlags
	NoAdmit bool `name:"no-admit" help:"Only the door: requests are stored here, and admitted by other processes."`
}

// Run serves until ctx ends.
func (c *ingestCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.NoAdmit && (c.NoHTTP || isOff(c.HTTP)) {
		return exit(exitUsage, "--no-admit without a door is nothing at all: say --http ADDR")
	}
	stages := []string{c.stage}
	if c.NoAdmit {
		stages = []string{}
	}
	return c.run(ctx, g, stages, c.serve)
}

// Run serves until ctx ends.
func (c *roleCmd) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g, []string{c.stage}, func(_ context.Context, address string, p *process, conn *broker.Conn) (*webServer, error) {
		return serveHTTP(address, p, conn)
	})
}

// run runs the named stages, and what serve makes of the HTTP address.
func (c *roleCmd) run(
	ctx context.Context, g *globals, stages []string, serve func(context.Context, string, *process, *broker.Conn) (*webServer, error),
) error {
	log := g.logger()
	tasks, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	conn, err := broker.Connect(broker.ConnectOptions{URL: c.NATS, As: c.credentials(), Name: "spillway/" + c.stage, Patient: true, Log: log})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := prepareBroker(ctx, conn, broker.DefaultSizing()); err != nil {
		return err
	}
	p, err := newProcess(conn, tasks, c.roleFlags, g.getenv, log, stages...)
	if err != nil {
		return err
	}
	defer p.close()
	p.begin(ctx)
	web, err := serve(ctx, c.HTTP, p, conn)
	if err != nil {
		return err
	}
	defer web.close()
	log.Info().Str("stage", c.stage).Str("nats", broker.RedactURLs(c.NATS)).Str("http", web.address).Msg("stage is ready")
	if err := p.run(ctx); err != nil {
		return fmt.Errorf("%s: %w", c.stage, err)
	}
	log.Info().Str("stage", c.stage).Msg("stage has drained")
	return nil
}
