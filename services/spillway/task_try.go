package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"

	"spillway/pkg/bundle"
	"spillway/pkg/fakellm"
	"spillway/pkg/schema"
	"spillway/pkg/task"
)

// taskTryCmd makes real calls for a task, without a broker.
type taskTryCmd struct {
	natsFlags
	schemasFlag
	Name  string `arg:"" help:"Name of the task."`
	Input string `arg:"" optional:"" help:"The input: JSON, @file, - for standard input, or the name of a case, whose expected output is then compared too."`

	Model    string  `env:"-" help:"Call this model; default: the task's." placeholder:"NAME"`
	Against  string  `env:"-" help:"Compare with another model, with the task in another folder of schemas, or in a version that the server of --nats has." placeholder:"MODEL|DIR|VERSION"`
	Inputs   string  `env:"-" help:"Try every line of this file, an input in JSON each, and sum up; -: standard input." placeholder:"FILE"`
	Parallel int     `help:"How many inputs of --inputs are tried at once." default:"4" placeholder:"N"`
	MaxUSD   float64 `name:"max-usd" help:"Make no call that may make all of them dearer than this, by the prices of models.yaml." default:"1" placeholder:"USD"`
	Simulate bool    `help:"Let the simulated provider answer, in the place of every model."`

	simulator *fakellm.Server
}

// Run makes the calls and shows what came of them.
func (c *taskTryCmd) Run(ctx context.Context, g *globals) error {
	if err := c.check(); err != nil {
		return err
	}
	set, err := loadTasks(c.Schemas, g.getenv)
	if err != nil {
		return err
	}
	t, err := namedTask(set, c.Name)
	if err != nil {
		return err
	}
	lines, err := c.inputs(ctx, t)
	if err != nil {
		return err
	}
	if c.Simulate {
		if c.simulator, err = fakellm.Start(fakellm.Options{Latency: simulatedLatency, Log: zerolog.Nop()}); err != nil {
			return err
		}
		defer func() { _ = c.simulator.Close() }() // it ends with the command
	}
	sides, err := c.contenders(ctx, g, set, t)
	defer func() {
		for _, side := range sides {
			side.close()
		}
	}()
	if err != nil {
		return err
	}
	r := newTries(g, c, sides, lines.inputs, lines.rejected)
	r.announce()
	if c.Inputs == "" {
		return quiet(r.runOne(ctx))
	}
	return quiet(r.runMany(ctx))
}

func (c *taskTryCmd) check() error {
	switch {
	case c.Input == "" && c.Inputs == "":
		return exit(exitUsage, "what is to be tried? give an input (JSON, @file, -, or the name of a case), or --inputs FILE")
	case c.Input != "" && c.Inputs != "":
		return exit(exitUsage, "give one input or --inputs, not both")
	case c.Parallel < 1:
		return exit(exitUsage, "--parallel is at least 1")
	case !(c.MaxUSD >= 0): // NaN too
		return exit(exitUsage, "--max-usd is not negative")
	}
	return nil
}

// tryRejected is a line of --inputs that no request may have.
type tryRejected struct {
	line int
	err  error
}

// maxTries bounds the lines of --inputs: all are read before the first call, for the price is told beforehand.
const maxTries = 100_000

// tryLines are what is to be tried, and what can not be.
type tryLines struct {
	inputs   []tryInput
	rejected []tryRejected
}

// inputs are what is to be tried: the argument, or the lines of a file.
func (c *taskTryCmd) inputs(ctx context.Context, t *task.Task) (tryLines, error) {
	if c.Inputs == "" {
		input, k, err := inputOf(ctx, t, c.Input)
		if err == nil {
			err = rejectionOf(t, input)
		}
		return tryLines{inputs: []tryInput{{input: input, k: k}}}, err
	}
	stdin := os.Stdin
	return await(ctx, func() (tryLines, error) {
		if c.Inputs == "-" {
			return c.lines(t, stdin)
		}
		in, err := os.Open(c.Inputs)
		if err != nil {
			return tryLines{}, exit(exitUsage, "--inputs: %w", err)
		}
		defer func() { _ = in.Close() }() // it was only read
		return c.lines(t, in)
	})
}

func (c *taskTryCmd) lines(t *task.Task, in io.Reader) (all tryLines, _ error) {
	for lines := newLineReader(in); ; {
		text, line, err := lines.next()
		switch n := len(all.inputs) + len(all.rejected); {
		case errors.Is(err, io.EOF) && n == 0:
			return all, exit(exitUsage, "--inputs %s has no line", c.Inputs)
		case errors.Is(err, io.EOF):
			return all, nil
		case n == maxTries:
			return all, exit(exitUsage, "--inputs %s has more than %d lines", c.Inputs, maxTries)
		case err != nil && !errors.Is(err, errLineTooLong):
			return all, fmt.Errorf("read the inputs: %w", err)
		}
		if err == nil {
			if _, err = schema.Decode(text); err == nil {
				err = rejectionOf(t, text)
			}
		}
		if err != nil {
			all.rejected = append(all.rejected, tryRejected{line, err})
			continue
		}
		all.inputs = append(all.inputs, tryInput{line: line, input: text})
	}
}

// storedVersion gets a version from the server, with this process's own providers.
func (c *taskTryCmd) storedVersion(ctx context.Context, g *globals, set *task.Set, name string) (t *task.Task, err error) {
	err = c.versions(ctx, g, func(ctx context.Context, s *bundle.Store) error {
		stored, err := s.Get(ctx, name, c.Against)
		if errors.Is(err, task.ErrNoVersion) {
			return exit(exitNotFound, "this version of %s is not stored; `spillway task ls --versions` lists those that are", name)
		}
		if err == nil {
			t, err = stored.Load(set)
		}
		return err
	})
	return t, err
}
