package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"spillway/pkg/broker"
	"spillway/pkg/stage"
)

// DoorOptions are what Doors takes besides the usual ones: Jobs are posted, at Rate.
type DoorOptions struct {
	Options
	// Door is the command line that runs a door alone; --nats and --schemas are added. It logs {"http":ADDRESS} to
	// standard error when it is ready. Clients is that of its clients: it calls DoorClients.
	Door, Clients []string
	// Stopped is a stage that does not run until all is posted, and all clients are there; "": all run.
	Stopped string
	// Crowd are the clients of each kind, streams and polls, each of which waits for a job of its own; 0: none.
	Crowd int
}

// The phases of Doors.
const (
	PhasePosts   = "POSTs"
	PhaseResults = "results"
)

func (o *DoorOptions) validate() error {
	bad := []error{o.Options.validate(), o.validateInFlight()}
	if o.Rate <= 0 {
		bad = append(bad, errors.New("the rate is above zero"))
	}
	if o.Stopped != "" && !slices.ContainsFunc(o.Stages, func(d stage.Definition) bool { return d.Name == o.Stopped }) {
		bad = append(bad, fmt.Errorf("there is no stage %q", o.Stopped))
	}
	if o.Crowd < 0 || 2*o.Crowd > MaxInFlight {
		bad = append(bad, fmt.Errorf("clients of each kind are at most %d, not %d", MaxInFlight/2, o.Crowd))
	}
	if o.Crowd > 0 && 2*o.Crowd != o.Jobs {
		bad = append(bad, errors.New("each client waits for a job of its own"))
	}
	return errors.Join(append(bad, enoughFiles(2*o.Crowd))...)
}

// Doors posts requests to an HTTP door at a steady rate, whatever becomes of the earlier ones, and compares the
// time of the 202 with that of a bare publish: of one at the same time, and of one before anybody posted. The door, its clients and the provider are processes of their own.
func Doors(ctx context.Context, o DoorOptions) (*DoorsReport, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.Log = quietAfter(ctx, o.Log)
	o.without = o.Stopped
	b := &bench{Options: o.Options, limits: stage.DefaultLimits()}
	r := &DoorsReport{
		Posts: o.Jobs, BodyBytes: o.PromptBytes, Rate: o.Rate, Cores: runtime.GOMAXPROCS(0), ModelMS: milliseconds(o.ModelLatency),
		Sync: syncText(o.Sync), Stopped: o.Stopped,
	}
	r.Checks.OwnBy = "nonce"
	return r, b.withChild(ctx, func(provider *child) error {
		return b.onServer(func(url string) error { return b.doors(ctx, url, provider, &o, r) })
	})
}

// doors measures beside an empty server.
func (b *bench) doors(ctx context.Context, url string, provider *child, o *DoorOptions, r *DoorsReport) (err error) {
	set, err := b.tasks(provider.url)
	if err != nil {
		return err
	}
	w, err := b.workload(set, b.Jobs)
	if err != nil {
		return err
	}
	p, err := startPipeline(ctx, url, provider.url, set, b.limits, &b.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := makeBareStream(ctx, p.conn, b.Stages); err != nil {
		return err
	}
	door, err := b.startDoor(ctx, url, provider.url, o.Door)
	if err != nil {
		return err
	}
	defer door.end()
	way := wayOf(w, b.Stages, true)
	way.number = func(m *nats.Msg) int { return numberGiven(m.Data) } // the ids are the door's
	e, err := listen(url, &way, 0, b.Jobs, &b.Options)
	if err != nil {
		return err
	}
	defer e.close()
	c, err := startClients(ctx, o.Clients, &doorSpec{
		Door: "http://" + door.address, NATS: url, Run: w.run, Bytes: b.PromptBytes, Jobs: b.Jobs, Rate: b.Rate, Crowd: o.Crowd,
	})
	if err != nil {
		return err
	}
	defer c.end()
	if err := b.throughDoor(ctx, p, door, c, e, o, r, provider); err != nil {
		return err
	}
	counts, err := provider.counts(ctx)
	if err != nil {
		return err
	}
	r.Checks.count(counts, w, 0, 0)
	return nil
}

// numberGiven reads the number of a job out of the metadata that its result gives back; -1: it is none of the bench.
func numberGiven(result []byte) int {
	_, rest, _ := bytes.Cut(result, []byte(`"metadata":{"bench":`))
	number, _, _ := bytes.Cut(rest, []byte("}"))
	n, err := strconv.Atoi(string(number))
	if err != nil {
		return -1
	}
	return n
}

// throughDoor follows the clients from their first post to the last result.
func (b *bench) throughDoor(ctx context.Context, p *pipeline, door *doorProcess, c *clients, e *ear, o *DoorOptions, r *DoorsReport, provider *child) error {
	quiet, err := c.quiet()
	if err != nil {
		return err
	}
	memory := door.watch(ctx)
	cpu := watchCPU(map[string]int{"door": door.cmd.Process.Pid, "clients": c.cmd.Process.Pid, "provider": provider.cmd.Process.Pid, "server and stages": os.Getpid()})
	posted, err := c.posted(func(done int) { b.progress(PhasePosts, done, b.Jobs) })
	r.CPUSeconds = cpu()
	r.Memory = memory()
	if err != nil {
		return err
	}
	r.take(quiet, posted)
	if o.Crowd > 0 {
		if r.Clients, err = b.crowd(ctx, p, door, c, o.Crowd); err != nil {
			return err
		}
	}
	began := time.Now()
	if o.Stopped != "" {
		if err := p.resume(); err != nil {
			return err
		}
	}
	told := e.tell(func(done int) { b.progress(PhaseResults, done, b.Jobs) })
	err = e.wait(ctx)
	told()
	if err != nil {
		return err
	}
	r.ResultsAfter = time.Since(began).Seconds()
	if o.Crowd > 0 {
		if err := c.told(r.Clients); err != nil {
			return err
		}
	}
	r.Checks = e.checks()
	r.Checks.OwnBy = "nonce"
	return nil
}

// crowd lets the clients wait at the door, and looks at what they take there.
func (b *bench) crowd(ctx context.Context, p *pipeline, door *doorProcess, c *clients, each int) (*DoorCrowd, error) {
	before, err := door.footprint(ctx)
	if err != nil {
		return nil, err
	}
	consumers, err := consumersOf(ctx, p.conn)
	if err != nil {
		return nil, err
	}
	if err := c.gather(); err != nil {
		return nil, err
	}
	all, err := door.footprint(ctx)
	if err != nil {
		return nil, err
	}
	now, err := consumersOf(ctx, p.conn)
	if err != nil {
		return nil, err
	}
	n := 2 * each
	return &DoorCrowd{
		Streams: each, Polls: each, Consumers: now - consumers,
		Resident: growthOf(before.resident, all.resident, n), Live: growthOf(before.live, all.live, n),
	}, nil
}

// consumersOf counts the consumers of what doors listen to.
func consumersOf(ctx context.Context, conn *broker.Conn) (int, error) {
	n := 0
	for _, name := range []string{broker.ResultsStream, broker.DeltasStream} {
		s, err := conn.JS.Stream(ctx, name)
		if err != nil {
			return 0, fmt.Errorf("look at %s: %w", name, err)
		}
		n += s.CachedInfo().State.Consumers
	}
	return n, nil
}

// startDoor runs a door that knows the task of the bench.
func (b *bench) startDoor(ctx context.Context, url, provider string, command []string) (*doorProcess, error) {
	dir, err := os.MkdirTemp("", "spillway-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the task: %w", err)
	}
	schemas := filepath.Join(dir, "schemas")
	err = os.CopyFS(schemas, benchFiles(provider))
	var d *doorProcess
	if err == nil {
		d, err = startDoorProcess(ctx, append(slices.Clone(command), "--nats="+url, "--schemas="+schemas))
	}
	_ = os.RemoveAll(dir) // it was read, or never will be
	return d, err
}
