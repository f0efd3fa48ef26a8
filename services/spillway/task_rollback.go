package main

import (
	"context"
	"fmt"

	"spillway/pkg/bundle"
	"spillway/pkg/job"
)

// taskRollbackCmd goes back to an earlier version.
type taskRollbackCmd struct {
	taskFlags
	To     string `env:"-" help:"The version to go back to; without it the one before, that no rollback left." placeholder:"VERSION"`
	By     string `env:"-" help:"Who does it; default: this user on this machine." placeholder:"NAME"`
	DryRun bool   `env:"-" help:"Show what would be done, and do nothing."`
}

// Run makes the version live, on all processes.
func (c *taskRollbackCmd) Run(ctx context.Context, g *globals) error {
	return c.change(ctx, g, func(ctx context.Context, s *bundle.Store, r *bundle.Record) error {
		if c.To != "" {
			if err := checkVersion(r, c.To); err != nil {
				return err
			}
		}
		if c.DryRun {
			return c.preview(g, r)
		}
		from, now, err := s.Rollback(ctx, c.Name, c.To, whoever(c.By))
		if err != nil {
			return err
		}
		return g.tell("rolled_back", c.Name, fmt.Sprintf("%s -> %s is live, jobs in flight end under the version that admitted them", orNone(from), now), map[string]any{"from": from, "to": now})
	})
}

func (c *taskRollbackCmd) preview(g *globals, r *bundle.Record) error {
	to := c.To
	if to == "" {
		before := r.Before()
		if before == nil {
			return exit(exitFailed, "task %s has no earlier version to go back to", c.Name)
		}
		to = before.Version
	}
	if to == r.Live {
		return exit(exitFailed, "version %s of task %s is live already", to, c.Name)
	}
	return g.tell("would_roll_back", c.Name, fmt.Sprintf("%s -> %s would be live", orNone(r.Live), to), map[string]any{"from": r.Live, "to": to})
}

// whoever is who changes a task: as he says, or as far as this machine knows.
func whoever(by string) string {
	if by == "" {
		return operator()
	}
	return job.Cut(by, 64)
}

// taskPauseCmd lets a task take no requests.
type taskPauseCmd struct {
	taskFlags
	Why string `env:"-" required:"" help:"The reason: whoever sends a request is told." placeholder:"TEXT"`
	By  string `env:"-" help:"Who does it; default: this user on this machine." placeholder:"NAME"`
}

// Run pauses the task at all doors.
func (c *taskPauseCmd) Run(ctx context.Context, g *globals) error {
	return c.change(ctx, g, func(ctx context.Context, s *bundle.Store, r *bundle.Record) error {
		if p := r.Paused; p != nil {
			return exit(exitFailed, "task %s is paused already, by %s since %s: %s", c.Name, p.By, p.Since.Format(timeFormat), p.Why)
		}
		by := whoever(c.By)
		if err := s.Pause(ctx, c.Name, by, job.Cut(c.Why, job.MaxDetail)); err != nil {
			return err
		}
		return g.tell("paused", c.Name, "paused: new requests are refused with task_paused, jobs in flight and replays go on", map[string]any{"by": by, "why": c.Why})
	})
}

// timeFormat is a moment for a person.
const timeFormat = "2006-01-02 15:04:05 MST"

// taskResumeCmd lets it take them again.
type taskResumeCmd struct {
	taskFlags
	By string `env:"-" help:"Who does it; default: this user on this machine." placeholder:"NAME"`
}

// Run ends the pause.
func (c *taskResumeCmd) Run(ctx context.Context, g *globals) error {
	return c.change(ctx, g, func(ctx context.Context, s *bundle.Store, r *bundle.Record) error {
		if r.Paused == nil {
			return g.tell("resumed", c.Name, "it was not paused", nil)
		}
		if err := s.Resume(ctx, c.Name, whoever(c.By)); err != nil {
			return err
		}
		return g.tell("resumed", c.Name, "takes requests again", nil)
	})
}

// taskRmCmd takes a task out.
type taskRmCmd struct {
	taskFlags
	By  string `env:"-" help:"Who does it; default: this user on this machine." placeholder:"NAME"`
	Yes bool   `env:"-" help:"Do it without asking back."`
}

// Run makes the task unknown to new requests.
func (c *taskRmCmd) Run(ctx context.Context, g *globals) error {
	return c.change(ctx, g, func(ctx context.Context, s *bundle.Store, r *bundle.Record) error {
		switch {
		case r.Live == "":
			return g.tell("taken_out", c.Name, "it was taken out before", nil)
		case !c.Yes:
			return exit(exitUsage, "that would make %s an unknown task for all new requests: say --yes (`spillway task pause` refuses them for a while)", c.Name)
		}
		if err := s.Remove(ctx, c.Name, whoever(c.By)); err != nil {
			return err
		}
		return g.tell("taken_out", c.Name, "taken out: new requests are of an unknown task, jobs in flight end; `spillway task rollback "+c.Name+" --to "+r.Live+"` brings it back", map[string]any{"was": r.Live})
	})
}
