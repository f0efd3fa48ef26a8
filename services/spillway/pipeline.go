package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"spillway/pkg/broker"
	"spillway/pkg/bundle"
	"spillway/pkg/fakellm"
	"spillway/pkg/stage"
	"spillway/pkg/task"
	"spillway/schemas"
	"spillway/services"
	"spillway/services/ingest/door"
)

// roleFlags are those of every process that runs stages.
type roleFlags struct {
	Schemas          string        `help:"Folder with tasks and models.yaml, read again when it changes; default: the ones built in." placeholder:"DIR" type:"path"`
	Simulate         bool          `help:"Answer all calls with the simulated provider. Results say so."`
	Grace            time.Duration `help:"How long a leaving process finishes what it holds." default:"45s"`
	AdmitInteractive int           `help:"Admitted but unfinished jobs above which no interactive request is taken." default:"20000"`
	AdmitBatch       int           `help:"The same for the batch lane." default:"10000"`

	// ownServer: nobody else works on the server, so what is live is what is in the files.
	ownServer bool
	// tell is told what becomes of the files; nil: the log is.
	tell func(filesEvent)
}

func (f roleFlags) limits() stage.Limits {
	l := stage.DefaultLimits()
	l.Interactive, l.Batch = f.AdmitInteractive, f.AdmitBatch
	return l
}

// loadTasks reads the schemas folder, the built-in one without --schemas.
func loadTasks(dir string, getenv func(string) string) (*task.Set, error) {
	folder, err := folderOf(dir)
	if err != nil {
		return nil, err
	}
	set, err := task.Load(folder, getenv)
	if err != nil {
		return nil, fmt.Errorf("the task files have faults (`spillway task check` lists them too):\n%w", err)
	}
	return set, nil
}

// folderOf is the folder of --schemas, or the one built in.
func folderOf(dir string) (fs.FS, error) {
	if dir == "" {
		return schemas.FS(), nil
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("--schemas %s is not a folder; it should hold models.yaml and tasks/<task>/", dir)
	}
	return os.DirFS(dir), nil
}

// process is a pipeline, or a part of it, in this process.
type process struct {
	env       *stage.Env
	registry  *prometheus.Registry
	simulator *fakellm.Server
	grace     time.Duration
	keeper    *bundle.Keeper
	files     *taskFiles
	// changed asks for a look at what the stages are made of.
	changed chan struct{}
	begun   sync.Once
	// places bounds the stages that take over or finish.
	places chan struct{}

	mu       sync.Mutex
	at       []*working
	replaced []*working // finish what they hold
	// door is nil in a process without one.
	door *door.Door
}

// newProcess prepares the named stages; all of the pipeline without names, which an empty list of them is not.
func newProcess(conn *broker.Conn, tasks *task.Set, f roleFlags, getenv func(string) string, log zerolog.Logger, names ...string) (*process, error) {
	p := &process{registry: newRegistry(), grace: f.Grace, changed: make(chan struct{}, 1), places: make(chan struct{}, maxReplaced)}
	p.env = &stage.Env{
		Conn: conn, Tasks: tasks, Log: log, Metrics: p.registry, Getenv: getenv, Limits: f.limits(),
	}
	if f.Simulate {
		s, err := fakellm.Start(fakellm.Options{Latency: simulatedLatency, Log: log})
		if err != nil {
			return nil, fmt.Errorf("start the simulated provider: %w", err)
		}
		p.simulator = s
		p.env.SimulatorURL, p.env.Tasks = s.URL(), tasks.Simulated()
	}
	if names == nil {
		for _, d := range services.Pipeline() {
			names = append(names, d.Name)
		}
	}
	if err := errors.Join(p.follow(f, names), p.prepare(names)); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// follow makes what keeps the tasks as they are live. It looks at nothing yet.
func (p *process) follow(f roleFlags, names []string) (err error) {
	p.env.Versions = task.NewBook(p.env.Tasks)
	p.keeper, err = bundle.NewKeeper(bundle.Options{
		Conn: p.env.Conn, Book: p.env.Versions, Own: p.env.Tasks, Simulate: f.Simulate, Changed: p.look, Log: p.env.Log, Metrics: p.registry,
	})
	if err != nil {
		return err
	}
	p.files, err = newTaskFiles(p, f, names)
	return err
}

// simulatedLatency is that of a small, quick model.
var simulatedLatency = fakellm.Latency{FirstToken: 60 * time.Millisecond, PerToken: 200 * time.Microsecond}

const (
	// drainDoor bounds how long requests under way at the door have to be answered. It is longer than the desk takes.
	drainDoor = 10 * time.Second
	// beginTimeout bounds the wait for what is live, before the process goes on with its files.
	beginTimeout = 15 * time.Second
)

// begin stores the versions of the task files and looks which are live, once. Without the broker's answer the process
// begins with its files; it is not ready then.
func (p *process) begin(ctx context.Context) {
	p.begun.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, beginTimeout)
		defer cancel()
		err := p.keeper.Look(ctx)
		if err == nil && p.files.begin(ctx) {
			err = p.keeper.Look(ctx)
		}
		if err != nil && ctx.Err() == nil {
			p.env.Log.Warn().Err(err).Msg("which versions of the tasks are live is not known yet, beginning with the files")
		}
	})
}

// run runs the stages until ctx ends. Then the door drains, which may need the stages still; then they do, all
// together.
func (p *process) run(ctx context.Context) error {
	if err := p.env.Conn.WatchCancels(ctx); err != nil {
		return err
	}
	p.begin(ctx)
	group, working := errgroup.WithContext(context.WithoutCancel(ctx))
	working, stop := context.WithCancel(working)
	defer stop()
	p.start(working, group)
	group.Go(func() error { return p.keeper.Run(working) })
	group.Go(func() error { p.files.run(working); return nil })
	group.Go(func() error {
		select {
		case <-ctx.Done():
		case <-working.Done(): // a stage failed
		}
		if p.door != nil {
			draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainDoor)
			defer cancel()
			p.door.Drain(draining)
		}
		stop()
		return nil
	})
	return group.Wait()
}

func (p *process) close() {
	if p.simulator != nil {
		_ = p.simulator.Close()
	}
}

// prepareBroker looks for the streams and makes what is missing. What is there stays as it is: its replicas
// and bounds are the choice of whoever made it.
func prepareBroker(ctx context.Context, conn *broker.Conn, sizing broker.Sizing) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	topology := stage.Topology(services.Pipeline(), sizing)
	missing, err := conn.Check(ctx, topology)
	switch {
	case err != nil:
		return err
	case len(missing) == 0:
		return nil
	case conn.NC.ConnectedClusterName() != "" && sizing.Replicas <= 1:
		return fmt.Errorf("this cluster lacks %s: run `spillway broker init --replicas 3` once", missing[0])
	}
	if err := conn.Create(ctx, topology); err != nil {
		return fmt.Errorf("%w; if this user may not create streams, run `spillway broker init` as one who may", err)
	}
	return nil
}
