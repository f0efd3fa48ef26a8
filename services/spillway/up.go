package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"spillway/pkg/broker"
	"spillway/pkg/broker/embedded"
	"spillway/pkg/task"
)

// upCmd runs the whole pipeline.
type upCmd struct {
	roleFlags
	doorFlags
	identityFlags
	NATSPort  int    `name:"nats-port" help:"Port of the embedded NATS server on 127.0.0.1; -1: any free one." default:"4222" placeholder:"N"`
	NATS      string `name:"nats" help:"Use this shared NATS server instead of the embedded one." placeholder:"URL"`
	Store     string `help:"Folder of the embedded server's streams." default:"./.spillway" type:"path" placeholder:"DIR"`
	Sync      string `help:"How often the embedded server forces messages to disk: a duration, or always (before each acknowledgement)." default:"1s"`
	HTTP      string `name:"http" help:"Address of the HTTP door, health and, on loopback, metrics; off: none." default:"127.0.0.1:8080" placeholder:"ADDR"`
	Replicas  int    `help:"Replicas of each stream, in a cluster." default:"1" enum:"1,3,5"`
	SelfCheck bool   `help:"Run one sample request of each task at the start." default:"true" negatable:""`
}

// Run serves until ctx ends.
func (c *upCmd) Run(ctx context.Context, g *globals) error {
	started := time.Now()
	if err := errors.Join(c.check(g), c.doorFlags.check()); err != nil {
		return err
	}
	log := g.logger()
	tasks, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	if err := c.decideSimulation(tasks, g); err != nil {
		return err
	}
	url, stopServer, err := c.server(log)
	if err != nil {
		return err
	}
	defer stopServer()
	conn, err := broker.Connect(broker.ConnectOptions{URL: url, As: c.on(c.NATS), Name: "spillway/up", Patient: c.NATS != "", Log: log})
	if err != nil {
		return err
	}
	defer conn.Close()
	sizing := broker.DefaultSizing()
	sizing.Replicas = c.Replicas
	if err := prepareBroker(ctx, conn, sizing); err != nil {
		return err
	}
	c.ownServer = c.NATS == ""
	shown := &filesScreen{g: g}
	c.tell = shown.tell
	p, err := newProcess(conn, tasks, c.roleFlags, g.getenv, log)
	if err != nil {
		return err
	}
	defer p.close()
	p.begin(ctx)
	web, err := c.doorFlags.serve(ctx, c.HTTP, p, conn)
	if err != nil {
		return err
	}
	defer web.close()
	return c.serve(ctx, p, screen{g: g, c: c, p: p, conn: conn, url: broker.RedactURLs(url), web: web, files: shown, started: started})
}

// check refuses flags of the embedded server beside a shared one that only the environment names: a server
// would be used that nobody on the command line asked for.
func (c *upCmd) check(g *globals) error {
	if c.NATS == "" || g.isGiven("nats") {
		return nil
	}
	for _, flag := range []string{"nats-port", "store", "sync"} {
		if g.isGiven(flag) {
			return exit(exitUsage, "--%s is of the embedded server, but the environment names a shared one: unset SPILLWAY_NATS, or leave --%s out", flag, flag)
		}
	}
	return nil
}

// isGiven reports whether a flag stands on the command line.
func (g *globals) isGiven(flag string) bool {
	return slices.ContainsFunc(g.parsed.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == flag && !p.Resolved })
}

// serve runs the pipeline beside the self-check.
func (c *upCmd) serve(ctx context.Context, p *process, s screen) error {
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		ended <- p.run(ctx)
		close(ended)
	}()
	if err := s.ready(ctx, ended); err != nil {
		cancel()
		<-ended
		return err
	}
	if c.SelfCheck && ctx.Err() == nil {
		s.selfCheck(ctx)
	}
	if ctx.Err() == nil {
		s.next()
	}
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		s.leaving()
		err = <-ended
	}
	if err == nil {
		s.left()
	}
	return err
}

// decideSimulation lets `up` on its own server answer without a key, and nobody else.
func (c *upCmd) decideSimulation(tasks *task.Set, g *globals) error {
	missing := tasks.NeedsKeys(g.getenv)
	if len(missing) == 0 || c.Simulate {
		return nil
	}
	if c.NATS != "" {
		return fmt.Errorf("no key for the models on a shared server: set %s, or say --simulate", strings.Join(missing, ", "))
	}
	c.Simulate = true
	return nil
}

// server starts the embedded server, unless a shared one was named.
func (c *upCmd) server(log zerolog.Logger) (url string, stop func(), err error) {
	if c.NATS != "" {
		return c.NATS, func() {}, nil
	}
	sync, err := parseSync(c.Sync)
	if err != nil {
		return "", nil, err
	}
	s, err := embedded.Start(embedded.Options{Port: c.NATSPort, Store: filepath.Clean(c.Store), Sync: sync, Log: log})
	switch {
	case errors.Is(err, embedded.ErrPortTaken):
		return "", nil, fmt.Errorf("port %d is taken: choose another with --nats-port, or use the server there with --nats nats://127.0.0.1:%d", c.NATSPort, c.NATSPort)
	case errors.Is(err, embedded.ErrStoreInUse):
		return "", nil, fmt.Errorf("the store %s is in use by another spillway: stop that one, or choose another folder with --store", c.Store)
	case err != nil:
		return "", nil, fmt.Errorf("%w; choose another folder with --store if the store is the trouble", err)
	}
	return s.URL(), s.Stop, nil
}

// parseSync reads --sync; 0 means always.
func parseSync(text string) (time.Duration, error) {
	if text == "always" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Millisecond {
		return 0, exit(exitUsage, "--sync is always or a duration like 1s, not %q", text)
	}
	return d, nil
}
