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

// Run serves until ctx ends.
func (c *roleCmd) Run(ctx context.Context, g *globals) error {
	log := g.logger()
	tasks, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	conn, err := broker.Connect(broker.ConnectOptions{URL: c.NATS, Name: "spillway/" + c.stage, Patient: true, Log: log})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := prepareBroker(ctx, conn, broker.DefaultSizing()); err != nil {
		return err
	}
	p, err := newProcess(conn, tasks, c.roleFlags, g.getenv, log, c.stage)
	if err != nil {
		return err
	}
	defer p.close()
	web, err := serveHTTP(c.HTTP, p, conn)
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
