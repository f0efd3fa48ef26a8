package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"spillway/pkg/broker"
	"spillway/pkg/bundle"
	"spillway/pkg/job"
	"spillway/pkg/schema"
)

// versionsTimeout bounds one look or one change.
const versionsTimeout = 15 * time.Second

// errNoServer says that nothing answers where a server was looked for.
var errNoServer = errors.New("no server answers")

// versions opens the connection and does one thing to the versions of tasks.
func (f natsFlags) versions(ctx context.Context, g *globals, do func(context.Context, *bundle.Store) error) error {
	conn, err := f.connect(g, "task")
	if err != nil {
		return fmt.Errorf("%w: %w", errNoServer, err)
	}
	defer conn.Close()
	for _, stream := range []string{broker.RecordStream(broker.VersionsBucket), broker.ObjectStream(broker.TasksBucket)} {
		if err := f.lookFor(ctx, conn, stream); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, versionsTimeout)
	defer cancel()
	return quiet(unanswerable(do(ctx, bundle.NewStore(conn))))
}

// taskFlags name a task of a server.
type taskFlags struct {
	natsFlags
	Name string `arg:"" help:"Name of the task."`
}

// change finds the task's record and does one thing to it.
func (f taskFlags) change(ctx context.Context, g *globals, do func(context.Context, *bundle.Store, *bundle.Record) error) error {
	if err := checkToken("task", f.Name); err != nil {
		return err
	}
	return f.versions(ctx, g, func(ctx context.Context, s *bundle.Store) error {
		r, err := recordOf(ctx, s, f.Name)
		if err != nil {
			return err
		}
		return do(ctx, s, r)
	})
}

// recordOf reads a task's record, or says which tasks there are.
func recordOf(ctx context.Context, s *bundle.Store, name string) (*bundle.Record, error) {
	r, _, err := s.Record(ctx, name)
	if !errors.Is(err, bundle.ErrNoTask) {
		return r, err
	}
	records, err := s.Records(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(records))
	for _, other := range records {
		names = append(names, other.Task)
	}
	return nil, exit(exitNotFound, "there is no task %q here%s", name, suggest(name, names))
}

// suggest ends a message about an unknown name with what was probably meant, or what there is.
func suggest(name string, known []string) string {
	if meant := schema.Nearest(name, known); meant != "" {
		return ": did you mean " + meant + "?"
	}
	if len(known) == 0 {
		return ""
	}
	return "; there are " + strings.Join(known, ", ")
}

// checkVersion refuses a version that a task never had, as far as its record goes back.
func checkVersion(r *bundle.Record, version string) error {
	if r.Known(version) != nil {
		return nil
	}
	known := make([]string, 0, len(r.Versions))
	for _, v := range r.Versions {
		known = append(known, v.Version)
	}
	return exit(exitNotFound, "version %q of task %s is not kept%s", job.Cut(version, 64), r.Task, suggest(version, known))
}

// tell prints what was done to a task.
func (g *globals) tell(event, task, text string, more map[string]any) error {
	if !g.cli.JSON {
		_, err := fmt.Fprintf(g.stdout, "%s: %s\n", task, oneLine(text))
		return err
	}
	row := map[string]any{"event": event, "task": task, "message": text}
	maps.Copy(row, more)
	return g.printJSON(row)
}
